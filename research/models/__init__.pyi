from . import convnext_roadmap as convnext_roadmap
from .convnext import ConvNeXt as ConvNeXt, convnext as convnext
from .convnext_roadmap import ConvNeXtRoadmap as ConvNeXtRoadmap
from .ctc import CTC as CTC
from .decoder_only import DecoderOnly as DecoderOnly
from .detr import DETR as DETR, MLPHead as MLPHead, detr as detr
from .dit import DiT as DiT, dit as dit
from .efficientnet import EfficientNet as EfficientNet, Stage as Stage, efficientnet as efficientnet
from .encoder_decoder import EncoderDecoder as EncoderDecoder
from .gnn import GAT as GAT, GCN as GCN, GIN as GIN, GraphNetwork as GraphNetwork, GraphSAGE as GraphSAGE
from .gpt import GPT as GPT, gpt2 as gpt2
from .llama import Llama as Llama, llama as llama
from .mlp import MLP as MLP
from .model import Model as Model
from .mpnn import MPNN as MPNN
from .ngram import NGram as NGram
from .resnet import ResNet as ResNet, cifar_resnet as cifar_resnet, resnet as resnet
from .rnn import RNNClassifier as RNNClassifier, RNNLanguageModel as RNNLanguageModel
from .seq2seq_rnn import Decoder as Decoder, Encoder as Encoder, Seq2SeqRNN as Seq2SeqRNN
from .simple_cnn import SimpleCNN as SimpleCNN
from .transformer import Transformer as Transformer, translation as translation
from .unet import UNet as UNet, unet as unet
from .vit import ViT as ViT, vit as vit
from .whisper import SpeechEncoder as SpeechEncoder, Whisper as Whisper, whisper as whisper
from .yolos import YOLOS as YOLOS, yolos as yolos
from .yolox import CSP as CSP, Separable as Separable, Unit as Unit, YOLOX as YOLOX, yolox as yolox
