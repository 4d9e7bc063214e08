"""Random augmentation of training examples, inside the compiled program, with one key per example."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
