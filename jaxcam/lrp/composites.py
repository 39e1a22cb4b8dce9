"""Composites: which rule goes where, and what happens to biases and to products of activations.

A composite maps keys to rules; of the keys that match a linear layer the first one wins. A key is

* the layer's primitive: `"conv_general_dilated"` or `"dot_general"`;
* a position: `"first"` (no linear layer between it and the pixels; several may be) or `"last"` (the
  last one in execution order), or an int, counted in execution order from 0 or, negative, from the
  end;
* the name of a layer of the model, with `*`, `?` and `[...]` as in a shell: it stands for the
  linear layers whose result is next tagged with that name; `"*"` is every one. A name that stands
  for none is an error, raised when relevance is computed.

A product with a matrix that is made of the program's own numbers, and no parameters, is no linear
layer but pooling, and takes no rule, if its results are sums or means: the matrix has no two signs
(an average, a one-hot choice), or its columns sum to 1 and few weights are negative (cubic
resizing). Other fixed weights (a Laplacian, a whitening) are a linear layer's.

References:
    Anders et al., Software for dataset-wide XAI: from local explanations to global insights with
    Zennit, 2021, whose composites bear the same names; Montavon et al., Layer-wise relevance
    propagation: an overview, 2019.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from jaxcam._ground.errors import ArgumentError, check_choice, nearest, one_of
from jaxcam._ground.primitives import CONV as CONV
from jaxcam._ground.primitives import DENSE as DENSE
from jaxcam.lrp import rules
from jaxcam.lrp.rules import Rule

_KINDS = (CONV, DENSE, "first", "last")
_CHOICES = {
    "bias": ("pass", "absorb"),
    "product": ("signal", "half"),
    "attention": ("gate", "attnlrp"),
    "precision": ("highest", "high", "default"),
}


class Place(NamedTuple):
    """Where a linear layer stands: its primitive, index among `count` of them, and layer."""

    primitive: str
    index: int
    count: int
    first: bool
    layer: str | None


@dataclasses.dataclass(frozen=True)
class Composite:
    """A mapping from keys to rules (first match wins), and choices of what is no rule.

    Args:
        rules: keys, as this module's page says, to `jaxcam.lrp.rules`.
        bias: "pass" (an added or subtracted parameter, a bias or the mean of a batch norm, gives
            its share of the relevance to the activation: relevance is conserved) or "absorb" (it
            keeps its share, as in LRP-epsilon with bias; a batch norm then acts as if folded into
            the layer below it). A literal number in the code is no bias and always passes.
        product: what a product of two activations does. "signal": all relevance to the signal, none
            to the gate, the gate being the factor of bounded range (sigmoid, tanh, hard sigmoid,
            1 + sigmoid) or one that only normalises the other (a norm's divisor); where neither is
            one, an error; where both are, half and half. "half": half and half wherever neither
            only normalises.
        attention: what softmax(q k^T) v does. "gate": all relevance to v, for which the softmax is
            a weight; conserves. "attnlrp": half to each factor of every such product, and through
            the softmax by its derivative (Achtibat et al., AttnLRP, 2024); does not conserve.
        precision: of convolutions and matrix products on accelerators, as in `jax.lax.Precision`:
            "highest", float32; "high", on a TPU three passes of bfloat16 numbers in place of six,
            on some GPUs TF32; "default", one. On a CPU all three are float32.

    Raises:
        ValueError: a choice or a key that does not exist, or a value that is no rule.
    """

    rules: Mapping[Any, Rule]  # by str or int
    bias: str = "pass"
    product: str = "signal"
    attention: str = "gate"
    precision: str = "highest"

    def __post_init__(self) -> None:
        """Checks the fields."""
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for key, rule in self.rules.items():
            if not isinstance(rule, Rule):
                got = f"{rule!r} for {key!r}"
                raise ArgumentError("composite", got, "a rule of jaxcam.lrp.rules")
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise ArgumentError("composite", f"the key {key!r}", "a string or an int")

    def rule(self, place: Place) -> Rule | None:
        """The rule of the first key that matches, or None."""
        for key, rule in self.rules.items():
            if _matches(key, place):
                return rule
        return None

    def check_names(self, layers: Iterable[str]) -> None:
        """ValueError if a key names no layer of a network, `layers` being its linear ones."""
        names = list(dict.fromkeys(layers))
        for key in self.rules:
            if not isinstance(key, str) or key in _KINDS or not key.strip("*?"):
                continue
            if any(fnmatchcase(layer, key) for layer in names):
                continue
            name = key.strip("*?")
            inside = [layer for layer in names if layer.startswith(f"{name}.")]
            close = list(dict.fromkeys(inside[:2] + nearest(name, names)))[:4]
            raise ArgumentError(
                "composite",
                f"the key {key!r}, which is no linear layer of the network",
                f"one of {len(names)} names, such as {close}, or a pattern of them with '*'",
            )


def _matches(key: str | int, place: Place) -> bool:
    if isinstance(key, int):
        return place.index == key % place.count and -place.count <= key < place.count
    if key == "first":
        return place.first
    if key == "last":
        return place.index == place.count - 1
    return key == place.primitive or fnmatchcase(place.layer or "", key)


def z_plus(**choices: str) -> Composite:
    """z+ (alpha1-beta0) everywhere, down to the pixels: the rule of Relevance-CAM.

    Args:
        **choices: `bias`, `product`, `attention` and `precision` of `Composite`.

    Example:
        >>> composite = jaxcam.lrp.z_plus(product="half")  # of gates
        >>> peaks(jaxcam.lrp_map(forward, images, composite=composite))
        [(1, 5), (5, 3)]
    """
    return Composite({"*": rules.z_plus}, **choices)


def epsilon(epsilon: float = 1e-6, **choices: str) -> Composite:
    """LRP-epsilon everywhere.

    epsilon 0 is LRP-0, which with bias "absorb" is gradient times input for ReLU nets.

    Args:
        epsilon: added to denominators, with their sign.
        **choices: as in `z_plus`.

    Example:
        >>> composite = jaxcam.lrp.epsilon(0.1)  # which keeps what is small
        >>> print(jaxcam.lrp.relevance(forward, images, composite=composite).sum((1, 2, 3)))
        [1.03 1.15]
    """
    return Composite({"*": rules.epsilon(epsilon)}, **choices)


def epsilon_plus_flat(epsilon: float = 1e-6, **choices: str) -> Composite:
    """Flat at the pixels, z+ for convolutions, epsilon for dense layers.

    Args:
        epsilon: as in `epsilon`.
        **choices: as in `z_plus`.

    Example:
        >>> composite = jaxcam.lrp.epsilon_plus_flat()
        >>> maps = jaxcam.lrp_map(forward, images, composite=composite)
        >>> peaks(maps)
        [(1, 5), (5, 3)]
    """
    mapping = {"first": rules.flat, CONV: rules.z_plus, DENSE: rules.epsilon(epsilon)}
    return Composite(mapping, **choices)


def epsilon_gamma_box(
    low: Any = None,
    high: Any = None,
    *,
    gamma: float = 0.25,
    epsilon: float = 1e-6,
    **choices: str,
) -> Composite:
    """Pixels: z^B within `low` and `high`; convolutions: gamma; dense layers: epsilon.

    Args:
        low: the least value of a pixel, a number or `[C]`; None is each image's own.
        high: the greatest, likewise.
        gamma: of the gamma rule.
        epsilon: as in `epsilon`.
        **choices: as in `z_plus`.

    Example:
        >>> composite = jaxcam.lrp.epsilon_gamma_box(low=0.0, high=1.0)
        >>> peaks(jaxcam.lrp_map(forward, images, composite=composite))
        [(1, 5), (5, 3)]
    """
    first = rules.z_box(low, high)
    mapping = {"first": first, CONV: rules.gamma(gamma), DENSE: rules.epsilon(epsilon)}
    return Composite(mapping, **choices)


def epsilon_alpha2_beta1(epsilon: float = 1e-6, **choices: str) -> Composite:
    """alpha2-beta1 for convolutions, epsilon for dense layers.

    Args:
        epsilon: as in `epsilon`.
        **choices: as in `z_plus`.

    Example:
        >>> composite = jaxcam.lrp.epsilon_alpha2_beta1()
        >>> peaks(jaxcam.lrp_map(forward, images, composite=composite))
        [(1, 5), (5, 3)]
    """
    return Composite({CONV: rules.alpha_beta(2, 1), DENSE: rules.epsilon(epsilon)}, **choices)


def mobile(**choices: str) -> Composite:
    """z+, and flat for a unit to which no input contributes: inverted residuals, depthwise layers.

    For networks of which many units are active through their bias alone, as MobileNet's and
    EfficientNet's: z+ loses such a unit's relevance, this leaves it in the unit's receptive field,
    so that all that entered arrives. Where z+ loses nothing both are the same.

    Args:
        **choices: as in `z_plus`.

    Example:
        >>> peaks(jaxcam.lrp_map(forward, images, composite=jaxcam.lrp.mobile()))
        [(1, 5), (5, 3)]
    """
    return Composite({"*": rules.or_flat(rules.z_plus)}, **choices)


def attnlrp(**choices: str) -> Composite:
    """z+, and the products of attention as in AttnLRP: half to each factor, also through softmax.

    Of networks without attention the same as `z_plus`. It does not conserve: what the softmax is
    given can have a sum of relevance that is any number.

    Args:
        **choices: as in `z_plus`, but for attention.

    References:
        Achtibat et al., AttnLRP: attention-aware layer-wise relevance propagation for
        transformers, ICML 2024.

    Example:
        >>> peaks(jaxcam.lrp_map(forward, images, composite=jaxcam.lrp.attnlrp()))
        [(1, 5), (5, 3)]
    """
    return Composite({"*": rules.z_plus}, attention="attnlrp", **choices)


_READY = (
    z_plus,
    epsilon,
    epsilon_plus_flat,
    epsilon_gamma_box,
    epsilon_alpha2_beta1,
    mobile,
    attnlrp,
)
COMPOSITES: dict[str, Callable[..., Composite]] = {f.__name__: f for f in _READY}


def resolve(composite: str | Composite | Mapping | Rule) -> Composite:
    """A composite from its name, a mapping, one rule for all, or itself.

    Raises:
        ValueError: an unknown name, or something else.
    """
    if isinstance(composite, Composite):
        return composite
    if isinstance(composite, Rule):
        return Composite({"*": composite})
    if isinstance(composite, Mapping):
        return Composite(composite)
    if isinstance(composite, str) and composite in COMPOSITES:
        return COMPOSITES[composite]()
    expected = f"a Composite, a mapping, a rule or {one_of(composite, COMPOSITES)}"
    raise ArgumentError("composite", repr(composite), expected)
