from .cached import Cached as Cached, Uncached as Uncached
from .generate import batch_prompts as batch_prompts, generate as generate
from .strategies import (
    Beam as Beam,
    Generated as Generated,
    Generation as Generation,
    Greedy as Greedy,
    Sample as Sample,
)
