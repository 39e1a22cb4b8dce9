"""PyTorch by itself: forward passes, steps and what its libraries do not have, written by hand."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from eval.costs.peers import cases

Side = Any  # a `theirs.Torch`
_BETA = 100.0
_AT_ONCE = 4  # steps of a game, as here
_MASKS_AT_ONCE = 32


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


# Forward passes -------------------------------------------------------


def forward(side: Side, case: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """A forward pass in one of its forms."""
    model = side.model
    images = side.images
    if case["form"] == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    elif case["form"] == "compile":
        model = torch.compile(model)

    def run(given: Any) -> torch.Tensor:
        del given
        with torch.inference_mode():
            return model(images)

    return run, _array


def at_layer(side: Side, layer: str, formula: Callable) -> Callable:
    """A call that gives `formula(side, logits, A)` of a pass with gradients from the layer up."""
    kept: dict[str, torch.Tensor] = {}

    def hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        del module, inputs
        kept["activation"] = output.detach().requires_grad_()
        return kept["activation"]

    side.layer(layer).register_forward_hook(hook)

    def run(given: Any) -> Any:
        del given
        return formula(side, side.model(side.images), kept["activation"])

    return run


def _scores(side: Side, logits: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, side.targets[:, None])[:, 0]


# Gradients ------------------------------------------------------------


def _gradient(side: Side, case: Mapping[str, Any]) -> tuple[Callable, Callable]:
    del case
    images = side.images.clone().requires_grad_()

    def run(given: Any) -> torch.Tensor:
        del given
        total = _scores(side, side.model(images)).sum()
        return torch.autograd.grad(total, images)[0].sum(1)

    return run, _array


def _grad_cam(side: Side, case: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """Parameters ask for no gradient, so that nothing below the layer is recorded."""
    side.model.requires_grad_(False)
    return at_layer(side, case["layer"], _grad_cam_map), _array


def _grad_cam_map(side: Side, logits: torch.Tensor, activation: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(_scores(side, logits).sum(), activation)
    return _weighted(activation, gradient).detach()


def _weighted(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    weights = gradient.mean((2, 3), keepdim=True)
    return functional.relu((weights * activation).sum(1))


# Perturbation ---------------------------------------------------------


def _rise(side: Side, case: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """Masks of 7 x 7 cells, upsampled and shifted: S = sum_i y_i M_i / (N p)."""
    del case
    height, width = side.images.shape[2:]
    images = side.images

    @torch.inference_mode()
    def run(given: Any) -> torch.Tensor:
        del given
        masks = _masks(cases.MASKS, height, width, images)
        total = torch.zeros(len(images), height, width, dtype=images.dtype, device=images.device)
        for first in range(0, cases.MASKS, _MASKS_AT_ONCE):
            chunk = masks[first : first + _MASKS_AT_ONCE]
            masked = (chunk[:, None, None] * images).flatten(0, 1)
            logits = side.model(masked).unflatten(0, (len(chunk), len(images)))
            classes = side.targets[None, :, None].expand(len(chunk), -1, 1)
            scores = logits.softmax(-1).gather(2, classes)[..., 0]
            total += torch.einsum("nb,nhw->bhw", scores, chunk)
        return total / (cases.MASKS * 0.5)

    return run, lambda result: None


def _masks(count: int, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    cell = (-(-height // 7), -(-width // 7))
    grids = (torch.rand(count, 1, 7, 7, device=like.device) < 0.5).to(like.dtype)
    size = (8 * cell[0], 8 * cell[1])
    large = functional.interpolate(grids, size, mode="bilinear", align_corners=False)[:, 0]
    masks = []
    for mask in large:
        top = int(torch.randint(cell[0], ()))
        left = int(torch.randint(cell[1], ()))
        masks.append(mask[top : top + height, left : left + width])
    return torch.stack(masks)


def _game(insert: bool) -> Callable:
    """Deletion or insertion in `cases.STEPS` steps, the baseline 0."""

    def build(side: Side, case: Mapping[str, Any]) -> tuple[Callable, Callable]:
        del case
        images = side.images
        pixels = images.shape[2] * images.shape[3]
        size = -(-pixels // cases.STEPS)
        steps = -(-pixels // size)

        def confidence(changed: torch.Tensor) -> torch.Tensor:
            count = len(changed) // len(images)
            logits = side.model(changed).unflatten(0, (count, len(images)))
            classes = side.targets[None, :, None].expand(count, -1, 1)
            return logits.softmax(-1).gather(2, classes)[..., 0]

        @torch.inference_mode()
        def run(given: Any) -> torch.Tensor:
            del given
            flat = side.saliency.flatten(1)
            ranks = flat.argsort(1, descending=True).argsort(1).view_as(side.saliency)
            points = []
            for first in range(0, steps + 1, _AT_ONCE):
                numbers = range(first, min(first + _AT_ONCE, steps + 1))
                kept = [(ranks < number * size) == insert for number in numbers]
                masked = torch.stack(kept)[:, :, None] * images
                points.append(confidence(masked.flatten(0, 1)))
            return torch.cat(points).T

        return run, _array

    return build


# Training -------------------------------------------------------------


def _training(side: Side, case: Mapping[str, Any]) -> tuple[Callable, Callable]:
    del case
    model = side.model.train()

    def run(given: Any) -> torch.Tensor:
        del given
        model.zero_grad()
        loss = functional.cross_entropy(model(side.images).float(), side.targets)
        loss.backward()
        return loss

    return run, lambda loss: _step(model, loss)


def _fostering(side: Side, case: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """The cross-entropy and beta times the entropy of Grad-CAM, whose gradient has a graph."""
    model = side.model.train()
    kept: dict[str, torch.Tensor] = {}
    keep = lambda module, inputs, output: kept.update(activation=output)
    model.get_submodule(case["layer"]).register_forward_hook(keep)

    def run(given: Any) -> torch.Tensor:
        del given
        model.zero_grad()
        logits = model(side.images)
        activation = kept["activation"]
        scores = _scores(side, logits).sum()
        (gradient,) = torch.autograd.grad(scores, activation, create_graph=True)
        maps = _weighted(activation, gradient)
        loss = functional.cross_entropy(logits.float(), side.targets)
        loss = loss + _BETA * _entropy(maps.float())
        loss.backward()
        return loss

    return run, lambda loss: _step(model, loss)


def _entropy(maps: torch.Tensor) -> torch.Tensor:
    """Mean over the maps that have a positive value."""
    flat = maps.flatten(1)
    counts = flat.amax(1) > 0
    total = flat.sum(1, keepdim=True)
    p = flat / torch.where(total == 0, 1, total)
    each = -torch.where(p == 0, 0, p * torch.where(p == 0, 1, p).log()).sum(1)
    return torch.where(counts, each, 0).sum() / counts.sum().clamp(min=1)


def _step(model: torch.nn.Module, loss: torch.Tensor) -> np.ndarray:
    """The loss and the size of each parameter's gradient, by key."""
    sizes = {name: parameter.grad.float().norm() for name, parameter in model.named_parameters()}
    return np.array([float(loss.detach()), *(float(sizes[key]) for key in sorted(sizes))])


BUILDERS: dict[str, Callable] = {
    cases.FORWARD: forward,
    "gradient": _gradient,
    "grad_cam": _grad_cam,
    "rise": _rise,
    "deletion": _game(insert=False),
    "insertion": _game(insert=True),
    "training": _training,
    "fostering": _fostering,
}
