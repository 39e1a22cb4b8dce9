"""The first eigenvector by products alone, against NumPy's whole decomposition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam._ground.leading import leading

SIZE = 200
SPECTRA = {
    "far apart": 1 / np.arange(1, SIZE + 1) ** 2,
    "close": np.concatenate([[1, 0.99, 0.985], np.linspace(0.98, 0, SIZE - 3)]),
    "negative beyond the first": np.concatenate([[1, 0.5], np.linspace(-3, 0.4, SIZE - 2)]),
    "all negative but one": np.concatenate([[1e-3], np.linspace(-1, 0, SIZE - 1)]),
    "of rank two": np.concatenate([[2, 1], np.zeros(SIZE - 2)]),
}


def with_spectrum(values, rng):
    basis, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    whole = (basis * values) @ basis.T
    return (whole + whole.T) / 2


found = jax.jit(leading)


@pytest.mark.parametrize("name", SPECTRA)
def test_it_is_numpys_first_eigenvector(name, rng):
    matrix = with_spectrum(SPECTRA[name], rng)
    values, vectors = np.linalg.eigh(matrix)
    value, vector = map(np.asarray, found(jnp.asarray(matrix, jnp.float32), jnp.float32(0)))
    size, gap = np.abs(values).max(), values[-1] - values[-2]
    np.testing.assert_allclose(value, values[-1], atol=1e-5 * size)
    off = np.linalg.norm(vector * np.sign(vector @ vectors[:, -1]) - vectors[:, -1])
    assert off < 1e-5 * size / gap  # which is what float32 leaves of it


def test_equal_first_eigenvalues_give_a_vector_of_their_space(rng):
    matrix = with_spectrum(np.concatenate([[1, 1, 1], np.linspace(-0.5, 0.5, SIZE - 3)]), rng)
    value, vector = map(np.asarray, found(jnp.asarray(matrix, jnp.float32), jnp.float32(0)))
    np.testing.assert_allclose([value, np.linalg.norm(vector)], 1, atol=1e-5)
    np.testing.assert_allclose(matrix @ vector, vector, atol=1e-5)


def test_nothing_and_what_is_not_finite():
    zeros = jnp.zeros((SIZE, SIZE), jnp.float32)
    value, vector = found(zeros, jnp.float32(0))
    assert value == 0 and np.isfinite(vector).all()
    value, vector = found(zeros.at[3, 5].set(jnp.nan), jnp.float32(0))
    assert np.isnan(value) and np.isnan(vector).all()
