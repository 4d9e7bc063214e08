"""Metrics of a split, and what is inside a model."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
