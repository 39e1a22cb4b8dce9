"""The optimiser of a run, its schedule, and the parameters that it leaves alone."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from configs import Classification


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
    drops = {round(epoch * updates): config.decay_factor for epoch in _drops(config)}
    decayed = optax.piecewise_constant_schedule(config.learning_rate, drops)
    return lambda count: (
        decayed(count) * jnp.minimum(1.0, count / max(warm, 1)) if warm else decayed(count)
    )


def _drops(config: Classification) -> Sequence[float]:
    """The epochs at which the rate falls."""
    if config.schedule == "multistep":
        return config.milestones
    every = itertools.count(config.decay_every, config.decay_every)
    return (
        list(itertools.takewhile(lambda epoch: epoch < config.epochs, every))
        if config.schedule == "step"
        else ()
    )


def optimizer(config: Classification, steps_per_epoch: int) -> optax.GradientTransformation:
    """Clipping, decay on all but norms and biases, the rule, accumulation; nothing if frozen."""
    rule = optax.chain(*_clip(config), *_rule(config, schedule(config, steps_per_epoch)))
    if config.frozen:
        label = lambda params: _by_path(
            params, lambda path: "frozen" if is_frozen(path, config.frozen) else "free"
        )
        rule = optax.partition({"free": rule, "frozen": optax.set_to_zero()}, label)
    if config.accumulate == 1:
        return rule
    return optax.MultiSteps(rule, config.accumulate).gradient_transformation()


def _clip(config: Classification) -> list[optax.GradientTransformation]:
    return [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []


def _rule(config: Classification, rate: optax.Schedule) -> list[optax.GradientTransformation]:
    if config.optimizer == "adamw":
        return [optax.adamw(rate, weight_decay=config.weight_decay, mask=_decayed)]
    decay = optax.add_decayed_weights(config.weight_decay, _decayed)
    plain = (
        optax.adam(rate)
        if config.optimizer == "adam"
        else optax.sgd(rate, config.momentum, config.nesterov)
    )
    return [decay, plain]


def _decayed(params: Any) -> Any:
    """True for kernels; norms' scales and all biases are vectors."""
    return jax.tree.map(lambda parameter: parameter.ndim > 1, params)


def is_frozen(path: str, prefixes: Sequence[str]) -> bool:
    """Whether a parameter's or module's path begins with a prefix, whole names compared."""
    return any(f"{path}.".startswith(f"{prefix}.") for prefix in prefixes)


def stop_frozen(params: Any, prefixes: Sequence[str]) -> Any:
    """`params` with frozen ones constant, so that XLA computes nothing backwards for them alone.

    Raises:
        ValueError: a prefix of no parameter.
    """
    if not prefixes:
        return params
    paths = jax.tree.leaves(_by_path(params, lambda path: path))
    for prefix in prefixes:
        if not any(is_frozen(path, [prefix]) for path in paths):
            raise ValueError(
                f"frozen: got {prefix!r}, expected a prefix of a parameter's path such as "
                f"{paths[0]!r}"
            )
    frozen = _by_path(params, lambda path: is_frozen(path, prefixes))
    return jax.tree.map(
        lambda value, stop: jax.lax.stop_gradient(value) if stop else value, params, frozen
    )


def _by_path(params: Any, function: Any) -> Any:
    """A tree like `params` of `function` of each one's path, "layer1.0.conv1.kernel"."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, _: function(".".join(str(key.key) for key in keys)), params
    )
