"""Evaluates programs written by a model: problems, a sandbox, pass@k."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
