"""The vocabulary of primitives: every name is one of the installed jax's, each in one family."""

import sys

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive, jaxprs_in_params

from jaxcam._ground import primitives as p

UNIONS = {"FUNCTIONS", "ELEMENTWISE", "HOMOGENEOUS", "OLDER", "NEWER", "GONE"}
UNIONS |= {"REDUCTIONS", "WINDOWS", "CUMULATIVE"}
FAMILIES = {
    name: frozenset([value]) if isinstance(value, str) else value
    for name, value in vars(p).items()
    if name.isupper() and name not in UNIONS
}


def installed():
    modules = [m for name, m in list(sys.modules.items()) if name.startswith("jax") and m]
    return {v.name for m in modules for v in list(vars(m).values()) if isinstance(v, Primitive)}


def missing():
    return p.NEWER if jax.__version_info__ < (0, 12) else p.GONE


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_primitives_of_jax(family):
    known = installed() | p.OLDER | missing()
    assert FAMILIES[family] <= known


def test_what_is_marked_as_of_another_version_is_not_in_this_one():
    assert not (p.OLDER | missing()) & installed()


def test_each_primitive_is_in_one_family():
    within = {"TAG": "IDENTITIES", "SLICE": "PARTS", "PAD": "INSERTS"}
    within |= {"DENSE": "LINEAR", "CONV": "LINEAR", "MAX_POOL": "EXTREMES"}
    for name, family in within.items():
        assert FAMILIES[name] < FAMILIES[family]
    owners = {}
    for family in FAMILIES.keys() - within.keys():
        for name in FAMILIES[family]:
            assert owners.setdefault(name, family) == family
    assert len(owners) > 90
    for union in UNIONS:
        assert getattr(p, union) <= owners.keys()


@jax.custom_jvp
def with_jvp(x):
    return x


with_jvp.defjvp(lambda primals, tangents: (primals[0], tangents[0]))


@jax.custom_vjp
def with_vjp(x):
    return x


with_vjp.defvjp(lambda x: (x, None), lambda _, c: (c,))
IMAGE = jnp.ones((2, 4, 4, 3))
EXAMPLES = {
    "CALLS": (jax.jit(lambda x: x * x), jax.checkpoint(lambda x: x * x)),
    "CUSTOM_DERIVATIVES": (with_jvp, with_vjp),
    "LOOPS": (
        lambda x: jax.lax.scan(lambda c, _: (c * x, None), x, None, 3)[0],
        lambda x: jax.lax.while_loop(lambda c: c.sum() < 1, lambda c: c * x, x),
    ),
    "BRANCHES": (lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),),
    "TAG": (lambda x: checkpoint_name(x, "a"),),
    "IDENTITIES": (
        lambda x: jax.lax.reduce_precision(x, 8, 7),
        jax.lax.optimization_barrier,
        jnp.copy,
    ),
    "CONVERSIONS": (lambda x: x.astype(jnp.bfloat16),),
    "MOVES": (
        lambda x: x.reshape(2, -1),
        lambda x: x.transpose(0, 3, 1, 2),
        lambda x: x[:1].squeeze(0),
        lambda x: jax.lax.rev(x, (1,)),
    ),
    "PARTS": (
        lambda x: x[:, 1:3],
        lambda x: jax.lax.dynamic_slice_in_dim(x, x.astype(int)[0, 0, 0, 0], 1),
        lambda x: jax.lax.split(x, (1, 1)),
        lambda x: jnp.take(x, x.astype(int)[0, 0, 0], axis=0),
    ),
    "REPEATS": (lambda x: jnp.broadcast_to(x, (5, 2, 4, 4, 3)),),
    "JOINS": (lambda x: jnp.concatenate([x, x]),),
    "INSERTS": (
        lambda x: jnp.pad(x, 1),
        lambda x: jax.lax.dynamic_update_slice_in_dim(x, x[:1], x.astype(int)[0, 0, 0, 0], 0),
    ),
    "SORTS": (jnp.sort, lambda x: jax.lax.top_k(x, 2)),
    "ADDITIONS": (lambda x: x + x, lambda x: x - 2 * x),
    "SUMS": (
        jnp.sum,
        jnp.cumsum,
        lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID"),
    ),
    "EXTREMES": (
        jnp.max,
        jnp.min,
        jax.lax.cummax,
        jax.lax.cummin,
        lambda x: jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID"
        ),
    ),
    "PRODUCTS": (jnp.prod, jnp.cumprod),
    "FOLDS": (jax.lax.cumlogsumexp,),
    "LINEAR": (
        lambda x: x @ jnp.ones((3, 5)),
        lambda x: jax.lax.conv_general_dilated(
            x, jnp.ones((3, 3, 3, 1)), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
    ),
    "CHOICES": (lambda x: jnp.maximum(x, 2 * x), lambda x: jax.lax.select(x > 0, x, 2 * x)),
    "CLAMP": (lambda x: jax.lax.clamp(0.0, x, 1.0),),
    "NON_NEGATIVE": (jnp.exp, jnp.exp2, jnp.abs, jnp.sqrt, jax.lax.rsqrt, jnp.square, jnp.cosh),
    "SIGN_KEEPING": (jnp.expm1, jnp.log1p, jnp.sinh, jnp.arctan, jnp.cbrt, jnp.floor, jnp.round),
    "SATURATING": (jnp.tanh, jax.lax.erf, jnp.sign),
    "LOGISTIC": (jax.nn.sigmoid,),
    "ERFC": (jax.lax.erfc,),
    "WAVES": (jnp.sin, jnp.cos),
    "POWERS": (lambda x: jax.lax.pow(x, x), lambda x: x**3),
    "PREDICATES": (jnp.isfinite, lambda x: x > 2 * x),
    "LOGIC": (lambda x: (x > 0) & (x < 1),),
    "INDICES": (lambda x: jnp.argmax(x, 1), lambda x: jax.lax.iota(jnp.float32, 3)),
    "STOP": (),  # binds nothing: what it returns has no tangent
}


def bound(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for sub in jaxprs_in_params(eqn.params):
            yield from bound(sub)


@pytest.mark.parametrize("family", EXAMPLES)
def test_functions_bind_what_the_family_says(family):
    for function in EXAMPLES[family]:
        assert FAMILIES[family] & set(bound(jax.make_jaxpr(function)(IMAGE).jaxpr)), function


RNG_PAIR = jax.random.normal(jax.random.key(0), (2, 64))


def apply(name, *values):
    """A primitive's function of lax, by its name."""
    return getattr(jax.lax, name)(*values)


@pytest.mark.parametrize("name", sorted(p.NON_NEGATIVE))
def test_non_negative(name):
    values = apply(name, RNG_PAIR)
    assert bool((jnp.isnan(values) | (values >= 0)).all())


@pytest.mark.parametrize("name", sorted(p.SIGN_KEEPING | p.SATURATING))
def test_signs_are_kept(name):
    values = apply(name, RNG_PAIR)
    assert bool((jnp.isnan(values) | (values * RNG_PAIR >= 0)).all())
    if name in p.SATURATING:
        assert bool((jnp.abs(values) <= 1).all())
