"""Distils a student: `python -m train.distill --config FILE [--set key=value ...] [--resume]`.

FILE is for example `configs/tiny20_distill.py`. The loss is KL(teacher || student) + cross-entropy
with the labels. The teacher is one of our networks, asked in the same compiled step, or a black box
outside JAX (an ONNX file, a Python function), asked once before. Options are those of
`train.classify`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import Distillation
from jaxcam import loops, models
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted
from train import loop, objectives, program, teacher

# (student's images, batch) -> teacher's logits
_Ask = Callable[[jax.Array, dict[str, Any]], jax.Array]
# constants of the step, what asks, and what prepares a batch on the host
_Teacher = tuple[Any, _Ask, Callable[[dict[str, Any]], dict[str, Any]]]


def divergence(teacher_logits: jax.Array, logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """T^2 mean_b KL(softmax(O_t / T) || softmax(O_s / T)), summed over the classes.

    The factor T^2 keeps the gradient's size when T changes (Hinton et al. 2015); at T = 1 it is the
    paper's loss.

    Args:
        teacher_logits: O_t `[B, N]`.
        logits: O_s `[B, N]`, the student's.
        temperature: T.

    Returns:
        A float32 scalar, 0 where both agree.

    References:
        Kang et al. 2021, eq. 5, D_KL(softmax(O_t) || softmax(O_s)).
    """
    log_t = jax.nn.log_softmax(teacher_logits.astype(jnp.float32) / temperature)
    log_s = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(log_s, log_t).mean()


def distillation(config: Distillation, classes: tuple[str, ...]) -> objectives.Objective:
    """kd_weight * divergence from the teacher + ce_weight * cross-entropy.

    Raises:
        ValueError: a teacher of another number of classes, or one that answers yes or no for each;
            or as `teacher.answers`.
        FileNotFoundError: no such teacher.
    """
    if config.teacher_kind == "network":
        constants, ask, prepare = _network(config, classes)
    else:
        constants, ask, prepare = _black_box(config)

    def loss(
        forward: objectives.Forward, images: jax.Array, targets: jax.Array, batch: dict[str, Any]
    ) -> objectives.Outcome:
        logits, collections = loops.quick(forward)(images)
        theirs = jax.lax.stop_gradient(ask(images, batch))
        kl = divergence(theirs, logits, config.temperature)
        value = config.kd_weight * kl + config.ce_weight * objectives.cross_entropy(
            config, logits, targets
        )
        metrics = {
            "accuracy": objectives.accuracy(logits, targets),
            "divergence": kl,
            "agreement": (logits.argmax(-1) == theirs.argmax(-1)).mean(),
        }
        return value + objectives.auxiliary(config, collections, targets), (collections, metrics)

    return objectives.Objective(loss, constants, prepare)


def _network(config: Distillation, classes: tuple[str, ...]) -> _Teacher:
    """A network of ours: its variables are the step's constants."""
    network, variables = models.load(config.teacher)
    if network.num_classes != len(classes):
        raise ArgumentError(
            "teacher",
            f"{config.teacher} of {counted(network.num_classes, 'class')}",
            f"one of {len(classes)}, as the photos",
        )
    described = models.describe(config.teacher)
    if described.activation == "sigmoid":
        raise ArgumentError(
            "teacher",
            f"{config.teacher}, trained with loss 'sigmoid'",
            "'softmax', of whose classes one is right",
        )
    about = described.preprocess

    def ask(images: jax.Array, batch: dict[str, Any]) -> jax.Array:
        rgb = images * jnp.asarray(config.std) + jnp.asarray(config.mean)
        apply = loops.quick(network.apply)
        return jnp.asarray(apply(batch["constants"], about(rgb)))

    return variables, ask, lambda batch: batch


def _black_box(config: Distillation) -> _Teacher:
    """A teacher outside JAX: its answers come with the batch."""
    kept = teacher.answers(config, loop.data(config, "train"))
    return None, lambda images, batch: batch["teacher"], partial(_with_answers, kept)


def _with_answers(kept: Sequence[np.ndarray], batch: dict[str, Any]) -> dict[str, Any]:
    found = [kept[view][index] for _, view, index in batch["key"]]
    return {**batch, "teacher": np.stack(found)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    program.main("train.distill", __doc__, distillation, Distillation, arguments)


if __name__ == "__main__":
    main()
