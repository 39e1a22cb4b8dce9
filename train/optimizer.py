"""The optimiser of a run, its schedule, and the parameters that it leaves alone."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from configs import Classification
from jaxcam._ground.errors import ArgumentError

Params = TypeVar("Params")  # a tree of arrays


def schedule(config: Classification, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by update: a linear warm-up from 0, and what the config's `schedule` says.

    Args:
        config: the run's; its epochs are counted from the start of the training, the warm-up's
            included.
        steps_per_epoch: steps of an epoch, `config.accumulate` of which make one update.
    """
    updates = steps_per_epoch / config.accumulate
    warm = round(config.warmup_epochs * updates)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, warm, round(config.epochs * updates)
        )
    drops: dict[int, float] = {}
    for epoch in _drops(config):
        update = round(epoch * updates)
        drops[update] = drops.get(update, 1.0) * config.decay_factor
    decayed = optax.piecewise_constant_schedule(config.learning_rate, drops)
    if not warm:
        return decayed
    return lambda count: decayed(count) * jnp.minimum(1.0, count / warm)


def _drops(config: Classification) -> Sequence[float]:
    """The epochs at which the rate falls."""
    if config.schedule == "constant":
        return ()
    if config.schedule == "multistep":
        return config.milestones
    every = itertools.count(config.decay_every, config.decay_every)
    return list(itertools.takewhile(lambda epoch: epoch < config.epochs, every))


def optimizer(config: Classification, steps_per_epoch: int) -> optax.GradientTransformation:
    """Clipping, decay on all but norms and biases, the rule, accumulation; nothing if frozen."""
    rule = optax.chain(*_clip(config), *_rule(config, schedule(config, steps_per_epoch)))
    if config.frozen:
        labels = partial(_labels, prefixes=config.frozen)
        rule = optax.partition({"free": rule, "frozen": optax.set_to_zero()}, labels)
    if config.accumulate == 1:
        return rule
    return optax.MultiSteps(rule, config.accumulate).gradient_transformation()


def _clip(config: Classification) -> list[optax.GradientTransformation]:
    if not config.clip_norm:
        return []
    return [optax.clip_by_global_norm(config.clip_norm)]


def _rule(config: Classification, rate: optax.Schedule) -> list[optax.GradientTransformation]:
    if config.optimizer == "adamw":
        return [optax.adamw(rate, weight_decay=config.weight_decay, mask=_decayed)]
    decay = optax.add_decayed_weights(config.weight_decay, _decayed)
    if config.optimizer == "adam":
        return [decay, optax.adam(rate)]
    return [decay, optax.sgd(rate, config.momentum, config.nesterov)]


def _labels(params: Any, prefixes: Sequence[str]) -> Any:
    def label(path: str) -> str:
        if is_frozen(path, prefixes):
            return "frozen"
        return "free"

    return _by_path(params, label)


def _decayed(params: Any) -> Any:
    """True for kernels; norms' scales and all biases are vectors."""
    return jax.tree.map(lambda parameter: parameter.ndim > 1, params)


def is_frozen(path: str, prefixes: Sequence[str]) -> bool:
    """Whether a parameter's or module's path begins with a prefix, whole names compared."""
    return any(f"{path}.".startswith(f"{prefix}.") for prefix in prefixes)


def stop_frozen(params: Params, prefixes: Sequence[str]) -> Params:
    """`params` with frozen ones constant, so that XLA computes nothing backwards for them alone.

    Raises:
        ValueError: a prefix of no parameter.
    """
    if not prefixes:
        return params
    paths = jax.tree.leaves(_by_path(params, lambda path: path))
    for prefix in prefixes:
        if not any(is_frozen(path, [prefix]) for path in paths):
            raise ArgumentError(
                "frozen", repr(prefix), f"a prefix of a parameter's path such as {paths[0]!r}"
            )

    def stopped(value: jax.Array, stop: bool) -> jax.Array:
        if stop:
            return jax.lax.stop_gradient(value)
        return value

    frozen = _by_path(params, lambda path: is_frozen(path, prefixes))
    return jax.tree.map(stopped, params, frozen)


def _by_path(params: Any, function: Callable[[str], Any]) -> Any:
    """A tree like `params` of `function` of each one's path, "layer1.0.conv1.kernel"."""

    def at(keys: tuple[Any, ...], _: jax.Array) -> Any:
        return function(".".join(str(key.key) for key in keys))

    return jax.tree_util.tree_map_with_path(at, params)
