from . import (
    config as config,
    console as console,
    data as data,
    decoding as decoding,
    detection as detection,
    errors as errors,
    evaluation as evaluation,
    generated_code as generated_code,
    inference as inference,
    layers as layers,
    listing as listing,
    locations as locations,
    losses as losses,
    metrics as metrics,
    models as models,
    optimizers as optimizers,
    parallel as parallel,
    parameters as parameters,
    paths as paths,
    pretrained as pretrained,
    report as report,
    running as running,
    schedules as schedules,
    sweep as sweep,
    tasks as tasks,
    training as training,
    whole_files as whole_files,
)
from .config.override import override as override
from .errors import RequestError as RequestError
from .evaluation.evaluations import Evaluation as Evaluation
from .experiment import Experiment as Experiment
from .parallel.spec import Parallel as Parallel
from .training.callbacks import Callback as Callback
from .training.checkpoints import Checkpoints as Checkpoints
from .training.early_stopping import EarlyStopping as EarlyStopping
from .training.loggers import MLflow as MLflow, TensorBoard as TensorBoard, WandB as WandB
from .training.progress import Progress as Progress
from .running.calls import fit as fit, run_sweep as run_sweep
from .running.opened import Run as Run, open_run as open_run
from .sweep import ablation as ablation, chain as chain, grid as grid, product as product, zipped as zipped
