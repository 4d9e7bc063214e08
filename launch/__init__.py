"""The one launcher: `python -m launch --help`."""
