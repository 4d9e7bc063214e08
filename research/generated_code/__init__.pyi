from .functions import Copies as Copies, Judged as Judged, judge as judge
from .pass_at_k import evaluate as evaluate, pass_at_k as pass_at_k
from .problems import Problem as Problem, read_problems as read_problems
from .sandbox import Ended as Ended, Limits as Limits, run as run
