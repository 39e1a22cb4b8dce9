"""Where a layer's cells lie: from the program, against what they see."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import maps

pytestmark = pytest.mark.lenient  # flax's average pool divides by an integer
SIDE = 37  # of the images: odd, so that paddings at the end alone show


def conv(x, size, stride, padding, **options):
    kernel = jnp.ones((size, size, x.shape[-1], 2)) / size**2
    numbers = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, **options
    )


def same(x):
    for _ in range(3):
        x = conv(x, 3, 2, "SAME")
    return x


def torch_like(x):
    x = conv(x, 7, 2, [(3, 3), (3, 3)])
    x = nn.avg_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])
    return conv(x, 3, 2, [(1, 1), (1, 1)])


def valid(x):
    x = conv(x, 5, 2, "VALID")
    return nn.avg_pool(x, (2, 2), (2, 2))


def dilated(x):
    return conv(conv(x, 3, 1, "SAME", rhs_dilation=(2, 2)), 2, 3, "VALID")


def transposed(x):
    x = conv(x, 3, 4, "VALID")
    return conv(x, 3, 1, [(1, 1), (1, 1)], lhs_dilation=(2, 2))


def padded(x):
    x = jnp.pad(x, ((0, 0), (1, 3), (4, 2), (0, 0)))
    return conv(x, 3, 2, "VALID")


def sliced(x):
    return conv(jax.lax.slice(x, (0, 3, 1, 0), (1, 35, 33, 3), (1, 2, 2, 1)), 3, 2, "VALID")


def embedded(x):
    """Patches by reshape, as in an MLP-Mixer without a convolution."""
    x = x[:, :36, :36]
    x = x.reshape(1, 9, 4, 9, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1, 9, 9, 48)
    return x @ jnp.ones((48, 2))


def tokens(x):
    x = embedded(x).reshape(1, 81, 2)
    return jnp.concatenate([jnp.zeros((1, 1, 2)), x], 1)


def mirrored(x):
    return conv(x[:, ::-1], 3, 2, "SAME")


def branches(x):
    """A shortcut of one kernel position beside SAME's three: it lies between."""
    return conv(x, 1, 2, "SAME") + conv(x, 3, 2, "SAME")


NETS = [same, torch_like, valid, dilated, transposed, padded, sliced, embedded, tokens, mirrored]


def seen(net, size, cell):
    """The centre of mass of what a cell's sum of channels takes of the pixels, `(y, x)`."""
    images = jnp.zeros((1, *size, 3))
    known = jaxcam.layers(lambda x: jaxcam.tag(net(x), "layer"), images)
    rows = known.grids["layer"]

    def value(x):
        out = net(x)
        if out.ndim == 3:
            out = out[:, 1:].reshape(1, *rows, -1)
        return out[0, cell[0], cell[1]].sum()

    mass = np.abs(np.asarray(jax.grad(value)(images)), dtype=np.float64)[0].sum(-1)
    y = (mass.sum(1) * np.arange(size[0])).sum() / mass.sum()
    x = (mass.sum(0) * np.arange(size[1])).sum() / mass.sum()
    return y, x


@pytest.mark.parametrize("net", [*NETS, branches], ids=lambda net: net.__name__)
def test_a_cell_lies_in_the_middle_of_what_it_sees(net):
    size = (SIDE, SIDE + 4)
    forward = lambda x: jaxcam.tag(net(x), "layer").sum((1,))
    known = jaxcam.layers(forward, jnp.zeros((1, *size, 3)))
    found = known.centers["layer"]
    assert found.size == size
    cell = (2, 2)  # away from the borders
    expected = seen(net, size, cell)
    at = [start + step * i for start, step, i in zip(found.start, found.step, cell, strict=True)]
    np.testing.assert_allclose(at, expected, atol=1e-3 if net is not branches else 0.5)
    nearby = seen(net, size, (3, 2))
    np.testing.assert_allclose(nearby[0] - expected[0], found.step[0], atol=1e-3)


def test_branches_that_lie_apart_lie_between():
    forward = lambda x: jaxcam.tag(branches(x), "layer").sum((1, 2))
    even = jaxcam.layers(forward, jnp.zeros((1, 32, 32, 3))).centers["layer"]
    assert even == ((0.5, 0.5), (2.0, 2.0), (32, 32))  # 0 of the shortcut, 1 of the three


def test_what_is_not_known_is_not_said():
    def resized(x):
        return jaxcam.tag(jax.image.resize(x, (1, 9, 9, 3), "bilinear"), "layer").sum((1, 2))

    known = jaxcam.layers(resized, jnp.zeros((1, SIDE, SIDE, 3)))
    assert "layer" not in known.centers


def test_layers_says_where_cells_lie():
    forward = lambda x: jaxcam.tag(same(jaxcam.tag(x * 2, "first")), "layer").sum((1, 2))
    text = str(jaxcam.layers(forward, jnp.zeros((1, 32, 32, 3))))
    assert text.splitlines() == [
        "first  [1, 32, 32, 3]",
        "layer  [1, 4, 4, 2]  (default)  every 8 px from 7",
    ]


@pytest.mark.parametrize("net", [same, torch_like, valid, padded], ids=lambda net: net.__name__)
def test_a_spot_is_drawn_where_it_is(net):
    """The strongest cell's answer to a bright pixel, drawn, is brightest within its receptive
    field's centre: one pixel."""
    images = jnp.zeros((1, 64, 64, 3))
    forward = lambda x: jaxcam.tag(net(x), "layer").sum((1, 2))
    found = jaxcam.layers(forward, images).centers["layer"]
    raw = np.zeros((1, *net(images).shape[1:3]))
    raw[0, 3, 2] = 1
    big = np.asarray(maps.resize(raw, (64, 64), centers=found))[0]
    y, x = np.unravel_index(big.argmax(), big.shape)
    expected = [found.start[0] + 3 * found.step[0], found.start[1] + 2 * found.step[1]]
    np.testing.assert_allclose((y, x), expected, atol=0.5)


def literal(raw, size, centers, method):
    """Pixel by pixel, each of the nearest cells by its distance in cells."""

    def share(distance):
        if method == "bilinear":
            return max(0.0, 1 - distance)
        a = -0.75
        if distance <= 1:
            return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        if distance < 2:
            return a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        return 0.0

    out = np.zeros(size)
    for y, x in np.ndindex(*size):
        where = []
        for axis, pixel in enumerate((y, x)):
            in_image = (pixel + 0.5) * centers.size[axis] / size[axis] - 0.5
            cell = (in_image - centers.start[axis]) / centers.step[axis]
            where.append(cell)
        for i in range(-9, raw.shape[0] + 9):
            for j in range(-9, raw.shape[1] + 9):
                value = raw[min(max(i, 0), raw.shape[0] - 1), min(max(j, 0), raw.shape[1] - 1)]
                out[y, x] += share(abs(where[0] - i)) * share(abs(where[1] - j)) * value
    return out


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_resize_with_centers_equals_the_literal_sum(rng, method):
    raw = rng.normal(size=(4, 3))
    centers = jaxcam.Centers((5.0, -1.5), (8.0, 11.0), (32, 30))
    found = maps.resize(raw, (16, 45), method, centers=centers)
    np.testing.assert_allclose(found, literal(raw, (16, 45), centers, method), atol=1e-5)


def test_stretched_centers_are_the_plain_resize(rng):
    """Cells that tile the image lie where stretching puts them."""
    raw = rng.normal(size=(2, 4, 8))
    tiled = jaxcam.Centers((3.5, 1.5), (8.0, 4.0), (32, 32))
    for method in ("bilinear", "bicubic", "nearest"):
        found = maps.resize(raw, (32, 32), method, centers=tiled)
        np.testing.assert_allclose(found, maps.resize(raw, (32, 32), method), atol=1e-5)


def test_centers_of_other_axes_are_refused(rng):
    centers = jaxcam.Centers((0.0,), (2.0,), (8,))
    with pytest.raises(ValueError, match=r"centers: got 1 axes, expected those of maps"):
        maps.resize(rng.normal(size=(4, 4)), (8, 8), centers=centers)
