from .activations import activation as activation
from .attention import MultiHeadAttention as MultiHeadAttention
from .attention_kernels import attention_weights as attention_weights, dot_product_attention as dot_product_attention
from .conv import conv as conv
from .convolve import Kernels as Kernels, convolve as convolve
from .dense import dense as dense
from .depthwise import depthwise as depthwise
from .embeddings import token_embedding as token_embedding
from .fields import Fields as Fields
from .graphs import Graphs as Graphs, graphs_of as graphs_of
from .kernels import Need as Need
from .log_mel import LogMel as LogMel
from .masks import causal_mask as causal_mask, padding_mask as padding_mask, segment_mask as segment_mask
from .message_passing import (
    EdgeNetwork as EdgeNetwork,
    GraphAttention as GraphAttention,
    GraphConvolution as GraphConvolution,
    Isomorphism as Isomorphism,
    SampleAndAggregate as SampleAndAggregate,
)
from .neighbourhoods import (
    Neighbourhoods as Neighbourhoods,
    sample_neighbourhoods as sample_neighbourhoods,
    sampled_inputs as sampled_inputs,
)
from .norms import (
    BatchNorm as BatchNorm,
    FrozenBatchNorm as FrozenBatchNorm,
    batch_norm as batch_norm,
    group_norm as group_norm,
    layer_norm as layer_norm,
)
from .pooling import max_pool as max_pool
from .positions import Llama3Scaling as Llama3Scaling, Rotary as Rotary, sinusoidal as sinusoidal
from .positions2d import sincos_2d as sincos_2d, sincos_of_mask as sincos_of_mask
from .readouts import Readout as Readout
from .recurrent import Direction as Direction, Recurrent as Recurrent
from .segments import (
    segment_max as segment_max,
    segment_mean as segment_mean,
    segment_softmax as segment_softmax,
    segment_sum as segment_sum,
)
from .sparse import Linear as Linear, SparseFeatures as SparseFeatures
from .stack import stack as stack
from .stochastic_depth import StochasticDepth as StochasticDepth
from .time_embedding import TimeEmbedding as TimeEmbedding
from .transformer import Block as Block, TransformerStack as TransformerStack
from .window import Window as Window
