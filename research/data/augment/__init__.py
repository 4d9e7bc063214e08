"""Random changes to training examples, inside the program, keyed per example."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
