"""Generates sequences token by token: greedily, by sampling or by beam search.

from research.decoding import Beam, Generation, generate

generated = generate(model, variables, prompt, Generation(strategy=Beam(4), max_new_tokens=50))
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
