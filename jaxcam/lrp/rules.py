"""The rules of layer-wise relevance propagation, as data, over one redistribution.

A linear layer y = op(x, w), convolution or dense, that receives the relevance R_y gives its input

    R_x = sum_g  k_g sum_t  x_t * op^T(R_y / z_g, w_t),        z_g = sum_t op(x_t, w_t)

A rule is the choice of these: groups (g) with a coefficient k, made of terms (t), each a part of
the input times a part of the weights. Relevance is written R = x * c throughout, c being the
cotangent, so that autodiff carries it.

References:
    Bach et al., On pixel-wise explanations for non-linear classifier decisions by layer-wise
    relevance propagation, PLoS ONE 2015; Montavon et al., Layer-wise relevance propagation: an
    overview, 2019, table 10.1.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground.errors import ArgumentError, check_at_least
from jaxcam.lrp import _weights

__all__ = [
    "Group",
    "Rule",
    "Term",
    "alpha_beta",
    "epsilon",
    "flat",
    "gamma",
    "itself",
    "lrp_0",
    "negative",
    "ones",
    "or_flat",
    "pass_whole",
    "positive",
    "square",
    "w_square",
    "z_box",
    "z_plus",
]

# Below it a denominator of relevance of size 1 counts as 0: the quotient could overflow float32.
_TINY = 1e-30

Part = Callable[[jax.Array], jax.Array]


def positive(a: jax.Array) -> jax.Array:
    """max(a, 0).

    Example:
        >>> print(jaxcam.lrp.rules.positive(jnp.array([-2.0, 3.0])))
        [0. 3.]
    """
    return jnp.maximum(a, 0)


def negative(a: jax.Array) -> jax.Array:
    """min(a, 0).

    Example:
        >>> print(jaxcam.lrp.rules.negative(jnp.array([-2.0, 3.0])))
        [-2.  0.]
    """
    return jnp.minimum(a, 0)


def itself(a: jax.Array) -> jax.Array:
    """The values themselves.

    Example:
        >>> jaxcam.lrp.rules.itself(-2.0)
        -2.0
    """
    return a


def square(a: jax.Array) -> jax.Array:
    """a^2, elementwise.

    Example:
        >>> print(jaxcam.lrp.rules.square(jnp.array([-2.0, 3.0])))
        [4. 9.]
    """
    return a * a


def ones(a: jax.Array) -> jax.Array:
    """1 for every a.

    Example:
        >>> print(jaxcam.lrp.rules.ones(jnp.array([-2.0, 3.0])))
        [1. 1.]
    """
    # Behind a barrier: XLA's CPU backend (jax 0.10.2) makes NaN of some products with constants.
    return jax.lax.optimization_barrier(jnp.ones_like(a))


class Term(NamedTuple):
    """One product op(x_t, w_t). `constant`: x_t is no multiple of x; R need not vanish with x."""

    x: Part
    w: Part
    constant: bool = False


class Group(NamedTuple):
    """Terms with one common denominator.

    Attributes:
        terms: the products whose sum is the denominator.
        coefficient: of the relevance that goes this way.
        sign: 1 or -1: only that of outputs y > 0 or y < 0; 0 all.
        rest: only that of outputs that no group before it takes: theirs is another sign, or they
            have no denominator.
    """

    terms: tuple[Term, ...]
    coefficient: float = 1.0
    sign: int = 0
    rest: bool = False


class Rule(NamedTuple):
    """Groups of terms, and the epsilon added to their denominators with the denominator's sign."""

    name: str
    groups: tuple[Group, ...]
    epsilon: float = 0.0

    @property
    def reaches_zeros(self) -> bool:
        """Whether an input of 0 can get relevance."""
        return any(term.constant for group in self.groups for term in group.terms)


# The redistribution ------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def redistribute(
    epsilon: float, y: jax.Array, shares: Sequence, denominators: Sequence
) -> jax.Array:
    """Value of y, its relevance to the z_g: c_z = c * share / (z + epsilon sign z), 0 where z = 0.

    With shares that sum to y, R = y * c is distributed over the z_g, and through them, by plain
    autodiff, over whatever they are computed from. y itself receives nothing.
    """
    del epsilon, shares, denominators
    return y


def _forward(epsilon: float, y: jax.Array, shares: Sequence, denominators: Sequence) -> tuple:
    del epsilon
    return y, (shares, denominators)


def _backward(epsilon: float, saved: tuple, c: jax.Array) -> tuple:
    found = []
    for share, z in zip(*saved, strict=True):
        found.append(c * divide(share, z, epsilon, of=c * share))
    return None, None, tuple(found)


redistribute.defvjp(_forward, _backward)


def divide(
    a: jax.Array, z: jax.Array, epsilon: float = 0.0, of: jax.Array | None = None
) -> jax.Array:
    """Quotient a / (z + epsilon sign z), and 0 where z = 0; the gradient is finite there too.

    Args:
        a: the dividend.
        z: the divisor, and that of `of`.
        epsilon: at least 0.
        of: the relevance that is divided in the end, if a is not.
    """
    zero = _is_zero(z, a if of is None else of)
    return jnp.where(zero, 0, a / jnp.where(zero, 1, z + epsilon * jnp.sign(z)))


def _is_zero(z: jax.Array, relevance: jax.Array) -> jax.Array:
    """Where a denominator counts as 0: where it is, or is tiny beside what is divided by it."""
    size = jnp.minimum(1, jnp.abs(jax.lax.stop_gradient(relevance)))
    return (z == 0) | (jnp.abs(z) < _TINY * size)


def unit(x: jax.Array) -> jax.Array:
    """Ones whose cotangent is the relevance of x itself: c_x = R / x. Where x = 0 it is lost."""
    return redistribute(0.0, jnp.ones_like(x), (jnp.ones_like(x),), (x,))


def carry(y: jax.Array, unit: jax.Array) -> jax.Array:
    """The value of y, whose whole relevance goes to `unit`."""
    return redistribute(0.0, y, (y,), (unit,))


def apply(
    rule: Rule, op: Callable, x: jax.Array, w: jax.Array, unit: Callable, nonnegative: bool = False
) -> tuple[jax.Array, Callable[[], jax.Array]]:
    """The value of op(x, w), whose relevance goes to x by `rule`, and ones that do the same.

    Args:
        rule: any of this module's.
        op: bilinear in the input and the weights.
        x: the input.
        w: the weights.
        unit: () -> ones in the shape of x that take the relevance which is no multiple of x.
        nonnegative: whether x >= 0 is known; terms in min(x, 0) then are left out, one convolution
            each.

    Returns:
        y, to the bit; and a function that makes ones whose cotangent is relevance itself: what an
        element-wise function of y hands on reaches x through them also where y = 0.

    Raises:
        ValueError: the rule passes relevance whole, and y has another shape than x.
    """
    y = op(x, w)
    if not rule.groups:
        if y.shape != x.shape:
            got = f"the rule {rule.name!r} for {x.shape} -> {y.shape}"
            raise ArgumentError("composite", got, "it where both shapes are equal")
        return carry(y, unit()), unit
    parts = []
    denominators = []
    left = jnp.ones_like(y, bool)
    for group in rule.groups:
        z = _denominator(group, op, x, w, unit, nonnegative)
        taken = jnp.ones_like(y, bool)
        if group.sign:
            taken = jnp.sign(y) == group.sign
        if group.rest:
            taken = taken & left
        left = left & ~(taken & ~_is_zero(z, y))
        parts.append(jnp.where(taken, jnp.asarray(group.coefficient, y.dtype), 0))
        denominators.append(z)

    def give(value: jax.Array) -> jax.Array:
        shares = tuple(part * value for part in parts)
        return redistribute(rule.epsilon, value, shares, tuple(denominators))

    return give(y), lambda: give(jnp.ones_like(y))


def _denominator(
    group: Group, op: Callable, x: jax.Array, w: jax.Array, unit: Callable, nonnegative: bool
) -> jax.Array:
    terms = []
    for term in group.terms:
        if not (nonnegative and term.x is negative):
            terms.append(_product(term, op, x, w, unit))
    return sum(terms[1:], terms[0])


def _product(term: Term, op: Callable, x: jax.Array, w: jax.Array, unit: Callable) -> jax.Array:
    part = term.x(x)
    if term.constant:
        part = jax.lax.stop_gradient(part) * unit()
    if term.w is itself:
        return op(part, w)
    return _weights.product(op, term.w, part, w)


# The rules ------------------------------------------------------------

pass_whole = Rule("pass", ())
lrp_0 = Rule("lrp_0", (Group((Term(itself, itself),)),))
z_plus = Rule("z_plus", (Group((Term(positive, positive), Term(negative, negative))),))
flat = Rule("flat", (Group((Term(jnp.ones_like, ones, True),)),))
w_square = Rule("w_square", (Group((Term(jnp.ones_like, square, True),)),))


def epsilon(epsilon: float = 1e-6) -> Rule:
    """LRP-epsilon: R_i = sum_j x_i w_ij / (z_j + epsilon sign z_j) R_j (Bach et al., eq. 58).

    z_j = sum_i x_i w_ij.

    Example:
        >>> rules = jaxcam.lrp.rules
        >>> composite = jaxcam.lrp.Composite({"colours": rules.epsilon(1e-3), "*": rules.z_plus})
        >>> peaks(jaxcam.lrp_map(forward, images, composite=composite))
        [(1, 5), (5, 3)]
    """
    check_at_least("epsilon", epsilon, 0)
    return Rule("epsilon", lrp_0.groups, float(epsilon))


def alpha_beta(alpha: float = 2.0, beta: float = 1.0) -> Rule:
    """LRP-alpha-beta: R_i = sum_j (alpha p_ij - beta n_ij) R_j (Bach et al., eq. 60).

    p_ij = (x_i w_ij)+ / sum (x w_j)+, n_ij = (x_i w_ij)- / sum (x w_j)-.

    Example:
        >>> rules = jaxcam.lrp.rules
        >>> composite = jaxcam.lrp.Composite({"*": rules.alpha_beta(2, 1)})
        >>> peaks(jaxcam.lrp_map(forward, images, composite=composite))
        [(1, 5), (5, 3)]
    """
    if abs(alpha - beta - 1) > 1e-6 or beta < 0:
        got = f"{alpha} and {beta}"
        raise ArgumentError("alpha and beta", got, "beta >= 0 and alpha - beta = 1")
    inhibiting = Group((Term(positive, negative), Term(negative, positive)), -float(beta))
    exciting = Group(z_plus.groups[0].terms, float(alpha))
    if beta == 0:
        return Rule("alpha_beta", (exciting,))
    return Rule("alpha_beta", (exciting, inhibiting))


def gamma(gamma: float = 0.25) -> Rule:
    """LRP-gamma: the contributions that have y's sign weigh 1 + gamma (x and y of any sign).

    R_i = sum_j p_ij / (sum_i p_ij) R_j, p_ij = x_i w_ij + gamma (x_i w_ij)+ where y_j > 0, with ()-
    where y_j < 0 (Montavon et al. 2019, table 10.1, for x >= 0; Andeol et al. 2021, eq. 9).

    Example:
        >>> rules = jaxcam.lrp.rules
        >>> composite = jaxcam.lrp.Composite({"first": rules.flat, "*": rules.gamma(0.5)})
        >>> peaks(jaxcam.lrp_map(forward, images, composite=composite))
        [(1, 5), (5, 3)]
    """
    check_at_least("gamma", gamma, 0)
    more: Part = lambda w: w + gamma * positive(w)
    less: Part = lambda w: w + gamma * negative(w)
    up = Group((Term(positive, more), Term(negative, less)), sign=1)
    down = Group((Term(positive, less), Term(negative, more)), sign=-1)
    return Rule("gamma", (up, down))


def z_box(low: Any = None, high: Any = None) -> Rule:
    """z^B, pixels in [low, high]: R_i ~ x_i w_ij - low_i w_ij+ - high_i w_ij- (Montavon 2017).

    Args:
        low: smallest possible pixel, broadcast against `[B, H, W, C]` (a number, or one per
            channel); None takes each image's own minimum (the images being on the first axis), as
            Relevance-CAM's code does.
        high: largest possible pixel, likewise.

    Returns:
        The rule.

    Raises:
        ValueError: a low bound is above its high bound.

    Example:
        >>> rules = jaxcam.lrp.rules
        >>> composite = jaxcam.lrp.Composite({"first": rules.z_box(0.0, 1.0), "*": rules.z_plus})
        >>> peaks(jaxcam.lrp_map(forward, images, composite=composite))
        [(1, 5), (5, 3)]
    """
    if low is not None and high is not None and not np.all(np.asarray(low) <= np.asarray(high)):
        raise ArgumentError("low and high", f"{low} and {high}", "low <= high")
    lowest: Part = lambda x: -_bound(x, low, jnp.min)
    highest: Part = lambda x: -_bound(x, high, jnp.max)
    terms = (Term(itself, itself), Term(lowest, positive, True), Term(highest, negative, True))
    return Rule("z_box", (Group(terms),))


def _bound(x: jax.Array, bound: Any, extreme: Callable) -> jax.Array:
    if bound is None:
        bound = extreme(x, axis=tuple(range(1, x.ndim)), keepdims=True)
    return jnp.broadcast_to(jnp.asarray(bound, x.dtype), x.shape)


def or_flat(rule: Rule) -> Rule:
    """`rule`; where it has no denominator, R_i = R_j / n over the n inputs of output j.

    A unit that is active through its bias alone has no input to give its relevance to: z+ and gamma
    lose it. Flat leaves it where it is, in the unit's receptive field. Conserves with `z_plus`, and
    with `gamma` (where y = 0, which has no sign).

    Args:
        rule: any but "pass".

    Returns:
        The rule.

    Raises:
        ValueError: a rule that passes relevance whole.

    Example:
        >>> rule = jaxcam.lrp.rules.or_flat(jaxcam.lrp.rules.z_plus)
        >>> rule.name
        'z_plus_or_flat'
    """
    if not rule.groups:
        raise ArgumentError("rule", repr(rule.name), "one with denominators")
    rest = Group(flat.groups[0].terms, rest=True)
    return Rule(f"{rule.name}_or_flat", (*rule.groups, rest), rule.epsilon)
