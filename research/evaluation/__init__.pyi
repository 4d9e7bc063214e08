from .evaluations import evaluate as evaluate, split_outputs as split_outputs
from .interpretability import (
    activations as activations,
    attention_maps as attention_maps,
    attention_rollout as attention_rollout,
    convolution_kernels as convolution_kernels,
    feature_maps as feature_maps,
    filters as filters,
    saliency as saliency,
)
