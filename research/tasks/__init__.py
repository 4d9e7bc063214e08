"""Tasks: the losses and metrics of a problem, and the mapping from a batch to a model's arguments."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
