"""Writing sequences token by token: greedy, sampled, by beams."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
