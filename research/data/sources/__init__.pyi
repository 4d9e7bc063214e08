from .arrays import Arrays as Arrays, InMemory as InMemory
from .classes import Classes as Classes
from .folders import ImageFolder as ImageFolder, Images as Images
from .labeled_text import LabeledText as LabeledText
from .parallel_text import SPECIAL as SPECIAL, Pairs as Pairs, ParallelText as ParallelText, TokenPairs as TokenPairs
from .python_source import PythonSource as PythonSource
from .recall import Recall as Recall
from .scikit import Sklearn as Sklearn
from .speech import (
    LogMelFeatures as LogMelFeatures,
    Recordings as Recordings,
    Speech as Speech,
    Transcribed as Transcribed,
)
from .tables import Boolean as Boolean, Category as Category, Number as Number, Table as Table
from .text import (
    Corpus as Corpus,
    Document as Document,
    JSONLines as JSONLines,
    TextFiles as TextFiles,
    Tokens as Tokens,
)
from .tfds import TFDS as TFDS, Records as Records, prepare as prepare
