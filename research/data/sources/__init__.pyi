from .arrays import Arrays as Arrays, InMemory as InMemory
from .classes import Classes as Classes
from .edge_list import EdgeList as EdgeList
from .folders import ImageFolder as ImageFolder, Images as Images
from .graph_pairs import GraphPairs as GraphPairs
from .labeled_text import LabeledText as LabeledText
from .molecules import Molecules as Molecules
from .parallel_text import Pairs as Pairs, ParallelText as ParallelText, SPECIAL as SPECIAL, TokenPairs as TokenPairs
from .planetoid import Planetoid as Planetoid
from .python_source import PythonSource as PythonSource
from .recall import Recall as Recall
from .scikit import Sklearn as Sklearn
from .shapes import Shapes as Shapes
from .speech import (
    LogMelFeatures as LogMelFeatures,
    Recordings as Recordings,
    Speech as Speech,
    Transcribed as Transcribed,
)
from .table_columns import Boolean as Boolean, Category as Category, Number as Number
from .tables import Table as Table
from .text import (
    Corpus as Corpus,
    Document as Document,
    JSONLines as JSONLines,
    TextFiles as TextFiles,
    Tokens as Tokens,
)
from .tfds import Records as Records, TFDS as TFDS
from .tfds_prepare import prepare as prepare
from .archives import Files as Files
from .box_images import Annotated as Annotated, BoxImages as BoxImages, Object as Object, Pictures as Pictures
from .coco import COCO as COCO
from .scattered_digits import ScatteredDigits as ScatteredDigits
from .voc import VOC as VOC
