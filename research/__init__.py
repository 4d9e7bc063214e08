"""Everything needed to write an experiment; each part is imported on first use.

from research import Experiment, data, models, optimizers, schedules, sweep, tasks
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
