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
from jaxcam import loops
from train import objectives
from train.augment import augment, normalize, pixels, soft_targets
from train.optimizer import is_frozen, stop_frozen

Variables = dict[str, Any]


@flax.struct.dataclass
class State:
    """All that a step changes: step number, variables, optimiser state, running average.

    Order and augmentation of the photos are drawn from the config's seed and the step alone, so
    this is also all that a run needs to go on.
    """

    step: jax.Array
    variables: Variables
    optimizer_state: optax.OptState
    ema: Variables

    @property
    def averaged(self) -> Variables:
        """Variables to validate and export: the averaged ones, or the last if none are averaged."""
        return self.ema or self.variables


def create(config: Classification, variables: Variables, tx: optax.GradientTransformation) -> State:
    """The state before the first step."""
    # A donated state must not hold one buffer twice.
    copy = jax.tree.map(jnp.copy, variables) if config.ema_decay else {}
    return State(jnp.int32(0), variables, tx.init(variables["params"]), copy)


def train_step(
    state: State,
    batch: dict[str, Any],
    constants: Any = None,
    *,
    config: Classification,
    model: nn.Module,
    tx: optax.GradientTransformation,
    loss: objectives.Loss,
    crop_size: int,
    axis_name: str | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One step on this device's share of a batch (see `pipeline.batches` for its entries).

    Gradients and metrics are averaged over `axis_name` after differentiation; batch statistics are
    averaged by the model's own batch norms, which must be created with the same axis name. Units
    are dropped per device. Without an axis the share is the whole batch, and all these are means
    over it.

    Args:
        state: to go on from.
        batch: this device's share.
        constants: what the loss finds as `batch["constants"]`.
        config: the run's.
        model: called with `train=True`.
        tx: made by `optimizer` of the same config.
        loss: what is minimised.
        crop_size: side of the training crops in pixels.
        axis_name: mapped axis of the devices; None: one device, or arrays that all devices share
            (see `train.parallel`).

    Returns:
        The next state; and metrics, `loss` and `gradient_norm` (before clipping) among them.
    """
    images, targets = augment(batch, config, model.num_classes, crop_size)
    key = _dropout_key(config, state.step, axis_name)

    def minimised(params: Any) -> objectives.Outcome:
        variables = {**state.variables, "params": stop_frozen(params, config.frozen)}
        forward = partial(_forward, model=model, variables=variables, key=key, frozen=config.frozen)
        return loss(forward, images, targets, {**batch, "constants": constants})

    params = state.variables["params"]
    (value, (collections, metrics)), gradients = jax.value_and_grad(minimised, has_aux=True)(params)
    metrics = {"loss": value, **metrics}
    if axis_name is not None:
        gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
    updates, optimizer_state = tx.update(gradients, state.optimizer_state, params)
    kept = {name: value for name, value in collections.items() if name in state.variables}
    variables = {**state.variables, **kept, "params": optax.apply_updates(params, updates)}
    ema = _average(config, state, variables)
    metrics["gradient_norm"] = optax.tree_utils.tree_norm(gradients)
    return State(state.step + 1, variables, optimizer_state, ema), metrics


def _forward(
    images: jax.Array,
    *,
    model: nn.Module,
    variables: Variables,
    key: jax.Array,
    frozen: tuple[str, ...],
) -> tuple[jax.Array, objectives.Collections]:
    """Logits in training, and collections, updated or left. Frozen norms are as in validation."""

    def intercept(
        call: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        if isinstance(context.module, nn.BatchNorm) and is_frozen(
            ".".join(context.module.path), frozen
        ):
            # a module of this trace alone
            object.__setattr__(context.module, "use_running_average", True)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        logits, collections = model.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": key},
        )
    return logits, dict(collections)


def _dropout_key(config: Classification, step: jax.Array, axis_name: str | None) -> jax.Array:
    device: jax.Array | int = 0
    if axis_name is not None:
        device = jax.lax.axis_index(axis_name)
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    return jax.random.fold_in(key, device)


def _average(config: Classification, state: State, variables: Variables) -> Variables:
    """The running average, ema = d ema + (1 - d) variables, d = min(ema_decay, (1+u)/(10+u)).

    So the initial parameters are forgotten early. u counts updates; between two of them the average
    stays.
    """
    if not config.ema_decay:
        return {}
    update = (state.step // config.accumulate).astype(jnp.float32)
    decay = jnp.minimum(config.ema_decay, (1.0 + update) / (10.0 + update))
    decay = jnp.where((state.step + 1) % config.accumulate == 0, decay, 1.0)
    averaged: Any = optax.incremental_update(variables, state.ema, 1 - decay)
    return averaged


def validation_step(
    variables: Variables,
    batch: dict[str, jax.Array],
    constants: None = None,
    *,
    config: Classification,
    model: nn.Module,
    axis_name: str | None = None,
) -> dict[str, jax.Array]:
    """Sums over a batch's images and over `axis_name`: how many count, are right, and losses.

    Args:
        variables: of the model.
        batch: this device's share (see `pipeline.validation_batches` for its entries).
        constants: none; as steps are mapped with them.
        config: the run's.
        model: called as in use.
        axis_name: mapped axis of the devices, None if the batch is whole.
    """
    del constants
    apply: Any = loops.quick(model.apply)
    output = apply(variables, normalize(pixels(batch["image"]), config))
    logits = output.astype(jnp.float32)
    targets = soft_targets(batch["label"], model.num_classes, 0.0)
    losses = jax.vmap(partial(objectives.cross_entropy, config))(logits[:, None], targets[:, None])
    hits = objectives.hits(logits, targets).astype(jnp.float32)
    counted = {"count": jnp.ones_like(losses), "correct": hits, "loss": losses}
    sums = {key: jnp.where(batch["mask"], value, 0.0).sum() for key, value in counted.items()}
    if axis_name is None:
        return sums
    return jax.lax.psum(sums, axis_name)
