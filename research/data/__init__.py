"""Data sets, and the path from files to batches: `data.Sklearn`, `data.Scale`, `data.augment.RandomCrop`."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
