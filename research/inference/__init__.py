"""Using what was trained.

from research.inference import load

predict = load("runs/digits_mlp/base").predict
predict(images)["label"]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "predictor": ["Predictor", "load", "load_text_model", "read_experiment", "read_variables", "trial_folder"],
        "text": ["TextModel"],
    },
)
