"""Any transformation of Optax, by its name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax

from research.errors import RequestError, nearest, one_line, require
from research.optimizers.optimizer import Optimizer


@dataclasses.dataclass(frozen=True)
class Rule:
    """A transformation of Optax: its name, and the arguments that differ from their defaults.

    Attributes:
      name: as Optax has it, without "optax.": "scale_by_belief", "contrib.reduce_on_plateau".
      arguments: (name, value) pairs of numbers, words, truth values and None; `rule` writes them as keywords.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()


def rule(name: str, **arguments: Any) -> Rule:
    """A transformation of Optax, as in `rule("scale_by_belief", b1=0.95)`."""
    return Rule(name, tuple(arguments.items()))


@dataclasses.dataclass(frozen=True)
class Optax(Optimizer):
    """A transformation of Optax, or several in a chain, with this project's schedule, rates and frozen parameters.

    >>> belief = Optax(1e-3, chain=(rule("scale_by_belief", b1=0.95),), weight_decay=0.1)
    >>> plateau = Optax(1e-3, chain=(rule("scale_by_adam"), rule("contrib.reduce_on_plateau", patience=5)))
    >>> free = Optax(1e-3, chain=(rule("contrib.schedule_free_adamw", b1=0.9),), frozen=("embedding/*",))
    >>> params = {"kernel": jnp.array([1.0, 2.0])}
    >>> update = belief.transformation()
    >>> update.update({"kernel": jnp.array([0.5, -3.0])}, update.init(params), params)[0]["kernel"].round(4)
    Array([-0.0012,  0.0009], dtype=float32)

    A rule that asks for a learning rate, as `adamw` does, is given that of the step, and its updates are final.  After
    other rules, the direction is multiplied by the rate, as in any optimizer here, after `weight_decay` has been added.
    Rules that ask for a `value` are given the loss of the batch.  Schedule-free rules are evaluated with their averaged
    parameters.

    Attributes:
      chain: the rules, in the order in which they are applied.
    """

    chain: tuple[Rule, ...] = ()

    def core(self) -> optax.GradientTransformation:
        return optax.chain(*(_made(own) for own in self.chain), self.decay())

    def scaled(self, rate: jax.Array | float) -> optax.GradientTransformation:
        if not any(map(_takes_rate, self.chain)):
            return super().scaled(rate)
        return optax.chain(*(_made(own, rate if _takes_rate(own) else None) for own in self.chain))

    @property
    def averages(self) -> bool:
        return any(own.name.startswith("contrib.schedule_free") for own in self.chain)

    def averaged(self, state: optax.OptState, params: optax.Params) -> optax.Params:
        free = [x for x in jax.tree.leaves(state, is_leaf=_is_schedule_free) if _is_schedule_free(x)]
        averaged = optax.contrib.schedule_free_eval_params(free[0], _like(params, free[0].z))
        return jax.tree.map(_first_kept, averaged, params, is_leaf=_is_masked)

    def check(self, total_steps: int) -> None:
        super().check(total_steps)
        require(self.chain, "chain=(): expected rules, as in (rule('scale_by_adam'),)")
        for i, own in enumerate(self.chain):
            require(isinstance(own, Rule), f"chain.{i}={own!r}: expected a rule, as in rule('scale_by_adam')")
            try:
                made = _made(own, 1.0 if _takes_rate(own) else None)
            except (TypeError, ValueError) as error:
                raise RequestError(f"chain.{i}: optax.{own.name}: {one_line(error)}") from None
            require(
                isinstance(made, optax.GradientTransformation | optax.GradientTransformationExtraArgs),
                f"chain.{i}: optax.{own.name} makes a {type(made).__name__}, not a transformation",
            )
        rated = [own.name for own in self.chain if _takes_rate(own)]
        require(len(rated) <= 1, f"chain: {' and '.join(rated)} both apply the learning rate; expected one of them")
        require(
            not rated or self.weight_decay is None,
            f"weight_decay={self.weight_decay}: {rated and rated[0]} is given its own, as in "
            f"rule({rated and rated[0]!r}, weight_decay=…)",
        )


def _function(own: Rule) -> Callable[..., Any]:
    """Optax's function of that name.

    Raises:
      RequestError: Optax has none.
    """
    known = {name: x for name, x in vars(optax).items() if inspect.isfunction(x)}
    known |= {f"contrib.{name}": x for name, x in vars(optax.contrib).items() if inspect.isfunction(x)}
    if own.name not in known:
        raise RequestError(f"chain: optax.{own.name}: no such transformation; {nearest(own.name, known)}")
    return known[own.name]


def _takes_rate(own: Rule) -> bool:
    return "learning_rate" in inspect.signature(_function(own)).parameters


def _made(own: Rule, rate: jax.Array | float | None = None) -> optax.GradientTransformation:
    return _function(own)(**dict(own.arguments), **({} if rate is None else {"learning_rate": rate}))


def _is_schedule_free(x: Any) -> bool:
    return isinstance(x, optax.contrib.ScheduleFreeState)


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _like(params: Any, masked: Any) -> Any:
    """The parameters, without those that a state leaves out."""
    return jax.tree.map(lambda z, p: z if _is_masked(z) else p, masked, params, is_leaf=_is_masked)


def _first_kept(averaged: Any, param: Any) -> Any:
    return param if _is_masked(averaged) else averaged
