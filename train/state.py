"""The state of a training run and its pure steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from configs import Classification
from train import data

Variables = dict[str, Any]


@flax.struct.dataclass
class State:
    """All that a step changes: step number, variables, optimiser state and the running average of the variables."""

    step: jax.Array
    variables: Variables
    optimizer_state: optax.OptState
    ema: Variables


def optimizer(config: Classification, steps_per_epoch: int) -> optax.GradientTransformation:
    """SGD with Nesterov momentum, weight decay on all but norms and biases, linear warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        round(config.warmup_epochs * steps_per_epoch),
        config.epochs * steps_per_epoch,
    )
    is_kernel = partial(jax.tree.map, lambda parameter: parameter.ndim > 1)
    decay = optax.add_decayed_weights(config.weight_decay, is_kernel)
    return optax.chain(decay, optax.sgd(schedule, config.momentum, nesterov=True))


def create(config: Classification, model: nn.Module, tx: optax.GradientTransformation) -> State:
    """The state before the first step, drawn from the config's seed."""
    images = jnp.zeros((1, config.image_size, config.image_size, 3))
    variables = jax.jit(model.init)(jax.random.key(config.seed), images)
    copy = jax.tree.map(jnp.copy, variables)  # a donated state must not hold one buffer twice
    return State(jnp.int32(0), variables, tx.init(variables["params"]), copy)


def train_step(
    state: State,
    batch: dict[str, jax.Array],
    *,
    config: Classification,
    model: nn.Module,
    tx: optax.GradientTransformation,
    crop_size: int,
    axis_name: str | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One step of SGD on this device's share of a batch (see `data.batches` for its entries).

    Gradients and metrics are averaged over `axis_name` after differentiation; batch statistics are averaged by the
    model's own batch norms, which must be created with the same axis name.
    """
    images, targets = data.augment(batch, config, model.num_classes, crop_size)
    loss_fn = partial(_loss, model=model, variables=state.variables, images=images, targets=targets)
    (loss, (batch_stats, logits)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.variables["params"])
    metrics = {"loss": loss, "accuracy": (logits.argmax(-1) == targets.argmax(-1)).mean()}
    if axis_name is not None:
        gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
    updates, optimizer_state = tx.update(gradients, state.optimizer_state, state.variables["params"])
    params = optax.apply_updates(state.variables["params"], updates)
    variables = {"params": params, "batch_stats": batch_stats}
    ema = optax.incremental_update(variables, state.ema, 1 - _ema_decay(config, state.step))
    return State(state.step + 1, variables, optimizer_state, ema), metrics


def _loss(
    params: Any, *, model: nn.Module, variables: Variables, images: jax.Array, targets: jax.Array
) -> tuple[jax.Array, tuple[Any, jax.Array]]:
    logits, updated = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
    return optax.softmax_cross_entropy(logits, targets).mean(), (updated["batch_stats"], logits)


def _ema_decay(config: Classification, step: jax.Array) -> jax.Array:
    """Grows as (1 + t) / (10 + t) up to the config's decay, so that the initial parameters are forgotten early."""
    return jnp.minimum(config.ema_decay, (1.0 + step) / (10.0 + step))


def predict(config: Classification, model: nn.Module) -> Callable[[Variables, jax.Array], jax.Array]:
    """A compiled function of variables and uint8 images `[B, H, W, 3]`: logits `[B, num_classes]`."""
    return jax.jit(lambda variables, images: model.apply(variables, data.normalize(images / 255.0, config)))
