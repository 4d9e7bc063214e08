"""Optimizers that update every number of a parameter by itself."""

from __future__ import annotations

import dataclasses

import optax

from research.config.hparams import hparam
from research.errors import require
from research.optimizers.optimizer import Optimizer


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if you like.  A weight decay is L2: added to the gradient.

    >>> optimizer = SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule=Cosine(warmup_steps=5))
    >>> [round(float(optimizer.learning_rate_at(step, total_steps=15)), 3) for step in (0, 5, 10, 15)]
    [0.0, 0.1, 0.05, 0.0]

    Attributes:
      momentum: as PyTorch's, v = momentum v + g; None: none.
      nesterov: looks ahead by one step of momentum (Sutskever et al., 2013).
    """

    learning_rate: float = hparam(0.1)
    momentum: float | None = hparam(None)
    nesterov: bool = False

    def core(self) -> optax.GradientTransformation:
        momentum = optax.identity() if self.momentum is None else optax.trace(self.momentum, self.nesterov)
        return optax.chain(self.decay(), momentum)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(not self.nesterov or self.momentum is not None, "nesterov=True: needs a momentum, as in momentum=0.9")


@dataclasses.dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients over the root of their mean square (Tieleman & Hinton, 2012).

    As PyTorch's: the mean square starts at 0, and a weight decay is L2, added to the gradient.  The first update of
    every number is about learning_rate / sqrt(1 - alpha):

    >>> rule = RMSprop(1e-3, alpha=0.75).transformation()
    >>> params = {"kernel": jnp.array([1.0, 2.0])}
    >>> rule.update({"kernel": jnp.array([0.5, -3.0])}, rule.init(params), params)[0]["kernel"]
    Array([-0.002,  0.002], dtype=float32)

    Attributes:
      alpha: how much of the mean square each step keeps.
      eps: added to the root.
      momentum: of the update; None: none.
    """

    alpha: float = hparam(0.99)
    eps: float = hparam(1e-8)
    momentum: float | None = hparam(None)

    def core(self) -> optax.GradientTransformation:
        momentum = optax.identity() if self.momentum is None else optax.trace(self.momentum)
        return optax.chain(self.decay(), optax.scale_by_rms(self.alpha, self.eps, eps_in_sqrt=False), momentum)


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015).  A weight decay is L2 here: added to the gradient.

    The first update of every number is about the learning rate, whatever the size of its gradient:

    >>> rule = Adam(1e-3).transformation()
    >>> params = {"kernel": jnp.array([1.0, 2.0])}
    >>> rule.update({"kernel": jnp.array([0.5, -3.0])}, rule.init(params), params)[0]["kernel"].round(4)
    Array([-0.001,  0.001], dtype=float32)

    Attributes:
      b1: how much of the mean of the gradients each step keeps.
      b2: how much of the mean of their squares each step keeps.
      eps: added to the root of the mean square.
    """

    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-8)

    def core(self) -> optax.GradientTransformation:
        return optax.chain(self.decay(), optax.scale_by_adam(self.b1, self.b2, self.eps))


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019): learning_rate * weight_decay of a parameter a step.

    >>> optimizer = AdamW(3e-4, schedule=Cosine(warmup_steps=100), weight_decay=0.1, frozen=("embedding/*",))
    >>> optimizer.check(total_steps=1000)
    >>> rule = AdamW(0.1, weight_decay=0.1).transformation()
    >>> params = {"kernel": jnp.array([1.0, 2.0])}
    >>> rule.update({"kernel": jnp.zeros(2)}, rule.init(params), params)[0]["kernel"]  # no gradient, so decay alone
    Array([-0.01, -0.02], dtype=float32)

    Attributes:
      b1: how much of the mean of the gradients each step keeps.
      b2: how much of the mean of their squares each step keeps.
      eps: added to the root of the mean square.
    """

    weight_decay: float | None = hparam(0.01)
    b1: float = hparam(0.9)
    b2: float = hparam(0.999)
    eps: float = hparam(1e-8)

    def core(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adam(self.b1, self.b2, self.eps), self.decay())


@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """The sign of an interpolated momentum (Chen et al., 2023); wants a rate 3 to 10 times lower than AdamW's.

    >>> rule = Lion(1e-4).transformation()
    >>> params = {"kernel": jnp.array([1.0, 2.0])}
    >>> rule.update({"kernel": jnp.array([0.5, -3.0])}, rule.init(params), params)[0]["kernel"]
    Array([-0.0001,  0.0001], dtype=float32)

    Attributes:
      b1: how much of the momentum, rather than of the gradient, the sign is taken of.
      b2: how much of the momentum each step keeps.
    """

    learning_rate: float = hparam(1e-4)
    b1: float = hparam(0.9)
    b2: float = hparam(0.99)

    def core(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_lion(self.b1, self.b2), self.decay())
