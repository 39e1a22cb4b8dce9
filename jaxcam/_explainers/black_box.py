"""A model that can only be asked: what RISE, LIME and MASK know of it.

Nothing is known of the model but its answers, so it may be any function, also one outside JAX:
then it is called with NumPy arrays, between compiled pieces (`host=True`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground.dtypes import floating, is_real, reals
from jaxcam._ground.errors import ArgumentError, check_flag
from jaxcam._ground.text import counted
from jaxcam._program import eager, quick, trace
from jaxcam._program.checks import check_images, of_other_axes
from jaxcam._program.narrow import Dtype, narrowed
from jaxcam._program.trace import check_forward
from jaxcam._program.versions import over_versions
from jaxcam.targets import Activation, Targets, check, concrete, confidence, resolve

# (done, total) -> anything; called on the host after each chunk
Progress = Callable[[int, int], Any]


class BlackBox(NamedTuple):
    """A model, and what it is asked."""

    forward: Callable  # images [B, *spatial, C] -> outputs, or (outputs, aux)
    targets: Any  # resolved: [B], [B, K] or a function of the outputs
    activation: Activation  # of the outputs, see `jaxcam.targets.probabilities`
    host: bool = False  # whether it lives outside JAX
    has_aux: bool = False

    def ask(self, images: jax.Array) -> Any:
        """Outputs `[n, B, N]` of n versions of each image, `[n, B, *spatial, C]`.

        A model in JAX is mapped over the versions, so that one which closes over something of the
        batch's size is asked as ever.
        """
        if not self.host:
            return _in_jax(over_versions(self.output), images)
        n, batch = images.shape[:2]
        try:
            outputs = self.output(images.reshape(n * batch, *images.shape[2:]))
        except Exception as error:
            if isinstance(error, ArgumentError) or not self._takes(images[0]):
                raise
            said = str(error).partition("\n")[0]
            got = (
                f"an error of {n * batch} images, {n} versions of each, but none of {batch}: {said}"
            )
            expected = "any number of images; of a model that closes over the batch, batches of one"
            raise ArgumentError("forward", got, expected) from error
        return jax.tree.map(lambda x: x.reshape(n, batch, *x.shape[1:]), outputs)

    def _takes(self, images: jax.Array) -> bool:
        """Whether the model answers of a batch as it came."""
        try:
            self.output(images)
        except Exception:
            return False
        return True

    def output(self, images: jax.Array) -> Any:
        """What the model returns, without aux."""
        return self.parted(images)[0]

    def parted(self, images: Any) -> tuple[Any, Any]:
        """What the model returns, and aux (or None)."""
        if self.host:
            images = np.asarray(images)
        with of_other_axes(images):
            output = self._quick(images)
        aux = None
        if self.has_aux:
            output, aux = output
        if self.host:
            output = jax.tree.map(np.asarray, output)
        if not callable(self.targets):
            check_outputs(output, len(images))
        return output, aux

    def _quick(self, images: Any) -> Any:
        if self.host:
            return self.forward(images)
        return quick.rewritten(self.forward)(images)

    def scores(self, images: jax.Array, *, each: bool = False) -> jax.Array:
        """Confidences `[n, B]` (`[n, B, K]`) of n versions of each image, float32.

        With `each`, of K versions and K targets: `[K, B]`, each version in its own target alone, so
        that nothing of one reaches another's gradient.
        """
        outputs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), self.ask(images))
        if each:
            own = lambda output, classes: confidence(output, classes, self.activation)
            return jax.vmap(own)(outputs, self.targets.T)
        return jax.vmap(lambda each: confidence(each, self.targets, self.activation))(outputs)

    @property
    def kinds(self) -> tuple[int, ...]:
        """(K,) for K targets per image, () for one."""
        if callable(self.targets):
            return ()
        return self.targets.shape[1:]


class Asked(NamedTuple):
    """The images as a JAX array of floats, the model with what it is asked, and aux (or None)."""

    images: jax.Array
    box: BlackBox
    aux: Any


def black_box(
    forward: Callable,
    images: Any,
    targets: Targets,
    activation: Activation,
    *,
    host: bool = False,
    has_aux: bool = False,
    progress: Progress | None = None,
    dtype: Dtype = None,
) -> Asked:
    """A model as a black box, every argument being found right; asked once for what is not known.

    That is the arg-max class, if `targets` is None, and aux; all further questions are in `dtype`.
    """
    check_forward(forward)
    check_flag("host", host)
    check_flag("has_aux", has_aux)
    if host and dtype is not None:
        raise ArgumentError("dtype", repr(dtype), "None for a model outside JAX")
    if not host:
        forward = trace.Held(forward)
    asked = _asked(forward, images, targets, activation, host, has_aux, progress)
    box = asked.box
    return asked._replace(box=box._replace(forward=narrowed(box.forward, dtype)))


def _asked(
    forward: Callable,
    images: Any,
    targets: Targets,
    activation: Activation,
    host: bool,
    has_aux: bool,
    progress: Progress | None,
) -> Asked:
    images = reals("images", images)
    check_images(images)
    images = floating(images)
    for name, given in (("host", host), ("progress", progress)):
        if given and concrete(images) is None:
            got = f"{given!r} inside a transformation such as jax.jit"
            raise ArgumentError(name, got, "concrete images")
    if progress and not host:
        forward = eager.held(forward)
    box = BlackBox(forward, targets, activation, host, has_aux)
    if targets is None or has_aux:
        output, aux = _in_jax(box.parted, images)
        return Asked(images, box._replace(targets=_resolved(output, targets)), aux)
    if not host:
        output = _in_jax(lambda x: jax.eval_shape(box.output, x), images)
        return Asked(images, box._replace(targets=_checked(output, targets)), None)
    # How many classes there are is known with the first answers: `scores` checks the range then.
    most = np.iinfo(np.int32).max
    return Asked(images, box._replace(targets=check(targets, len(images), most)), None)


def _resolved(output: Any, targets: Targets) -> Any:
    if callable(targets):
        return targets
    return resolve(jnp.asarray(output), targets)


def _checked(shapes: Any, targets: Targets) -> Any:
    if callable(targets):
        return targets
    return check(targets, *shapes.shape)


def _in_jax(function: Callable, images: jax.Array) -> Any:
    """`function`, saying what to do where it turns out to be one of NumPy arrays."""
    try:
        return function(images)
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            "forward: got a function of NumPy arrays, expected one of JAX arrays; jaxcam.rise and "
            "jaxcam.lime take a model outside JAX with host=True, and jaxcam.blackbox.callback "
            "makes it a function of JAX arrays"
        ) from error


def check_outputs(outputs: Any, batch: int) -> None:
    """Raises a ValueError unless a model returned `[batch, N]`."""
    shape = getattr(outputs, "shape", None)
    if shape is not None and not is_real(outputs.dtype):
        raise ArgumentError("forward", f"{outputs.dtype} values", f"real numbers [{batch}, N]")
    if shape is not None and len(shape) == 2 and shape[0] == batch:
        return
    found = f"a {type(outputs).__name__}"
    if shape is not None:
        found = f"an output of shape {tuple(shape)}"
    raise ArgumentError("forward", f"{found} for {counted(batch, 'image')}", f"[{batch}, N]")
