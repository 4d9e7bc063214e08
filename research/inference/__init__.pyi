from .predictor import (
    Predictor as Predictor,
    load as load,
    load_text_model as load_text_model,
    read_experiment as read_experiment,
    read_variables as read_variables,
    trial_folder as trial_folder,
)
from .text import TextModel as TextModel
