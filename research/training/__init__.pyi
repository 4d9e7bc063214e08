from .checkpoints import Checkpoints as Checkpoints, CorruptCheckpoint as CorruptCheckpoint, Store as Store
from .loop import Interrupted as Interrupted, Spent as Spent, train as train
from .progress import Progress as Progress, TextProgress as TextProgress
from .records import MetricsLog as MetricsLog, read_json as read_json
from .state import TrainState as TrainState
from .step import make_eval_step as make_eval_step, make_init as make_init, make_train_step as make_train_step
from .transfer import initial_parameters as initial_parameters
from .trial import Trial as Trial, TrialRecord as TrialRecord
