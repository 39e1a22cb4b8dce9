"""Maps of activations alone, the same for every class: FEM and KPCA-CAM."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.formulas import check_relu, combined, positions, rectified
from jaxcam._ground.errors import check_above, check_at_least, check_choice
from jaxcam._ground.leading import Pair, leading
from jaxcam._ground.units import unit
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer
from jaxcam._program.question import explain
from jaxcam._program.signature import Explanation, explainer
from jaxcam.targets import Targets

# What FEM's terms are: the channel's mean times its mask, or the mask's mean times the channel.
FEM_VARIANTS = ("paper", "jacobgil")
# Positions up to which the kernel matrix is decomposed whole: 32 x 32.
WHOLE = 1024
_CERTAIN = 1 / 64  # of rounding's part of the matrix, to which a component is found
# k(x, y) of rows x, y: products x . y, and gamma.
KERNELS: dict[str, Callable[[jax.Array, float], jax.Array]] = {
    "linear": lambda rows, gamma: rows,
    "sigmoid": lambda rows, gamma: jnp.tanh(gamma * rows + 1),
    "rbf": lambda rows, gamma: jnp.exp(-gamma * _squared_distances(rows)),
}


@explainer
def fem(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    k: float = 2.0,
    variant: str = "paper",
    relu: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """FEM: L = sum_k mu_k [A_k >= mu_k + k sigma_k], mean and deviation of a channel; no class.

    Costs a forward pass.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: checked as in `grad_cam`; the map does not depend on them.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        k: how many standard deviations above its mean a channel is strong; 0 or more. Of h w
            positions none is more than sqrt(h w - 1) above.
        variant: "paper", or "jacobgil" (pytorch-grad-cam: sum_k m_k A_k, m_k the share of the
            positions with A_k > mu_k + k sigma_k).
        relu: as in `grad_cam`; the paper's is None, its terms being positive above a ReLU.
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `variant` or `relu`; a negative `k`.

    References:
        Fuad et al., Features understanding in 3D CNNs for actions recognition in video, IPTA 2020.

    Example:
        >>> peaks(jaxcam.fem(forward, images))
        [(0, 2), (2, 1)]
    """
    check_choice("variant", variant, FEM_VARIANTS)
    check_at_least("k", k, 0)
    check_relu(relu)
    formula = lambda a, g: fem_map(a, k, variant, relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


@explainer
def kpca_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    kernel: str = "sigmoid",
    gamma: float | None = None,
    relu: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """KPCA-CAM: the first kernel principal component of the positions' activations; no class.

    L = sqrt(lambda) v of the centred kernel matrix K_ij = k(a_i, a_j), a_i the centred activations
    at position i. With the linear kernel it is Eigen-CAM's, centred. Costs a forward pass and an
    eigendecomposition of (h w)^2 numbers an image. Beyond 32 x 32 positions the images' matrices
    are made one by one, and each is multiplied by some tens of vectors until |K v - lambda v| is
    rounding (Lanczos): at 112 x 112 that takes memory for 630 MB and a few seconds. Where the first
    eigenvalues are equal, every mixture of their vectors is a first component; which one is shown
    is left open.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: checked as in `grad_cam`; the map does not depend on them.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        kernel: "sigmoid", tanh(gamma x . y + 1); "rbf", exp(-gamma |x - y|^2); "linear", x . y.
        gamma: of the kernel, above 0; None is 1 / c, c the number of channels.
        relu: None (signed), or "sum" (rectified); "channel" is the same, there being no sum.
        has_aux: as in `grad_cam`.

    Returns:
        As `eigen_cam`, with its sign. NaN where activations are not finite, or where products did
        not find the vector.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `kernel` or `relu`; a `gamma` that is not
            above 0.

    References:
        Karmani et al., KPCA-CAM: visual explainability of deep computer vision models using kernel
        PCA, 2024 (arXiv 2410.00267); Schoelkopf et al., Kernel principal component analysis, 1997.

    Example:
        >>> peaks(jaxcam.kpca_cam(forward, images))
        [(0, 2), (2, 1)]
    """
    check_choice("kernel", kernel, KERNELS)
    if gamma is not None:
        check_above("gamma", gamma, 0)
    check_relu(relu, terms=False)
    formula = partial(_without_class, kernel=kernel, gamma=gamma, relu=relu)
    options = {"layer": layer, "layout": layout, "has_aux": has_aux}
    return explain(formula, forward, images, targets, **options)


def fem_map(
    activations: jax.Array, k: float = 2.0, variant: str = "paper", relu: str | None = None
) -> jax.Array:
    """L = sum_k mu_k [A_k >= mu_k + k sigma_k] (Fuad et al. 2020). `[B, h, w, c]`."""
    space = positions(activations)
    scale = unit(activations, (*space, activations.ndim - 1))
    return scale[..., 0] * _fem(activations / scale, k, variant, relu)


def _fem(activations: jax.Array, k: float, variant: str, relu: str | None) -> jax.Array:
    space = positions(activations)
    mean = activations.mean(space, keepdims=True)
    bound = mean + k * activations.std(space, keepdims=True)
    if variant == "paper":
        # Not a constant channel, whose every position is its mean.
        strong = (activations >= bound) & (activations.max(space, keepdims=True) > mean)
        return combined(strong.astype(activations.dtype), mean, relu)
    strong = (activations > bound).astype(activations.dtype)
    return combined(activations, strong.mean(space), relu)


def kpca_cam_map(
    activations: jax.Array,
    kernel: str = "sigmoid",
    gamma: float | None = None,
    relu: str | None = None,
) -> jax.Array:
    """L = sqrt(lambda) v, the first of the centred kernel matrix. `[B, h, w, c]` -> `[B, h, w]`."""
    size = activations.shape[-1]
    rows = activations.reshape(len(activations), -1, size)
    scale = unit(rows, (1, 2))
    rows = rows / scale
    above = rows.mean(-1)
    matrix = partial(_centred, kernel=kernel, gamma=gamma or 1 / size)
    rows = rows - rows.mean(1, keepdims=True)
    if rows.shape[1] <= WHOLE:
        values, noise = matrix(rows, scale)
        spectrum, vectors = jnp.linalg.eigh(values)
        first = Pair(spectrum[:, -1], vectors[:, :, -1])
    else:  # one image's matrix at a time
        first, noise = loops.map(lambda each: _alone(matrix, *each), (rows, scale))
    length = jnp.sqrt(jnp.maximum(first.value, 0))
    flat = jnp.where(first.value <= noise, 0, length)[:, None] * first.vector
    agreement = (flat * above).sum(1, keepdims=True)
    flat = jnp.where(agreement < 0, -flat, flat)
    if kernel == "linear":
        flat = flat * scale[..., 0]
    return rectified(flat.reshape(activations.shape[:-1]), _whole(relu))


def _centred(
    rows: jax.Array, scale: jax.Array, *, kernel: str, gamma: float
) -> tuple[jax.Array, jax.Array]:
    """Centred kernel matrices `[B, n, n]` of rows `[B, n, c]`, and rounding's part of them `[B]`.

    What centring leaves of equal rows are rounding errors, no component.
    """
    products = jnp.einsum("bic,bjc->bij", rows, rows, precision=jax.lax.Precision.HIGHEST)
    if kernel != "linear":  # which is homogeneous: its map is scaled
        products = products * scale * scale
    values = KERNELS[kernel](products, gamma)
    eps = float(jnp.finfo(values.dtype).eps)
    noise = rows.shape[1] * eps * jnp.abs(values).max((1, 2))
    values = values - values.mean(1, keepdims=True)
    return values - values.mean(2, keepdims=True), noise


def _alone(matrix: Callable, rows: jax.Array, scale: jax.Array) -> tuple[Pair, jax.Array]:
    """The first component of one image, `[n, c]`, and what is none, by products alone."""
    values, noise = matrix(rows[None], scale[None])
    return leading(values[0], noise[0] * _CERTAIN), noise[0]


def _without_class(
    activations: jax.Array,
    gradients: jax.Array,
    kernel: str,
    gamma: float | None,
    relu: str | None,
) -> jax.Array:
    del gradients
    return kpca_cam_map(activations, kernel, gamma, relu)


def _whole(relu: str | None) -> str | None:
    """The ReLU of a map that is no sum."""
    if relu is None:
        return None
    return "sum"


def _squared_distances(products: jax.Array) -> jax.Array:
    """|x - y|^2 of all pairs, from their products `[B, n, n]`."""
    squares = jnp.diagonal(products, axis1=1, axis2=2)
    return jnp.maximum(squares[:, :, None] + squares[:, None] - 2 * products, 0)
