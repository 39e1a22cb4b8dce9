"""The trained CIFAR-10 ResNet-20 and its reference maps, loaded once."""

import numpy as np
import pytest

import jaxcam
from tests import nets


@pytest.fixture(scope="session")
def cifar(shared):
    """(reference arrays, Linen variables, forward, images, targets)."""
    reference = np.load(shared / "reference/cams_cifar10_resnet20.npz")
    variables = nets.load_cifar(shared, 20)
    forward = jaxcam.linen(nets.CifarResNet(), variables)
    return reference, variables, forward, nets.normalized(reference["images"]), reference["targets"]
