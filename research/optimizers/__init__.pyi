from .elementwise import SGD as SGD, Adam as Adam, AdamW as AdamW, Lion as Lion, RMSprop as RMSprop
from .layerwise import STACKED as STACKED, Adafactor as Adafactor, Lamb as Lamb, Layerwise as Layerwise
from .muon import MATRICES as MATRICES, Muon as Muon
from .optax_rules import Optax as Optax, Rule as Rule, rule as rule
from .optimizer import NO_DECAY as NO_DECAY, Optimizer as Optimizer, layer_decay as layer_decay
