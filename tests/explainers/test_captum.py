"""Agreement with captum on a small network, where it and torch are installed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

torch = pytest.importorskip("torch")
captum = pytest.importorskip("captum.attr")

CLASSES = [1, 3]


@pytest.fixture(scope="module")
def twins():
    """(forward, images, torch's model, its images) in float64: two convolutions and a head."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(3, 3, 3, 5)), rng.normal(size=(3, 3, 5, 6)) / 3
    head, bias = rng.normal(size=(6, 4)), rng.normal(size=5)
    images = rng.normal(size=(2, 8, 8, 3))

    def conv(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = jnp.asarray(kernel, x.dtype)
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def forward(x):
        x = jax.nn.relu(conv(x, first) + jnp.asarray(bias, x.dtype).reshape(1, 1, 1, -1))
        x = nn.max_pool(x, (2, 2), (2, 2))  # the first of equals wins, as in torch
        x = jaxcam.tag(jax.nn.relu(conv(x, second)), "top")
        return x.mean((1, 2)) @ jnp.asarray(head, x.dtype)

    layers = [
        torch.nn.Conv2d(3, 5, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(5, 6, 3, padding=1, bias=False),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 4, bias=False),
    ]
    model = torch.nn.Sequential(*layers).double().eval()
    with torch.no_grad():
        layers[0].weight[:] = torch.tensor(first.transpose(3, 2, 0, 1))
        layers[0].bias[:] = torch.tensor(bias)
        layers[3].weight[:] = torch.tensor(second.transpose(3, 2, 0, 1))
        layers[7].weight[:] = torch.tensor(head.T)
    theirs = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    with jax.enable_x64(True):
        yield forward, jnp.asarray(images), model, theirs


def summed(terms):
    return terms.detach().numpy().sum(1)


CAPTUM = {
    "gradient": lambda m, x, t: captum.Saliency(m).attribute(x, t, abs=False),
    "gradient_input": lambda m, x, t: captum.InputXGradient(m).attribute(x, t),
    "integrated_gradients": lambda m, x, t: captum.IntegratedGradients(m).attribute(
        x, 0.0, t, n_steps=7, method="riemann_middle"
    ),
    "guided_backprop": lambda m, x, t: captum.GuidedBackprop(m).attribute(x, t),
    "deconvnet": lambda m, x, t: captum.Deconvolution(m).attribute(x, t),
    "guided_grad_cam": lambda m, x, t: captum.GuidedGradCam(m, m[4]).attribute(
        x, t, interpolate_mode="bilinear"
    ),
}
OPTIONS = {"integrated_gradients": {"steps": 7}, "guided_grad_cam": {"layer": "top"}}


@pytest.mark.parametrize("name", CAPTUM)
@pytest.mark.filterwarnings("ignore")
def test_maps_at_the_pixels_are_captums(twins, name):
    forward, images, model, theirs = twins
    expected = summed(CAPTUM[name](model, theirs, torch.tensor(CLASSES)))
    options = {"reduction": "sum", **OPTIONS.get(name, {})}
    with jax.enable_x64(True):
        found = getattr(jaxcam, name)(forward, images, CLASSES, **options)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_occlusion_is_captums(twins):
    forward, images, model, theirs = twins
    occluded = captum.Occlusion(model)
    expected = occluded.attribute(theirs, (3, 4, 4), (3, 2, 2), 0.0, torch.tensor(CLASSES))
    with jax.enable_x64(True):
        found = jaxcam.occlusion(
            forward, images, CLASSES, window=4, stride=2, activation="identity"
        )
    np.testing.assert_allclose(found, expected.detach().numpy()[:, 0], rtol=1e-5, atol=1e-6)
