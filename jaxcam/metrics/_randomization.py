"""Does the map depend on the model, and on the class?

By randomised parameters, similarity of maps, class sensitivity.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import rankdata
from jax.typing import ArrayLike

from jaxcam import maps
from jaxcam._ground import filters
from jaxcam._ground.errors import ArgumentError, check_whole, listing, nearest
from jaxcam.metrics._common import checked, checked_pair, finite, only, pearson
from jaxcam.metrics._localization import energy_in_box

# SSIM's Gaussian window, 11 x 11, and its constants
_SIGMA = 1.5
_RADIUS = 5
_K1 = 0.01
_K2 = 0.03
# HOG as Dalal and Triggs, L2-Hys
_ORIENTATIONS = 9
_BLOCK = 3
_HOG_EPS = 1e-5
_HOG_CLIP = 0.2


class Similarity(NamedTuple):
    """How alike two maps are, `[B]` each, at most 1."""

    spearman: jax.Array
    spearman_abs: jax.Array
    ssim: jax.Array
    hog: jax.Array


class ClassSensitivity(NamedTuple):
    """How differently two classes are explained in one image, `[B]` each."""

    correlation: jax.Array  # Pearson's, of the two maps: low is sensitive
    own: jax.Array  # mean energy of a map in its own class's boxes: high is right
    other: jax.Array  # mean energy of a map in the other class's boxes


# Randomised parameters ------------------------------------------------


def cascade(
    params: Any,
    groups: Sequence[str] | Mapping[str, Callable[[str], bool]],
    fresh: Any,
    *,
    independent: bool = False,
) -> Iterator[tuple[str, Any]]:
    """Parameters in which one group after another, from the logits down, becomes untrained.

    Args:
        params: any pytree of arrays: Linen's `variables["params"]`, the state of `nnx.split`, a
            dict of one's own. Give the trainable parameters alone to keep batch statistics, as the
            original protocol does.
        groups: in the order of replacement. Names: a group is every array whose dotted path is the
            name or begins with it and a dot, `"layer4"` or `"layer4.2.conv3"`. Or a mapping from
            names to functions `path -> bool`.
        fresh: a pytree like `params` to take the new values from: the model initialised with
            another key, which has the model's own initialisers, or `shuffled(params, key)`. A group
            gets the same values in both modes.
        independent: False: groups replaced before stay replaced (cascading). True: only this one
            is.

    Yields:
        `(name of the group, parameters)`, of the structure of `params`.

    Raises:
        ValueError: (at the first step) a group without any array, or `fresh` of another structure
            or other shapes.

    References:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    paths, leaves, tree = _flatten(params)
    new = _checked_fresh(paths, leaves, fresh)
    members = {name: _members(name, rule, paths) for name, rule in _rules(groups).items()}
    replaced: set[int] = set()
    for name, indices in members.items():
        replaced = set(indices) if independent else replaced | set(indices)
        mixed = [new[i] if i in replaced else leaf for i, leaf in enumerate(leaves)]
        yield name, jax.tree.unflatten(tree, mixed)


def shuffled(params: Any, key: jax.Array) -> Any:
    """Parameters with the entries of each array permuted.

    Untrained yet as large, where no initialiser is known.

    Args:
        params: any pytree of arrays.
        key: of `jax.random.key`.

    Returns:
        A pytree like `params`.

    Raises:
        TypeError: a leaf is no array, or `key` no key.
    """
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    permuted = lambda key, x: jax.random.permutation(key, jnp.ravel(x)).reshape(x.shape)
    return jax.tree.unflatten(tree, map(permuted, keys, leaves))


# Similarity of maps ---------------------------------------------------


def similarity(
    first: ArrayLike, second: ArrayLike, *, cell: int = 16, mask: ArrayLike | None = None
) -> Similarity:
    """Spearman of the maps and of their magnitudes, SSIM, and Spearman of their HOG descriptors.

    Args:
        first: `[B, H, W]`, the map of the trained model, any real numbers.
        second: `[B, H, W]`, that of the randomised one.
        cell: side of HOG's cells in pixels.
        mask: `[B]`, False for padding.

    Returns:
        `Similarity`; each as the function of its name.

    Raises:
        ValueError: as `spearman`, `ssim` and `hog`.

    References:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    return Similarity(
        spearman(first, second, mask=mask),
        spearman(first, second, absolute=True, mask=mask),
        ssim(first, second, mask=mask),
        hog_similarity(first, second, cell=cell, mask=mask),
    )


def spearman(
    first: ArrayLike, second: ArrayLike, *, absolute: bool = False, mask: ArrayLike | None = None
) -> jax.Array:
    """Spearman's rank correlation over pixels; equal values share their mean rank.

    Args:
        first: `[B, H, W]`, any real numbers.
        second: `[B, H, W]`.
        absolute: whether to rank |map|.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [-1, 1]. NaN where either is constant (it has no order) or not finite, or `mask` is
        False.

    Raises:
        ValueError: shapes are wrong or differ.
    """
    first, second = checked_pair(first, second)
    known = finite(first) & finite(second)
    if absolute:
        first, second = jnp.abs(first), jnp.abs(second)
    return only(_rank_correlation(first, second), known, mask)


def ssim(first: ArrayLike, second: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
    """Structural similarity of two maps, each min-max scaled to [0, 1].

    SSIM = mean (2 mu_x mu_y + C1)(2 s_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(s_x^2 + s_y^2 + C2)), C1 =
    0.01^2, C2 = 0.03^2, over all 11 x 11 Gaussian windows (sigma 1.5) inside the map, with sample
    covariance: scikit-image's `structural_similarity(gaussian_weights=True, data_range=1)`.

    Args:
        first: `[B, H, W]`, any real numbers.
        second: `[B, H, W]`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`, at most 1; a constant map counts as 0 everywhere. NaN where either is not finite, or
        `mask` is False.

    Raises:
        ValueError: shapes are wrong or differ, or a side is under 11 pixels.

    References:
        Wang et al., Image quality assessment: from error visibility to structural similarity, 2004,
        eq. 13.
    """
    first, second = checked_pair(first, second)
    if min(first.shape[1:]) <= 2 * _RADIUS:
        raise ArgumentError("first", f"maps of {first.shape[1:]} pixels", "at least 11 x 11")
    x = maps.normalize(first)
    y = maps.normalize(second)
    mean_x = _window_mean(x)
    mean_y = _window_mean(y)
    sample = (2 * _RADIUS + 1) ** 2
    scale = sample / (sample - 1)
    variances = scale * (_window_mean(x * x) - mean_x**2 + _window_mean(y * y) - mean_y**2)
    covariance = scale * (_window_mean(x * y) - mean_x * mean_y)
    both = (2 * mean_x * mean_y + _K1**2) * (2 * covariance + _K2**2)
    values = both / ((mean_x**2 + mean_y**2 + _K1**2) * (variances + _K2**2))
    return only(values.mean((1, 2)), finite(first), finite(second), mask)


def hog_similarity(
    first: ArrayLike, second: ArrayLike, *, cell: int = 16, mask: ArrayLike | None = None
) -> jax.Array:
    """Spearman's rank correlation of two maps' HOG descriptors, each min-max scaled to [0, 1].

    Args:
        first: `[B, H, W]`, any real numbers.
        second: `[B, H, W]`.
        cell: side of a cell in pixels.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [-1, 1]. NaN where either is constant (it has no gradients) or not finite, or
        `mask` is False.

    Raises:
        ValueError: shapes are wrong or differ, or as `hog`.

    References:
        Adebayo et al., NeurIPS 2018.
    """
    first, second = checked_pair(first, second)
    described = [hog(maps.normalize(x), cell=cell) for x in (first, second)]
    return only(_rank_correlation(*described), finite(first), finite(second), mask)


def hog(images: ArrayLike, *, cell: int = 16) -> jax.Array:
    """Histograms of oriented gradients: 9 orientations, blocks of 3 x 3 cells, L2-Hys.

    Equals scikit-image's `hog`.

    Args:
        images: `[B, H, W]`.
        cell: side of a cell in pixels; what is left over at the lower and right edge is not used.

    Returns:
        Descriptors `[B, blocks down * blocks across * 81]`.

    Raises:
        ValueError: images are not `[B, H, W]`, `cell` is no whole number, or there are fewer than
            3 x 3 cells.

    References:
        Dalal and Triggs, Histograms of oriented gradients for human detection, CVPR 2005.
    """
    images = checked(images, name="images")
    check_whole("cell", cell, 1)
    down = images.shape[1] // cell
    across = images.shape[2] // cell
    if min(down, across) < _BLOCK:
        got = f"{cell} for {images.shape[1:]} pixels"
        raise ArgumentError("cell", got, "a third of the shorter side at most")
    gradient_y = _central_difference(images, 1)
    gradient_x = _central_difference(images, 2)
    angle = jnp.mod(jnp.rad2deg(jnp.arctan2(gradient_y, gradient_x)), 180)
    bins = jnp.floor(angle * (_ORIENTATIONS / 180)).astype(jnp.int32) % _ORIENTATIONS
    size = jnp.hypot(gradient_y, gradient_x)
    votes = size[..., None] * jax.nn.one_hot(bins, _ORIENTATIONS, dtype=size.dtype)
    votes = votes[:, : down * cell, : across * cell]
    cells = votes.reshape(-1, down, cell, across, cell, _ORIENTATIONS).mean((2, 4))
    return _blocks(cells).reshape(images.shape[0], -1)


def class_sensitivity(
    first: ArrayLike,
    second: ArrayLike,
    first_boxes: ArrayLike,
    second_boxes: ArrayLike,
    *,
    first_boxes_mask: ArrayLike | None = None,
    second_boxes_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> ClassSensitivity:
    """Of two classes' maps in an image: their correlation, their energy in own and other boxes.

    Args:
        first: `[B, H, W]`, the map of the first class, any real numbers.
        second: `[B, H, W]`, that of the second.
        first_boxes: `[B, K, 4]` or `[B, 4]`, the boxes of the first class, as in `energy_in_box`.
        second_boxes: those of the second class.
        first_boxes_mask: `[B, K]`, False for what is no box.
        second_boxes_mask: likewise.
        mask: `[B]`, False for padding.

    Returns:
        `ClassSensitivity(correlation, own, other)`, `[B]` each. correlation is NaN where a map is
        constant, own and other where a class has no box, all where a map is not finite or `mask` is
        False.

    Raises:
        ValueError: shapes are wrong or differ.
    """
    first, second = checked_pair(first, second)
    in_first = lambda saliency: energy_in_box(saliency, first_boxes, boxes_mask=first_boxes_mask)
    in_second = lambda saliency: energy_in_box(saliency, second_boxes, boxes_mask=second_boxes_mask)
    known = finite(first) & finite(second)
    return ClassSensitivity(
        correlation=only(pearson(first, second), known, mask),
        own=only((in_first(first) + in_second(second)) / 2, known, mask),
        other=only((in_second(first) + in_first(second)) / 2, known, mask),
    )


def _rank_correlation(first: ArrayLike, second: ArrayLike) -> jax.Array:
    """Pearson's correlation of ranks over all but axis 0, `[B, ...]` twice -> `[B]`."""
    rank = lambda x: rankdata(x.reshape(x.shape[0], -1), axis=1)
    return pearson(rank(first), rank(second))


def _flatten(params: Any) -> tuple[list[str], list, Any]:
    found, tree = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in found]
    return paths, [leaf for _, leaf in found], tree


def _rules(groups: Sequence[str] | Mapping) -> dict[str, Callable[[str], bool]]:
    if isinstance(groups, str) or not groups:
        raise ArgumentError("groups", repr(groups), "one or more names, or functions by name")
    if isinstance(groups, Mapping):
        return dict(groups)
    return {name: lambda path, name=name: f"{path}.".startswith(f"{name}.") for name in groups}


def _members(name: str, rule: Callable[[str], bool], paths: Sequence[str]) -> list[int]:
    indices = [i for i, path in enumerate(paths) if rule(path)]
    if not indices:
        expected = f"the beginning of parameters' paths, such as {listing(nearest(name, paths))}"
        raise ArgumentError("groups", f"{name!r}, which no parameter is in", expected)
    return indices


def _checked_fresh(paths: Sequence[str], leaves: Sequence, fresh: Any) -> list:
    """The leaves of `fresh`, once they are those of `params` in path and shape."""
    fresh_paths, values, _ = _flatten(fresh)
    if fresh_paths != list(paths):
        odd = sorted(set(fresh_paths) ^ set(paths))
        got = f"another structure, which differs in {listing(odd[:4])}"
        raise ArgumentError("fresh", got, "that of params")
    for path, old, new in zip(paths, leaves, values, strict=True):
        if jnp.shape(old) != jnp.shape(new):
            got = f"shape {jnp.shape(new)} for {path}"
            raise ArgumentError("fresh", got, f"{jnp.shape(old)}, as in params")
    return values


def _window_mean(x: jax.Array) -> jax.Array:
    """Gaussian-weighted means of all windows inside `[B, H, W]`."""
    taps = filters.gaussian(_SIGMA, _RADIUS)
    return filters.correlate(filters.correlate(x, taps, 1, pad=False), taps, 2, pad=False)


def _central_difference(x: jax.Array, axis: int) -> jax.Array:
    """x[i + 1] - x[i - 1] along an axis, 0 at either end."""
    n = x.shape[axis]
    after = jax.lax.slice_in_dim(x, 2, n, axis=axis)
    before = jax.lax.slice_in_dim(x, 0, n - 2, axis=axis)
    ends = [(0, 0)] * x.ndim
    ends[axis] = (1, 1)
    return jnp.pad(after - before, ends)


def _blocks(cells: jax.Array) -> jax.Array:
    """Every 3 x 3 block of cells, normalised, clipped, renormalised: `[B, rows, columns, 81]`."""
    rows = cells.shape[1] - _BLOCK + 1
    columns = cells.shape[2] - _BLOCK + 1
    parts = []
    for i in range(_BLOCK):
        for j in range(_BLOCK):
            parts.append(cells[:, i : i + rows, j : j + columns])
    block = jnp.concatenate(parts, -1)
    unit = lambda v: v / jnp.sqrt(jnp.square(v).sum(-1, keepdims=True) + _HOG_EPS**2)
    return unit(jnp.minimum(unit(block), _HOG_CLIP))
