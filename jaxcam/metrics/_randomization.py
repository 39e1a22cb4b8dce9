"""Does the map depend on the model, and on the class?

By randomised parameters, and by the maps of two classes; `_similarity` compares maps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground.errors import ArgumentError, check_flag, listing, nearest, renaming
from jaxcam._ground.randomness import check_key
from jaxcam.metrics._common import checked_pair, finite, only, pearson
from jaxcam.metrics._localization import energy_in_box

Params = TypeVar("Params")  # a pytree of arrays


class ClassSensitivity(NamedTuple):
    """How differently two classes are explained in one image, `[B]` each."""

    correlation: jax.Array  # Pearson's, of the two maps: low is sensitive
    own: jax.Array  # mean energy of a map in its own class's boxes: high is right
    other: jax.Array  # mean energy of a map in the other class's boxes


# Randomised parameters ------------------------------------------------


def cascade(
    params: Params,
    groups: Sequence[str] | Mapping[str, Callable[[str], bool]],
    fresh: Params,
    *,
    independent: bool = False,
) -> Iterator[tuple[str, Params]]:
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

    Example:
        >>> params = {"stem": jnp.ones(2), "head": jnp.ones(2)}
        >>> fresh = {"stem": jnp.zeros(2), "head": jnp.zeros(2)}
        >>> for name, mixed in jaxcam.metrics.cascade(params, ["head", "stem"], fresh):
        ...     print(name, mixed["stem"], mixed["head"])
        head [1. 1.] [0. 0.]
        stem [0. 0.] [0. 0.]
    """
    check_flag("independent", independent)
    paths, leaves, tree = _flatten(params)
    new = _checked_fresh(paths, leaves, fresh)
    members = {name: _members(name, rule, paths) for name, rule in _rules(groups).items()}
    replaced: set[int] = set()
    for name, indices in members.items():
        replaced = set(indices) if independent else replaced | set(indices)
        mixed = [new[i] if i in replaced else leaf for i, leaf in enumerate(leaves)]
        yield name, jax.tree.unflatten(tree, mixed)


def shuffled(params: Params, key: jax.Array) -> Params:
    """Parameters with the entries of each array permuted.

    Untrained yet as large, where no initialiser is known.

    Args:
        params: any pytree of arrays.
        key: of `jax.random.key`.

    Returns:
        A pytree like `params`.

    Raises:
        TypeError: a leaf is no array, or `key` no key.

    Example:
        >>> params = {"kernel": jnp.arange(4.0)}
        >>> mixed = jaxcam.metrics.shuffled(params, jax.random.key(1))
        >>> print(mixed["kernel"].sum(), mixed["kernel"].shape)
        6.0 (4,)
    """
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(check_key(key), len(leaves))
    permuted = lambda key, x: jax.random.permutation(key, jnp.ravel(x)).reshape(x.shape)
    return jax.tree.unflatten(tree, map(permuted, keys, leaves))


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

    Example:
        >>> one, other = heat[:1], heat[1:]  # maps of two classes in one image
        >>> found = jaxcam.metrics.class_sensitivity(one, other, boxes[:1], boxes[1:])
        >>> print(found.correlation, found.own, found.other)
        [-0.12] [1.] [0.]
    """
    first, second = checked_pair(first, second)

    def in_first(saliency: jax.Array) -> jax.Array:
        with renaming(boxes="first_boxes", boxes_mask="first_boxes_mask"):
            return energy_in_box(saliency, first_boxes, boxes_mask=first_boxes_mask)

    def in_second(saliency: jax.Array) -> jax.Array:
        with renaming(boxes="second_boxes", boxes_mask="second_boxes_mask"):
            return energy_in_box(saliency, second_boxes, boxes_mask=second_boxes_mask)

    known = finite(first) & finite(second)
    return ClassSensitivity(
        correlation=only(pearson(first, second), known, mask),
        own=only((in_first(first) + in_second(second)) / 2, known, mask),
        other=only((in_second(first) + in_first(second)) / 2, known, mask),
    )


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
