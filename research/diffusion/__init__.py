"""Diffusion apart from the model: processes that turn images into noise, and samplers that go back.

from research.diffusion import DDIM, Diffusion, sample

images = sample(lambda x, time: model.apply(variables, x, time), Diffusion(), DDIM(steps=50), keys, (32, 32, 3))
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
