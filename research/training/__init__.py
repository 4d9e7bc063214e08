"""Training from the first step to the last checkpoint."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
