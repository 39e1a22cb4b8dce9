"""The first eigenvector of a large symmetric matrix, by products with it alone.

Lanczos' method with full reorthogonalisation and thick restarts (Wu and Simon 2000): of the best
vectors among `_KEPT + 1` to `_BASIS` directions, the first few stay, and the matrix times the last
direction gives the next. What the directions span is asked for its best vector by the products
themselves (Rayleigh and Ritz), so that lost orthogonality costs time and no correctness.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_BASIS = 32
_KEPT = 8
_CYCLES = 40  # restarts after which there is no answer
_ROUNDING = 32  # of eps |lambda|, to which a residual falls
_HIGHEST = jax.lax.Precision.HIGHEST


class Pair(NamedTuple):
    """The largest eigenvalue `[]`, its vector `[n]` of norm 1 and either sign."""

    value: jax.Array
    vector: jax.Array


class _Span(NamedTuple):
    """Orthonormal directions `[m, n]`, zeros where there is none, and the matrix times each."""

    directions: jax.Array
    products: jax.Array


def leading(matrix: jax.Array, floor: jax.Array) -> Pair:
    """The largest eigenvalue, by sign, of a symmetric matrix, and its eigenvector.

    Where the largest eigenvalues are equal, every vector of their space is an eigenvector, and
    which one is found is left open, as with `jnp.linalg.eigh`. Derivatives are those of a simple
    eigenvalue.

    Args:
        matrix: `[n, n]`, symmetric; it need not be positive.
        floor: `[]`, what the matrix is uncertain by, at least 0: a residual below is none.

    Returns:
        Value and vector, NaN where the matrix is not finite, or where
        |A v - lambda v| has not fallen to rounding (32 eps |A|, or `floor`) after
        some thousand products.
    """
    return _leading(matrix, floor)


@jax.custom_jvp
def _leading(matrix: jax.Array, floor: jax.Array) -> Pair:
    def going(state: tuple) -> jax.Array:
        cycle, _, _, residual, bound = state
        return (cycle < _CYCLES) & (residual > bound)

    def step(state: tuple) -> tuple:
        cycle, span, *_ = state
        span, values = _best(_grown(matrix, span))
        residual = _norm(span.products[0] - values[0] * span.directions[0])
        bound = jnp.maximum(_ROUNDING * _eps(matrix) * jnp.abs(values).max(), floor)
        return cycle + 1, span, values[0], residual, bound

    first = _started(matrix)
    unknown = jnp.inf + _nothing(matrix)[0]
    state = (0, first, unknown, unknown, jnp.zeros_like(unknown))
    _, span, value, residual, bound = jax.lax.while_loop(going, step, state)
    sure = residual <= bound
    return Pair(jnp.where(sure, value, jnp.nan), jnp.where(sure, span.directions[0], jnp.nan))


@_leading.defjvp
def _changed(primals: tuple, tangents: tuple) -> tuple[Pair, Pair]:
    """v^T dA v, and (lambda - A)^+ (dA v - v v^T dA v) by conjugate gradients."""
    matrix, floor = primals
    change, _ = tangents
    value, vector = _leading(matrix, floor)
    moved = _times(change, vector)
    slope = vector @ moved

    def apart(x: jax.Array) -> jax.Array:
        """(lambda - A) x, and lambda x along the vector itself, which makes it positive."""
        return value * x - _times(matrix, x) + value * vector * (vector @ x)

    options = {"tol": _ROUNDING * _eps(matrix), "maxiter": _LIMIT}
    solve = lambda times, x: jax.scipy.sparse.linalg.cg(times, x, **options)[0]
    rest = moved - slope * vector
    turned = jax.lax.custom_linear_solve(apart, rest, solve, solve, symmetric=True)
    return Pair(value, vector), Pair(slope, turned - vector * (vector @ turned))


_LIMIT = _CYCLES * (_BASIS - _KEPT)  # products


def _started(matrix: jax.Array) -> _Span:
    """One direction at random: it has a part along every eigenvector."""
    size = len(matrix)
    first = jax.random.normal(jax.random.key(0), (size,), matrix.dtype) + _nothing(matrix)
    first = first / _norm(first)
    directions = jnp.zeros((_BASIS, size), matrix.dtype) + _nothing(matrix)[None]
    directions = directions.at[0].set(first)
    return _Span(directions, jnp.zeros_like(directions).at[0].set(_times(matrix, first)))


def _grown(matrix: jax.Array, span: _Span) -> _Span:
    """A span of `_KEPT` directions, filled up: each is what the one before was turned into."""

    def add(number: jax.Array, span: _Span) -> _Span:
        # The first vector's residual leads out of the span that was kept.
        before = jnp.where(number == _KEPT, 0, number - 1)
        turned = span.products[before]
        rest = turned
        for _ in range(2):  # twice is enough (Parlett 1980)
            inside = jnp.einsum("mn,n->m", span.directions, rest, precision=_HIGHEST)
            rest = rest - jnp.einsum("mn,m->n", span.directions, inside, precision=_HIGHEST)
        size = _norm(rest)
        known = size > 4 * _eps(matrix) * _norm(turned)  # else the span is closed
        rest = jnp.where(known, rest / jnp.where(known, size, 1), 0)
        directions = span.directions.at[number].set(rest)
        return _Span(directions, span.products.at[number].set(_times(matrix, rest)))

    return jax.lax.fori_loop(_KEPT, _BASIS, add, span)


def _best(span: _Span) -> tuple[_Span, jax.Array]:
    """The span's best `_KEPT` vectors, zeros after them; all its Ritz values `[m]`, falling."""
    small = jnp.einsum("in,jn->ij", span.directions, span.products, precision=_HIGHEST)
    small = (small + small.T) / 2
    empty = (span.directions == 0).all(1)
    lowest = -2 * jnp.abs(small).sum(1).max() - 1  # below all others
    values, turns = jnp.linalg.eigh(small + jnp.diag(jnp.where(empty, lowest, 0)))
    values = values[::-1]
    kept = jnp.arange(len(values)) < _KEPT
    chosen = jnp.where(kept[:, None], turns[:, ::-1].T, 0)
    turned = (jnp.einsum("ij,jn->in", chosen, each, precision=_HIGHEST) for each in span)
    return _Span(*turned), jnp.where(values > lowest / 2, values, 0)


def _nothing(matrix: jax.Array) -> jax.Array:
    """Zeros `[n]` that vary over a mesh as the matrix does; NaN of what is not finite."""
    return 0 * matrix[0]


def _times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.einsum("ij,j->i", matrix, vector, precision=_HIGHEST)


def _norm(vector: jax.Array) -> jax.Array:
    return jnp.sqrt((vector**2).sum())


def _eps(matrix: jax.Array) -> float:
    return float(jnp.finfo(matrix.dtype).eps)
