"""The base of the models here: a wrong field is refused where the model is first called, whoever calls it."""

from __future__ import annotations

from flax import linen as nn

from research.config.checks import check_types


class Model(nn.Module):
    """A Linen module that holds its fields against their types in `init` and `apply`, before it computes anything.

    Without this, a misspelled choice would be none: no norm, no pooling, some other branch.
    """

    def check(self) -> None:
        """Raises RequestError for a field that cannot be meant; a model with more to say begins with this one."""
        check_types(self)

    def setup(self) -> None:
        self.check()
