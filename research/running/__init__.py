"""Trains a sweep into a folder, and uses the folder afterwards.

from research import fit, grid, open_run, run_sweep
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
