"""Tasks: losses, metrics, and how a batch becomes the arguments of a model."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
