from .curves import Line as Line
from .figures import Picture as Picture
from .landscape import Axis as Axis, Point as Point
from .read import Curve as Curve, Run as Run, Trial as Trial, read_run as read_run, read_runs as read_runs
from .statistics import (
    Difference as Difference,
    Summary as Summary,
    paired_difference as paired_difference,
    summarize as summarize,
)
from .table import Cell as Cell, Row as Row, Table as Table
from .write import Report as Report, report as report, terminal_table as terminal_table
