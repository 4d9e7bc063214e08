from .calibration import (
    Bins as Bins,
    expected_calibration_error as expected_calibration_error,
    reliability as reliability,
)
from .directions import Direction as Direction, direction as direction, is_better as is_better
from .ranking import is_first as is_first, rank as rank
