"""The launcher of all experiments: `python -m launch --help`."""

from research.config.modules import import_own_package

import_own_package("experiments")  # a user's package of that name would come first in the working directory
