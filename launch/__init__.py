"""The launcher of all experiments: `python -m launch --help`."""
