"""Evaluations, exhibits and interpretability."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
