from . import preprocessing as preprocessing
from .catalog import from_config as from_config, variants as variants
from .export import export_pretrained as export_pretrained
from .family import Family as Family, Variant as Variant
from .files import Checkpoint as Checkpoint
from .fitting import FitWithin as FitWithin
from .generation_config import Decoding as Decoding
from .load import Pretrained as Pretrained, load_pretrained as load_pretrained
from .mapping import Step as Step
from .preprocessing import Preprocessing as Preprocessing
from .rules import (
    Alias as Alias,
    KeyMap as KeyMap,
    Rule as Rule,
    Tied as Tied,
    Transform as Transform,
    Unused as Unused,
)
