"""Checks values, changes them by dotted path, and writes them to JSON."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
