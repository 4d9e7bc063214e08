"""Uses trained models: predicts, generates text, translates, transcribes and draws images.

from research.inference import draw, generate, load, transcribe, translate

load("runs/digits_mlp/base").predict(images)["label"]
generate(load("runs/shakespeare_gpt/base"), "ROMEO:")
draw(load("runs/digits_diffusion/base"), label=7, number=16)
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
