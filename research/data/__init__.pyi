from . import augment as augment, sources as sources, text as text
from .buckets import Padded as Padded
from .feed import (
    Batches as Batches,
    Feed as Feed,
    WorkerBatches as WorkerBatches,
    evaluation_batches as evaluation_batches,
    make_feed as make_feed,
    take as take,
)
from .feeds import Feeds as Feeds, make_feeds as make_feeds
from .graphs import (
    Graph as Graph,
    GraphData as GraphData,
    GraphList as GraphList,
    GraphRows as GraphRows,
    RowShape as RowShape,
)
from .images import ImageShape as ImageShape
from .letterbox import Fitted as Fitted, letterbox as letterbox
from .order import Bucketed as Bucketed, InOrder as InOrder, Plan as Plan, Shuffled as Shuffled
from .source import (
    Columns as Columns,
    Decoded as Decoded,
    Source as Source,
    Subset as Subset,
    materialize as materialize,
    subset as subset,
)
from .sources.archives import Files as Files
from .sources.arrays import Arrays as Arrays, InMemory as InMemory
from .sources.box_images import (
    Annotated as Annotated,
    BoxImages as BoxImages,
    Object as Object,
    Pictures as Pictures,
)
from .sources.classes import Classes as Classes
from .sources.coco import COCO as COCO
from .sources.edge_list import EdgeList as EdgeList
from .sources.folders import ImageFolder as ImageFolder, Images as Images
from .sources.graph_pairs import GraphPairs as GraphPairs
from .sources.labeled_text import LabeledText as LabeledText
from .sources.molecules import Molecules as Molecules
from .sources.parallel_text import (
    Pairs as Pairs,
    ParallelText as ParallelText,
    SPECIAL as SPECIAL,
    TokenPairs as TokenPairs,
)
from .sources.planetoid import Planetoid as Planetoid
from .sources.python_source import PythonSource as PythonSource
from .sources.recall import Recall as Recall
from .sources.scattered_digits import ScatteredDigits as ScatteredDigits
from .sources.scikit import Sklearn as Sklearn
from .sources.shapes import Shapes as Shapes
from .sources.speech import (
    LogMelFeatures as LogMelFeatures,
    Recordings as Recordings,
    Speech as Speech,
    Transcribed as Transcribed,
)
from .sources.table_columns import Boolean as Boolean, Category as Category, Number as Number
from .sources.tables import Table as Table
from .sources.text import (
    Corpus as Corpus,
    Document as Document,
    JSONLines as JSONLines,
    TextFiles as TextFiles,
    Tokens as Tokens,
)
from .sources.tfds import Records as Records, TFDS as TFDS
from .sources.voc import VOC as VOC
from .spec import Data as Data, Splits as Splits
from .split import hold_out as hold_out
from .transforms import (
    Cast as Cast,
    CenterCrop as CenterCrop,
    OneHot as OneHot,
    Scale as Scale,
    Standardize as Standardize,
    Transform as Transform,
    fit_transforms as fit_transforms,
    preprocess as preprocess,
)
from .windows import Windows as Windows
from .worker_processes import ReadAhead as ReadAhead
