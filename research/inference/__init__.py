"""Uses trained models: predicts, generates text, translates and transcribes.

from research.inference import generate, load, transcribe, translate

load("runs/digits_mlp/base").predict(images)["label"]
generate(load("runs/shakespeare_gpt/base"), "ROMEO:")
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
