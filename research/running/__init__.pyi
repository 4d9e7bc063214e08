from .ahead import Ahead as Ahead
from .calls import fit as fit, run_sweep as run_sweep
from .folder import RunFolder as RunFolder
from .halving import Halving as Halving
from .lease import Lease as Lease, LeaseLost as LeaseLost
from .local import Controls as Controls
from .notebook import NotebookProgress as NotebookProgress
from .opened import Best as Best, Run as Run, open_run as open_run
from .plan import Candidate as Candidate, Group as Group, ProgramCache as ProgramCache
from .prepared import Prepared as Prepared, prepare as prepare
from .request import Request as Request
from .run import Outcome as Outcome
from .training import Program as Program, Training as Training
