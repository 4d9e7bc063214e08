from .evaluations import Evaluation as Evaluation
from .exhibit_files import Saved as Saved, read_exhibits as read_exhibits, write_exhibits as write_exhibits
from .exhibits import (
    Boxes as Boxes,
    ConfusionMatrix as ConfusionMatrix,
    Curves as Curves,
    Exhibit as Exhibit,
    ImageGrid as ImageGrid,
    ImagePairs as ImagePairs,
    Images as Images,
    Reliability as Reliability,
    TextPairs as TextPairs,
)
from .interpretability import (
    activations as activations,
    attention_maps as attention_maps,
    attention_rollout as attention_rollout,
    convolution_kernels as convolution_kernels,
    feature_maps as feature_maps,
    filters as filters,
    saliency as saliency,
)
