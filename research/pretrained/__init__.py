"""Reads published weights (safetensors) into our parameters, and writes them back."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
