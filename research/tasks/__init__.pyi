from .classification import Classification as Classification
from .denoising import Denoising as Denoising
from .dense_detection import DenseDetection as DenseDetection
from .detection import Detection as Detection
from .graphs import (
    GraphLabels as GraphLabels,
    GraphRegression as GraphRegression,
    LinkPrediction as LinkPrediction,
    NodeClassification as NodeClassification,
)
from .language_modeling import LanguageModeling as LanguageModeling
from .randomness import per_example as per_example
from .regression import Regression as Regression
from .samples import GuidedSamples as GuidedSamples, SamplePaths as SamplePaths, Samples as Samples
from .sequence_to_sequence import SequenceToSequence as SequenceToSequence, Texts as Texts
from .set_detection import SetDetection as SetDetection
from .shifted_classification import ShiftedClassification as ShiftedClassification
from .task import Task as Task, weighted as weighted
from .transcription import CTCTranscription as CTCTranscription, Transcription as Transcription
from .translation import Translation as Translation
