"""Numbers of the peers' own code, kept: what ours has to say of the same network and maps.

    python -m tests.golden_peers --write    # with torch, captum, grad-cam and quantus installed

The network and images are those of tests/golden.npz, in torch; perturbations are ours, handed over.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.metrics import _correlation
from tests import golden

FILE = pathlib.Path(__file__).with_suffix(".npz")
PERCENT = (30, 50, 80)
TARGETS = np.array([0, 1])
SIDE, STEPS = 8, 3
SAMPLES, SIGMA, RADIUS = 4, 0.2, 0.02
SETS, SUBSET, GRID = 12, 0.2, 5  # of the faithfulness correlation
BOXES = np.array([[4, 2, 15, 12], [0, 6, 20, 23]])
PEERS = ("torch", "captum", "pytorch_grad_cam", "quantus")


def heat(images: np.ndarray) -> np.ndarray:
    """The saliency `[B, H, W]`, of distinct values."""
    return np.abs(images).sum(-1)


def objects(images: np.ndarray) -> np.ndarray:
    """Masks `[B, H, W]` of what BOXES mark."""
    found = np.zeros(images.shape[:3], bool)
    for mask, (left, top, right, bottom) in zip(found, BOXES, strict=True):
        mask[top : bottom + 1, left : right + 1] = True
    return found


def draws(images: np.ndarray, draw: Callable) -> np.ndarray:
    """Perturbations `[SAMPLES, 1, H, W, C]`, as `jaxcam.metrics` draws them."""
    keys = jax.random.split(jax.random.key(0), SAMPLES)
    return np.stack([np.asarray(draw(key, (1, *images.shape[1:]))) for key in keys])


def noise(key: Any, shape: tuple[int, ...]) -> jax.Array:
    """Of infidelity."""
    return SIGMA * jax.random.normal(key, shape)


def change(key: Any, shape: tuple[int, ...]) -> jax.Array:
    """Of max-sensitivity."""
    return jax.random.uniform(key, shape, jnp.float32, -RADIUS, RADIUS)


def sets(images: np.ndarray, grid: int | None) -> np.ndarray:
    """Which cells go, `[SETS, cells]`, as `jaxcam.metrics.faithfulness_correlation` draws them."""
    count = _correlation._cells(images.shape[1:3], grid).max() + 1
    keys = jax.random.split(jax.random.key(0), SETS)
    return np.asarray(jax.vmap(_correlation._subsets(int(count), SUBSET))(keys))


def theirs(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The peers' numbers, by PEER/METRIC."""
    import torch

    torch.manual_seed(0)
    model = network(given)
    images = given["images"]
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    found = {"torch/logits": model(x).detach().numpy()}
    found |= _captum(model, x, images)
    found |= _grad_cam(model, x, images)
    found |= _quantus(model, x, images)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def network(given: dict[str, np.ndarray]) -> Any:
    """`golden.convolutional` in torch."""
    import torch
    from torch.nn import functional as F

    kernel = {}
    for name in ("conv1", "conv2", "conv3", "gate"):
        kernel[name] = torch.tensor(given[name].transpose(3, 2, 0, 1).copy())
    head = torch.tensor(given["head"])

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1 = torch.nn.ReLU()
            self.layer3 = torch.nn.ReLU()
            self.head = torch.nn.Parameter(head, requires_grad=False)

        def forward(self, x: Any) -> Any:
            x = self.layer1(F.conv2d(x, kernel["conv1"], padding=1))
            x = F.relu(F.conv2d(F.pad(x, (0, 1, 0, 1)), kernel["conv2"], stride=2))
            gated = x * torch.sigmoid(F.conv2d(x, kernel["gate"]))
            x = self.layer3(F.conv2d(gated, kernel["conv3"], padding=1) + x)
            return x.mean((2, 3)) @ self.head

    return Net().eval()


def _captum(model: Any, x: Any, images: np.ndarray) -> dict[str, Any]:
    """Infidelity of the logit to noise, scaled and not; max-sensitivity of gradient x input."""
    import torch
    from captum import metrics

    target = torch.tensor(TARGETS)
    maps = torch.tensor(heat(images))[:, None].expand(x.shape)
    found = {}
    steps = torch.tensor(draws(images, noise)[:, 0].transpose(0, 3, 1, 2).copy())

    def perturb(inputs: Any) -> tuple:
        step = steps.repeat(len(images), 1, 1, 1)  # captum repeats every image SAMPLES times
        return step, inputs - step

    for name, normalize in (("infidelity", True), ("infidelity unscaled", False)):
        found[f"captum/{name}"] = metrics.infidelity(
            model, perturb, x, maps, target=target, n_perturb_samples=SAMPLES, normalize=normalize
        ).numpy()

    moves = torch.tensor(draws(images, change)[:, 0].transpose(0, 3, 1, 2).copy())

    def explain(inputs: Any, target: int) -> Any:
        (inputs,) = inputs if isinstance(inputs, tuple) else (inputs,)
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():  # captum switches it off
            scores = model(inputs)[:, target].sum()
            (gradient,) = torch.autograd.grad(scores, inputs)
        return ((gradient * inputs).sum(1, keepdim=True).detach(),)

    changes = []
    for image, target in zip(x, TARGETS, strict=True):
        most = metrics.sensitivity_max(
            explain,
            image[None],
            perturb_func=lambda inputs: (inputs[0] + moves,),
            n_perturb_samples=SAMPLES,
            max_examples_per_batch=SAMPLES,
            target=int(target),
        )
        changes.append(most.numpy())
    found["captum/max_sensitivity"] = np.concatenate(changes)
    return found


def _grad_cam(model: Any, x: Any, images: np.ndarray) -> dict[str, Any]:
    """ROAD's confidences without noise, and ARCC of maps that are there."""
    from pytorch_grad_cam.metrics import arcc, road
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    usual = road.NoisyLinearImputer.__init__
    road.NoisyLinearImputer.__init__ = lambda self, noise=0.0, **more: usual(self, noise, **more)
    targets = list(map(ClassifierOutputSoftmaxTarget, TARGETS))
    maps = heat(images)
    found = {}
    for name, kind in (("morf", road.ROADMostRelevantFirst), ("lerf", road.ROADLeastRelevantFirst)):
        curve = []
        for percent in PERCENT:
            metric = kind(percentile=100 - percent)  # what is kept
            curve.append(metric(x, maps, targets, model, return_diff=False))
        found[f"pytorch-grad-cam/{name}"] = np.stack(curve, 1)
    scaled = unit(-maps)  # whose ROAD is positive
    metric = arcc.ARCC(lambda input_tensor, targets: input_tensor.numpy().sum(1))
    found["pytorch-grad-cam/arcc"] = metric(x, scaled, targets, model)
    road.NoisyLinearImputer.__init__ = usual
    return found


def unit(maps: np.ndarray) -> np.ndarray:
    """Each map scaled to [0, 1]."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / (high - low)


def _quantus(model: Any, x: Any, images: np.ndarray) -> dict[str, Any]:
    """Mass and rank accuracy, the pointing game on masks, region perturbation with zeros."""
    import quantus

    call = {
        "model": model,
        "x_batch": x.numpy(),
        "y_batch": TARGETS,
        "a_batch": heat(images)[:, None],
        "s_batch": objects(images)[:, None],
        "device": "cpu",
        "softmax": True,
    }
    plain = {"abs": False, "normalise": False, "disable_warnings": True}
    metrics = quantus.metrics
    found = {
        "mass_accuracy": metrics.RelevanceMassAccuracy(**plain)(**call),
        "rank_accuracy": metrics.RelevanceRankAccuracy(**plain)(**call),
        "pointing_at": metrics.PointingGame(**plain)(**call),
    }
    region = metrics.RegionPerturbation(
        patch_size=SIDE, regions_evaluation=STEPS, perturb_baseline=0.0, **plain
    )
    found["region_perturbation"] = np.stack(region(**call))
    # It draws colours of pixels, anew for each photo.
    gone = np.tile(sets(images, None), (1, images.shape[-1]))
    drawn = iter(np.repeat(gone, len(images), 0))
    sums = metrics.FaithfulnessCorrelation(
        nr_runs=SETS,
        subset_size=int(gone[0].sum()),
        perturb_baseline=0.0,
        return_aggregate=False,
        **plain,
    )
    with mock.patch.object(np.random, "choice", lambda *_, **__: np.flatnonzero(next(drawn))):
        found["faithfulness_correlation"] = sums(**call)
    return {f"quantus/{name}": value for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(golden.write(FILE, theirs, __doc__, sys.argv[1:]))
