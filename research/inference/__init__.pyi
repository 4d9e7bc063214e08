from .detection import Found as Found, detect as detect, draw_boxes as draw_boxes
from .features import features as features
from .images import draw as draw
from .load import load as load
from .molecules import Importance as Importance, importance as importance
from .predictor import Predictor as Predictor
from .quality import SampleQuality as SampleQuality
from .speech import transcribe as transcribe
from .text import (
    TextModel as TextModel,
    from_pretrained as from_pretrained,
    generate as generate,
    load_text_model as load_text_model,
    text_model as text_model,
)
from .translation import translate as translate
