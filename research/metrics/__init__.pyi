from .calibration import (
    Bins as Bins,
    expected_calibration_error as expected_calibration_error,
    reliability as reliability,
)
from .directions import Direction as Direction, direction as direction, is_better as is_better
from .generation import (
    frechet_distance as frechet_distance,
    nearest as nearest,
    precision_recall as precision_recall,
)
from .ranking import is_first as is_first, rank as rank
