from .callbacks import Callback as Callback, Callbacks as Callbacks, as_callbacks as as_callbacks
from .checkpoint_records import CheckpointRecords as CheckpointRecords
from .checkpoints import Checkpoints as Checkpoints, CorruptCheckpoint as CorruptCheckpoint, Store as Store
from .clock import Clock as Clock
from .early_stopping import EarlyStopping as EarlyStopping
from .evaluate import Evaluations as Evaluations, evaluate as evaluate, outputs_of as outputs_of
from .events import Every as Every, Save as Save
from .folder import (
    Saved as Saved,
    read_experiment as read_experiment,
    read_saved as read_saved,
    read_variables as read_variables,
    trial_folder as trial_folder,
)
from .loggers import MLflow as MLflow, TensorBoard as TensorBoard, WandB as WandB
from .loop import Interrupted as Interrupted, Look as Look, train as train
from .pending import Call as Call, PendingMetrics as PendingMetrics, StepMetrics as StepMetrics
from .programs import EvalKey as EvalKey, make_programs as make_programs
from .progress import Progress as Progress, TextProgress as TextProgress, TimeLeft as TimeLeft
from .records import MetricsLog as MetricsLog, read_json as read_json
from .side_by_side import SideBySide as SideBySide
from .slots import Slot as Slot, Slots as Slots
from .state import TrainState as TrainState
from .step import make_eval_step as make_eval_step, make_init as make_init, make_train_step as make_train_step
from .transfer import initial_parameters as initial_parameters
from .trial import Trial as Trial
from .flops import flops_of as flops_of, model_flops as model_flops, step_flops as step_flops
from .utilization import Work as Work, work_of as work_of
