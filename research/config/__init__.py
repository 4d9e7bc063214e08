"""How values are checked, changed by dotted path, and written to JSON."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
