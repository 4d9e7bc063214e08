"""Everything an experiment is written with, each part imported when it is first used.

from research import Experiment, data, models, optimizers, schedules, sweep, tasks
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
