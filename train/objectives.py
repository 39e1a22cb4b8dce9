"""What a step minimises: pure functions of the network's forward pass and a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from configs import Classification, Config
from jaxcam import loops
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError

# what a forward pass in training changed or left: "batch_stats", "auxiliary"
Collections = dict[str, Any]
Forward = Callable[[jax.Array], tuple[jax.Array, Collections]]
Metrics = dict[str, jax.Array]
# the loss, and beside it what changed and what is to be logged
Outcome = tuple[jax.Array, tuple[Collections, Metrics]]
Loss = Callable[[Forward, jax.Array, jax.Array, dict[str, Any]], Outcome]


class Objective(NamedTuple):
    """A loss and what it needs.

    Args:
        loss: (forward, images, targets, batch) -> (loss, (collections, metrics)). `forward(images)`
            gives the logits `[B, N]` of the network in training and its collections, of which the
            loss returns the ones to keep; `targets` are soft `[B, N]`; metrics are means over the
            images, scalars.
        constants: arrays that the loss finds as `batch["constants"]`: arguments of the step, the
            same on all devices and not compiled into it. A teacher's variables, say.
        prepare: a host batch (NumPy, see `pipeline.batches`) -> one with more entries of the same
            leading axis.
    """

    loss: Loss
    constants: Any = None
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch


# of a kind of config, and the names of the classes
Factory = Callable[[Config, tuple[str, ...]], Objective]


def classification(config: Classification, classes: tuple[str, ...]) -> Objective:
    """Cross-entropy, and `auxiliary_weight` times that of the auxiliary logits sown."""
    del classes

    def loss(
        forward: Forward, images: jax.Array, targets: jax.Array, batch: dict[str, Any]
    ) -> Outcome:
        del batch
        logits, collections = loops.quick(forward)(images)
        value = cross_entropy(config, logits, targets) + auxiliary(config, collections, targets)
        return value, (collections, {"accuracy": accuracy(logits, targets)})

    return Objective(loss)


def check_outputs(config: Classification, count: int) -> None:
    """Refuses a softmax over one output: it is 1, and the loss 0, whatever the network says.

    Args:
        config: its `loss`.
        count: logits of an image.

    Raises:
        ValueError: as said.
    """
    if count < 2 and config.loss == "softmax":
        raise ArgumentError(
            "loss",
            f"'softmax' for {count} class, of which it is 0 whatever the network says",
            "'sigmoid', or two classes or more",
        )


def cross_entropy(config: Classification, logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over the images of -sum_c t_c ln softmax_c, or of the classes' mean yes-or-no loss.

    The latter, for `loss` "sigmoid", is the mean over classes of each yes or no's.

    Args:
        config: its `loss`.
        logits: `[B, N]`.
        targets: probabilities `[B, N]`.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: as `check_outputs`.
    """
    check_outputs(config, logits.shape[-1])
    logits = at_least_float32(logits)
    if config.loss == "sigmoid":
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean()
    return optax.softmax_cross_entropy(logits, targets).mean()


def auxiliary(config: Classification, collections: Collections, targets: jax.Array) -> jax.Array:
    """`auxiliary_weight` times the cross-entropies of the collection "auxiliary"; 0 without any."""
    total = jnp.float32(0)
    for logits in jax.tree.leaves(collections.get("auxiliary", {})):
        total += cross_entropy(config, logits, targets)
    return config.auxiliary_weight * total


def accuracy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of the images that are `hits`."""
    return hits(logits, targets).mean()


def hits(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """`[B]` booleans: whether the largest logit is of a (perhaps not the only) largest target.

    Of a single class: whether the logit is positive where the target is above 1/2, and only there.
    """
    if logits.shape[-1] == 1:
        return (logits[:, 0] > 0) == (targets[:, 0] > 0.5)
    top = jnp.take_along_axis(targets, logits.argmax(-1, keepdims=True), axis=-1)[:, 0]
    return top >= targets.max(-1)
