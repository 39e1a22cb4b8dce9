"""jaxcam's side: the weights and images that all read, and every call, compiled."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcam
from eval.costs.peers import cases
from eval.costs.peers.child import Call
from jaxcam import fostering, linen, loops, lrp, maps, metrics, models
from jaxcam.lrp import rules

Forward = Callable[[jax.Array], Any]


class Given(NamedTuple):
    """What a call is about; arrays all."""

    images: jax.Array
    targets: jax.Array
    saliency: jax.Array


def opened(name: str) -> "Jaxcam":
    """The framework; `name` is ours."""
    del name
    return Jaxcam()


# Calls ----------------------------------------------------------------

Explainer = Callable[[Forward, Given, dict], Any]  # the dict holds the layer, if there is one


def _at(explainer: Callable, **options: Any) -> Explainer:
    return lambda f, given, at: explainer(f, given.images, given.targets, **at, **options)


def _lrp(composite: Any) -> Explainer:
    return _at(jaxcam.lrp_map, composite=composite)


def _game(game: Callable) -> Explainer:
    return lambda f, given, at: game(
        f, given.images, given.saliency, given.targets, step=1 / cases.STEPS, baseline=0.0
    )


def _normalized(explainer: Callable) -> Explainer:
    return lambda f, given, at: maps.normalize(explainer(f, given.images, given.targets, **at))


_PLUS = {"conv_general_dilated": rules.z_plus, "dot_general": rules.epsilon(1e-6)}
EXPLAINERS: dict[str, Explainer] = {
    "gradient": _at(jaxcam.gradient, reduction="sum"),
    "gradient_input": _at(jaxcam.gradient_input),
    "integrated_gradients": _at(jaxcam.integrated_gradients, steps=cases.IG_STEPS),
    "guided_backprop": _at(jaxcam.guided_backprop, reduction="sum"),
    "grad_cam": _at(jaxcam.grad_cam),
    "grad_cam_plus_plus_torchcam": _at(jaxcam.grad_cam_plus_plus, variant="torchcam"),
    "grad_cam_plus_plus_jacobgil": _at(jaxcam.grad_cam_plus_plus, variant="jacobgil"),
    "layer_cam": _at(jaxcam.layer_cam),
    "hires_cam": _at(jaxcam.hires_cam),
    "xgrad_cam": _at(jaxcam.xgrad_cam),
    "score_cam": _at(jaxcam.score_cam, variant="paper"),
    "score_cam_jacobgil": _at(jaxcam.score_cam, variant="jacobgil"),
    "ablation_cam": _at(jaxcam.ablation_cam, variant="jacobgil"),
    "relevance_cam": _at(jaxcam.relevance_cam),
    "lrp_epsilon_plus": _lrp(_PLUS),
    "lrp_epsilon_plus_flat": _lrp("epsilon_plus_flat"),
    "lrp_epsilon_alpha2_beta1": _lrp("epsilon_alpha2_beta1"),
    "lrp_epsilon_gamma_box": _lrp(lrp.epsilon_gamma_box(-6.0, 6.0)),
    "lrp_epsilon": _lrp(lrp.epsilon(1e-9, bias="absorb")),
    "rise": _at(jaxcam.rise, num_masks=cases.MASKS),
    "deletion": _game(metrics.deletion),
    "insertion": _game(metrics.insertion),
    "latency_grad_cam": _normalized(jaxcam.grad_cam),
    "latency_layer_cam": _normalized(jaxcam.layer_cam),
}


class Jaxcam:
    """The framework of this repository."""

    def versions(self) -> dict[str, str]:
        """Of its packages."""
        found = {}
        for package in cases.PACKAGES[cases.OURS][1:]:
            found[package] = metadata.version(package)
        return {"jaxcam": jaxcam.__version__, **found}

    def make(self, setup: Mapping[str, Any]) -> dict[str, Any]:
        """Random weights with batch norms of the images' own statistics; images; classes.

        The class of each image is its likeliest.
        """
        names = ("model", "image_size", "batch", "seed")
        variables, given = made(*(setup[name] for name in names))
        state: dict[str, Any] = models.to_torchvision(variables)
        np.savez(setup["weights"], **state)
        np.savez(setup["images"], **given._asdict())
        return {"device": jax.devices()[0].device_kind}

    def load(self, setup: Mapping[str, Any]) -> None:
        """Weights and images onto the device."""
        precision = "highest"
        if setup["tf32"]:
            precision = "tensorfloat32"
        jax.config.update("jax_default_matmul_precision", precision)
        with np.load(setup["weights"]) as file:
            state = dict(file)
        dtype = None
        if setup["dtype"] != "float32":
            dtype = setup["dtype"]
        self.network = models.create(setup["model"], dtype=dtype)
        self.variables = models.from_torchvision(setup["model"], state)
        with np.load(setup["images"]) as file:
            self.given = Given(**{name: jnp.asarray(file[name]) for name in Given._fields})
        jax.block_until_ready((self.variables, self.given))

    def call(self, case: Mapping[str, Any]) -> Call:
        """A case, compiled; weights and images are arguments."""
        run = program(self.network, case["call"], case["layer"])
        if case["form"] == "constants":
            return _called(partial(jax.jit(partial(run, self.variables)), self.given))
        return _called(partial(jax.jit(run), self.variables, self.given))


def program(network: Any, call: str, layer: str | None) -> Callable[[Any, Given], Any]:
    """A call of the variables and what it is about: what is compiled."""
    at = {}
    if layer is not None:
        at["layer"] = layer
    forward = lambda variables: linen(network, variables, train=False)
    if call == cases.FORWARD:
        return lambda variables, given: loops.quick(forward(variables))(given.images)
    if cases.CALLS[call].training:
        return partial(_step, network, at)
    return lambda variables, given: EXPLAINERS[call](forward(variables), given, at)


def _step(network: Any, at: dict, variables: Any, given: Given) -> Any:
    """The loss, the gradients and the updated statistics of a batch."""

    def loss(params: Any) -> tuple[jax.Array, Any]:
        state = {**variables, "params": params}
        apply = lambda x: network.apply(state, x, train=True, mutable=["batch_stats"])
        if at:
            total, seen = fostering.fostering_loss(
                apply, given.images, given.targets, has_aux=True, **at
            )
            return total, seen.aux
        logits, updated = loops.quick(apply)(given.images)  # as `train` does
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, given.targets)
        return losses.mean(), updated

    (value, updated), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return value, gradients, updated


def _called(compiled: Callable) -> Call:
    return Call(
        lambda _: jax.block_until_ready(compiled()),
        lambda found: shown(found).astype(np.float32),
    )


def shown(result: Any) -> np.ndarray:
    """A map; of a training step the loss and the size of each parameter's gradient, by key."""
    if not isinstance(result, tuple):
        return np.asarray(result)
    value, gradients, _ = result
    sizes = {}
    for key, gradient in models.to_torchvision({"params": gradients}).items():
        sizes[key] = np.linalg.norm(gradient)
    return np.array([float(value), *(sizes[key] for key in sorted(sizes))])


def made(model: str, image_size: int, batch: int, seed: int) -> tuple[Any, Given]:
    """Variables, and images with the likeliest class of each and a random saliency."""
    network = models.create(model)
    rng = np.random.default_rng(seed)
    shape = (batch, image_size, image_size, 3)
    images = rng.normal(size=shape).astype(np.float32)
    variables = calibrated(network, jnp.asarray(images), seed)
    logits = jax.jit(partial(network.apply, train=False))(variables, images)
    saliency = rng.normal(size=shape[:3]).astype(np.float32)
    given = map(np.asarray, (images, logits.argmax(-1), saliency))
    return variables, Given(*given)  # type: ignore[arg-type]


def calibrated(network: Any, images: jax.Array, seed: int) -> Any:
    """Random parameters; each batch norm has the statistics of these images there.

    One pass from averages of 0 leaves a tenth of them.
    """
    variables = jax.jit(network.init)(jax.random.key(seed), images)
    if "batch_stats" not in variables:
        return variables
    empty = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    dropout = {"dropout": jax.random.key(seed)}
    run = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"], rngs=dropout))
    _, updated = run({**variables, "batch_stats": empty}, images)
    return {**variables, "batch_stats": jax.tree.map(lambda x: 10 * x, updated["batch_stats"])}
