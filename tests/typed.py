"""What a type checker knows of the answers; pyright reads this file, nobody runs it."""

from collections.abc import Callable, Sequence
from typing import Any, assert_type

import jax

import jaxcam

Maps = dict[str, jax.Array]
NAMES = ["stem", "head"]


def of_layers(forward: Callable, images: jax.Array) -> None:
    """A name or None gives an array, names a dict, `has_aux` a pair."""
    for method in (
        jaxcam.cam,
        jaxcam.grad_cam,
        jaxcam.grad_cam_plus_plus,
        jaxcam.hires_cam,
        jaxcam.xgrad_cam,
        jaxcam.layer_cam,
        jaxcam.eigen_cam,
        jaxcam.eigen_grad_cam,
        jaxcam.relevance_cam,
        jaxcam.channel_weights,
        jaxcam.lrp_map,
        jaxcam.clrp_map,
        jaxcam.score_cam,
        jaxcam.ablation_cam,
        jaxcam.lrp.relevance,
    ):
        assert_type(method(forward, images), jax.Array)
        assert_type(method(forward, images, 3, layer="stem"), jax.Array)
        assert_type(method(forward, images, layer=NAMES), Maps)
        assert_type(method(forward, images, has_aux=True), tuple[jax.Array, Any])
        assert_type(method(forward, images, layer=NAMES, has_aux=True), tuple[Maps, Any])


def of_a_formula(forward: Callable, images: jax.Array) -> None:
    """The same of a formula of one's own."""

    def formula(activations: jax.Array, gradients: jax.Array) -> jax.Array:
        return (activations * gradients).sum(-1)

    assert_type(jaxcam.explain(formula, forward, images), jax.Array)
    assert_type(jaxcam.explain(formula, forward, images, layer="stem"), jax.Array)
    assert_type(jaxcam.explain(formula, forward, images, layer=NAMES), Maps)
    pair = jaxcam.explain(formula, forward, images, has_aux=True)
    assert_type(pair, tuple[jax.Array, Any])
    pairs = jaxcam.explain(formula, forward, images, layer=NAMES, has_aux=True)
    assert_type(pairs, tuple[Maps, Any])


def of_activations(forward: Callable, images: jax.Array) -> None:
    """`(output, A, G)`, and aux last."""
    tapped = jaxcam.activations_and_gradients
    assert_type(tapped(forward, images), tuple[Any, jax.Array, jax.Array])
    assert_type(tapped(forward, images, layer=NAMES), tuple[Any, Maps, Maps])
    with_aux = tapped(forward, images, layer="stem", has_aux=True)
    assert_type(with_aux, tuple[Any, jax.Array, jax.Array, Any])
    with_all = tapped(forward, images, layer=NAMES, has_aux=True)
    assert_type(with_all, tuple[Any, Maps, Maps, Any])


def of_the_whole_network(forward: Callable, images: jax.Array) -> None:
    """One array, with `has_aux` a pair."""
    for method in (
        jaxcam.cbam_attention,
        jaxcam.layerwise_grad_cam,
        jaxcam.attention_grad_cam,
        jaxcam.lime,
        jaxcam.mask,
        jaxcam.rise,
    ):
        assert_type(method(forward, images), jax.Array)
        assert_type(method(forward, images, has_aux=True), tuple[jax.Array, Any])


def of_what_is_known_only_then(
    forward: Callable, images: jax.Array, layer: str | Sequence[str] | None, aux: bool
) -> None:
    """No promise."""
    assert_type(jaxcam.grad_cam(forward, images, layer=layer, has_aux=aux), Any)
    assert_type(jaxcam.lrp.relevance(forward, images, layer=layer), Any)
