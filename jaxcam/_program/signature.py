"""The type of every explainer: what it returns follows from how it is asked.

A function keeps its own signature and docstring; a type checker sees one of these protocols.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar, cast, overload

import jax

from jaxcam.targets import Targets

Answer = TypeVar("Answer", covariant=True)
# Maps of one layer, or a dict of them by name; with has_aux a pair of that and aux.
Explanation = Any
Layers = dict[str, jax.Array]


class Explainer(Protocol):
    """`(forward, images, targets, *, layer, has_aux, ...) -> maps`; see its docstring for the rest.

    One name (or none) gives an array, several names a dict; `has_aux` a pair.
    """

    __name__: str

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | None = None,
        has_aux: Literal[False] = False,
        **options: Any,
    ) -> jax.Array: ...

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: Sequence[str],
        has_aux: Literal[False] = False,
        **options: Any,
    ) -> dict[str, jax.Array]: ...

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | None = None,
        has_aux: Literal[True],
        **options: Any,
    ) -> tuple[jax.Array, Any]: ...

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: Sequence[str],
        has_aux: Literal[True],
        **options: Any,
    ) -> tuple[dict[str, jax.Array], Any]: ...

    # What is decided only when it runs.
    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | Sequence[str] | None = None,
        has_aux: bool = False,
        **options: Any,
    ) -> Explanation: ...


def explainer(function: Callable) -> Explainer:
    """A function as it is, with the type of an explainer."""
    return cast(Explainer, function)


class Explaining(Protocol):
    """`(formula, forward, images, targets, *, layer, has_aux, ...) -> maps`: `jaxcam.explain`.

    As an `Explainer`, the formula in front.
    """

    __name__: str

    @overload
    def __call__(
        self,
        formula: Callable[[jax.Array, jax.Array], jax.Array],
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | None = None,
        has_aux: Literal[False] = False,
        **options: Any,
    ) -> jax.Array: ...

    @overload
    def __call__(
        self,
        formula: Callable[[jax.Array, jax.Array], jax.Array],
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: Sequence[str],
        has_aux: Literal[False] = False,
        **options: Any,
    ) -> dict[str, jax.Array]: ...

    @overload
    def __call__(
        self,
        formula: Callable[[jax.Array, jax.Array], jax.Array],
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | None = None,
        has_aux: Literal[True],
        **options: Any,
    ) -> tuple[jax.Array, Any]: ...

    @overload
    def __call__(
        self,
        formula: Callable[[jax.Array, jax.Array], jax.Array],
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: Sequence[str],
        has_aux: Literal[True],
        **options: Any,
    ) -> tuple[dict[str, jax.Array], Any]: ...

    # What is decided only when it runs.
    @overload
    def __call__(
        self,
        formula: Callable[[jax.Array, jax.Array], jax.Array],
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | Sequence[str] | None = None,
        has_aux: bool = False,
        **options: Any,
    ) -> Explanation: ...


def explaining(function: Callable) -> Explaining:
    """`explain` as it is, with its type."""
    return cast(Explaining, function)


class Tapping(Protocol):
    """`(forward, images, targets, *, layer, has_aux, ...) -> (output, A, G)`.

    One name (or none) gives arrays, several names dicts; with `has_aux` aux comes last.
    """

    __name__: str

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | None = None,
        has_aux: Literal[False] = False,
        **options: Any,
    ) -> tuple[Any, jax.Array, jax.Array]: ...

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: Sequence[str],
        has_aux: Literal[False] = False,
        **options: Any,
    ) -> tuple[Any, Layers, Layers]: ...

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | None = None,
        has_aux: Literal[True],
        **options: Any,
    ) -> tuple[Any, jax.Array, jax.Array, Any]: ...

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: Sequence[str],
        has_aux: Literal[True],
        **options: Any,
    ) -> tuple[Any, Layers, Layers, Any]: ...

    # What is decided only when it runs.
    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        layer: str | Sequence[str] | None = None,
        has_aux: bool = False,
        **options: Any,
    ) -> Explanation: ...


def tapping(function: Callable) -> Tapping:
    """`activations_and_gradients` as it is, with its type."""
    return cast(Tapping, function)


class OneAnswer(Protocol[Answer]):
    """`(forward, images, targets, *, has_aux, ...) -> answer`: one, whatever the layers.

    With `has_aux` a pair; see its docstring for the rest.
    """

    __name__: str

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        has_aux: Literal[False] = False,
        **options: Any,
    ) -> Answer: ...

    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        has_aux: Literal[True],
        **options: Any,
    ) -> tuple[Answer, Any]: ...

    # What is decided only when it runs.
    @overload
    def __call__(
        self,
        forward: Callable,
        images: jax.Array,
        targets: Targets = None,
        *,
        has_aux: bool,
        **options: Any,
    ) -> Explanation: ...


def one_answer(kind: type[Answer]) -> Callable[[Callable], OneAnswer[Answer]]:
    """Gives a function, as it is, the type of an explainer that answers with a `kind`."""
    del kind

    def typed(function: Callable) -> OneAnswer[Answer]:
        return cast(OneAnswer[Answer], function)

    return typed
