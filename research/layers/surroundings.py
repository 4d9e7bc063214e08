"""Informs norms of the program around them: the mapped axis that the batch is split over, and frozen parameters.

    with surroundings(axis_name="data", frozen=lambda path: path.startswith("backbone/")):
        model.apply(variables, x, train=True, mutable=["batch_stats"])

Inside, every batch norm in training averages over the mapped axis, and batch norms at frozen paths normalise with their
running statistics and do not update them.  This also holds for `nn.BatchNorm` in your own models, in either of Flax's
idioms: `use_running_average` passed to the constructor or to the call.  The model must be traced inside the context; a
jitted function that was traced earlier keeps its earlier behaviour.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from flax import linen as nn
from flax.linen.module import InterceptorContext


@contextlib.contextmanager
def surroundings(*, axis_name: str | None = None, frozen: Callable[[str], bool] | None = None) -> Iterator[None]:
    """Sets the surroundings of batch norms called inside.

    Args:
      axis_name: the mapped axis that the batch is split over; None if the program sees the whole batch.
      frozen: returns True for the path of a module ("stage0/norm") all of whose parameters are frozen.
    """
    if axis_name is None and frozen is None:
        yield
        return

    def intercept(call: Callable[..., Any], args: Any, kwargs: dict[str, Any], context: InterceptorContext) -> Any:
        module = context.module
        if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        x, given = _arguments(*args, **kwargs)
        running = nn.merge_param("use_running_average", module.use_running_average, given.pop("use_running_average"))
        running = running or (frozen is not None and frozen("/".join(module.path)))
        axis = module.axis_name if module.axis_name is not None or running else axis_name
        if (running, axis) == (module.use_running_average, module.axis_name):
            return call(x, **given)
        # The same module in the same scope, except for these two fields; it uses the original's variables.
        informed = module.clone(parent=module.scope, use_running_average=running, axis_name=axis)
        return informed(x, **given)

    with nn.intercept_methods(intercept):
        yield


def _arguments(x: Any, use_running_average: bool | None = None, **others: Any) -> tuple[Any, dict[str, Any]]:
    return x, {"use_running_average": use_running_average, **others}
