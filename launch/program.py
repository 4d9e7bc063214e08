"""The command line as it was typed."""

from __future__ import annotations

import pathlib
import shlex
import sys

INSTALLED = "espalier"
"""The name of the installed command."""


def program() -> str:
    """The name by which this command was started: `espalier` or `python -m launch`."""
    return INSTALLED if pathlib.Path(sys.argv[0]).name == INSTALLED else "python -m launch"


def command() -> str:
    """The whole command line."""
    return f"{program()} {shlex.join(sys.argv[1:])}"
