"""Layouts of arrays over devices, and the programs that run on them."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
