from .choices import Choices as Choices
from .exhibits import Section as Section
from .curves import Line as Line
from .figures import Picture as Picture
from .numbers import Format as Format
from .runs import Curve as Curve, RunResult as RunResult, TrialResult as TrialResult
from .read import read_run as read_run, read_runs as read_runs
from .selection import Criterion as Criterion
from .settings import Axis as Axis, Landscape as Landscape, Point as Point
from .statistics import (
    Difference as Difference,
    Summary as Summary,
    paired_difference as paired_difference,
    summarize as summarize,
)
from .table import Cell as Cell, CellText as CellText, Row as Row, Table as Table
from .write import (
    Report as Report,
    print_table as print_table,
    read_table as read_table,
    report as report,
    write_report as write_report,
)
