"""Our ResNets and VGGs with torchvision's weights give the maps of PyTorch, at every stage."""

import ast
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import models


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11", "vgg16_bn"])
def test_maps_equal_pytorchs(shared, name):
    reference = np.load(shared / "reference/torchvision_seed0.npz")
    spec = importlib.util.spec_from_file_location(
        "seeded_weights", shared / "reference/seeded_weights.py"
    )
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    shapes = map(ast.literal_eval, reference[f"{name}/shapes"].tolist())
    shapes = dict(zip(reference[f"{name}/keys"].tolist(), shapes, strict=True))
    variables = models.from_torchvision(name, seeded.seeded_state_dict(shapes, 0))
    images = jnp.asarray(reference["images"].transpose(0, 2, 3, 1))
    layers = [key.split("/")[2] for key in reference if key.startswith(f"{name}/grad_cam/")]

    @jax.jit
    def explain(variables, images, targets):
        forward = jaxcam.linen(models.create(name), variables)
        options = {"layer": layers, "relu": None}
        plus_plus = jaxcam.grad_cam_plus_plus(
            forward, images, targets, variant="jacobgil", **options
        )
        return {
            "grad_cam": jaxcam.grad_cam(forward, images, targets, **options),
            "grad_cam_plus_plus": plus_plus,
        }

    maps = explain(variables, images, reference[f"{name}/targets"])
    assert layers
    for method in maps:
        for layer in layers:
            expected = reference[f"{name}/{method}/{layer}"]
            error = np.linalg.norm(maps[method][layer] - expected) / np.linalg.norm(expected)
            assert error < 1e-4, (method, layer, error)
