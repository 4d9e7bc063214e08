"""FLOPs of matrix products and convolutions, counted in a traced program.

XLA's own count takes the body of a loop once, so it would count one layer of a scanned stack; here, each scan counts as
often as it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Jaxpr, jaxprs_in_params

from research.experiment import Experiment
from research.layers import kernels
from research.training.state import TrainState
from research.training.step import make_loss, make_train_step


def model_flops(experiment: Experiment, state: TrainState, batch: Mapping[str, Any]) -> int:
    """FLOPs that a training step of the whole batch needs, whatever the program recomputes.

    They are three times those of the forward pass and the loss, since the gradients by inputs and by parameters take as
    many each.  This is the numerator of a model FLOPs utilisation (MFU; Chowdhery et al., 2022, appendix B) for every
    family; attention counts all pairs of queries and keys, whether masked or not.

    Args:
      experiment: resolved, or fit to be traced.
      state, batch: arrays or their shapes.
    """
    return 3 * flops_of(make_loss(experiment), state, batch)


def step_flops(experiment: Experiment, state: TrainState, batch: Mapping[str, Any]) -> int:
    """FLOPs of the training step as it is traced: forward, backward, and what is recomputed; arguments as above."""
    return flops_of(make_train_step(experiment), state, batch)


def flops_of(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of the matrix products and convolutions in a function, two for each multiplication with its addition.

    The bodies of loops without a known number of rounds count once, and conditionals count their longest branch.

    >>> double = lambda x: jax.lax.scan(lambda x, _: (x @ x, None), x, length=5)[0]
    >>> flops_of(double, jax.ShapeDtypeStruct((4, 4), "float32"))
    640
    """
    with kernels.targeting("cpu"):  # whose attention is written out
        return _flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops(program: Jaxpr) -> int:
    total = 0
    for equation in program.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, params["dimension_numbers"]
            products = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
            # The gradient of a strided convolution multiplies with zeros in between, which no chip needs to do.
            total += 2 * math.prod(equation.outvars[0].aval.shape) * products // math.prod(params["lhs_dilation"])
        elif name == "cond":
            total += max(_flops(branch.jaxpr) for branch in params["branches"])
        else:
            rounds = params["length"] if name == "scan" else 1
            total += rounds * sum(map(_flops, jaxprs_in_params(params)))
    return total
