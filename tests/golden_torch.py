"""Maps of torchcam's, pytorch-grad-cam's and captum's own code, kept: ours have to say the same.

    python -m tests.golden_torch --write    # with torch, torchcam, grad-cam and captum installed

The network and images are those of tests/golden.npz, in torch, and a transformer of its weights;
samples are those of `jaxcam.lime`, the factors start as those of `deep_feature_factorization`.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam._explainers import factors, surrogates
from tests import golden, golden_peers
from tests.golden_peers import TARGETS
from tests.golden_xplique import HIDE, ROWS, squares, stripes

FILE = pathlib.Path(__file__).with_suffix(".npz")
PEERS = ("torch", "torchcam", "pytorch_grad_cam", "captum", "sklearn")
LAYERS = ("layer1", "layer3")
HEADS = 2
# Of the transformer's blocks: which of the golden weights are its queries, keys and values.
BLOCKS = (("query", "key", "value"), ("value", "query", "key"))
COMPONENTS, UPDATES = 3, 30  # of the factorisation


def theirs(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps `[B, H, W]` by PEER/EXPLAINER, at the network's size where it has one of its own."""
    import torch

    images = given["images"]
    model = golden_peers.network(given)
    tokens = transformer(given)
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    found = {
        "logits": model(x).detach().numpy(),
        "logits of the transformer": tokens(x).detach().numpy(),
        "torchcam/LeGrad": _legrad(tokens, x),
    }
    found |= _fused(model, x) | _factors(model, x, given) | _sampled(model, x, images)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def ours_of_tokens(weights: dict[str, np.ndarray]) -> Callable:
    """Patches of 4 x 4, a class token, two blocks of attention with two heads."""
    w = {name: jnp.asarray(weights[name]) for name in (*BLOCKS[0], "embed", "class", "last")}

    def forward(images: jax.Array) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            images, w["embed"], (4, 4), "VALID", dimension_numbers=axes
        )
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = jnp.broadcast_to(w["class"], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([first, x], 1)
        for number, names in enumerate(BLOCKS):
            heads = [(x @ w[name]).reshape(*x.shape[:2], HEADS, -1) for name in names]
            scores = jnp.einsum("bthc,bshc->bhts", heads[0], heads[1])
            shares = jax.nn.softmax(scores / heads[0].shape[-1] ** 0.5)
            seen = jnp.einsum("bhts,bshc->bthc", shares, heads[2])
            x = jaxcam.tag(x + seen.reshape(x.shape), f"block{number}")
        return x[:, 0] @ w["last"]

    return forward


def transformer(given: dict[str, np.ndarray]) -> Any:
    """The same in torch, its attention a `MultiheadAttention` whose output is not projected."""
    import torch
    from torch.nn import functional as F

    embed = torch.tensor(given["embed"].transpose(3, 2, 0, 1).copy())
    width = embed.shape[0]

    class Block(torch.nn.Module):
        def __init__(self, names: tuple[str, ...]) -> None:
            super().__init__()
            options = {"bias": False, "batch_first": True}
            self.self_attention = torch.nn.MultiheadAttention(width, HEADS, **options)
            stacked = np.concatenate([given[name].T for name in names])
            with torch.no_grad():
                self.self_attention.in_proj_weight[:] = torch.tensor(stacked)
                self.self_attention.out_proj.weight[:] = torch.eye(width)

        def forward(self, x: Any) -> Any:
            return x + self.self_attention(x, x, x, need_weights=False)[0]

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList(map(Block, BLOCKS))

        def forward(self, x: Any) -> Any:
            x = F.conv2d(x, embed, stride=4).flatten(2).transpose(1, 2)
            x = torch.cat([torch.tensor(given["class"]).expand(len(x), 1, width), x], 1)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

        def head(self, x: Any) -> Any:
            return x[:, 0] @ torch.tensor(given["last"])

    return Net().eval()


def _legrad(model: Any, x: Any) -> Any:
    """Of both blocks, the raw mean `[B, 6, 6]`."""
    from torchcam.methods import LeGrad

    with LeGrad(model, list(model.blocks), score_projection=model.head) as made:
        scores = model(x)
        (found,) = made(TARGETS.tolist(), scores, normalized=False)
    return found.detach().numpy()


def _fused(model: Any, x: Any) -> dict[str, Any]:
    """Grad-CAM of two layers as one map: the greatest, and the mean as a heatmap."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam import methods

    x = x.clone().requires_grad_()  # no parameter of the network is one
    with methods.GradCAM(model, list(LAYERS)) as made:
        maps = made(TARGETS.tolist(), model(x))
        greatest = made.fuse_cams(maps)
    with GradCAM(model, [getattr(model, layer) for layer in LAYERS]) as made:
        mean = made(x, list(map(ClassifierOutputTarget, TARGETS)))
    return {
        "torchcam/fuse_cams": greatest.detach().numpy(),
        "pytorch-grad-cam/target_layers": mean,
    }


def start(rows: int, channels: int, mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Factors `[rows, n]` and `[n, channels]` as ours are before the first update."""
    matrix = jnp.full((rows, channels), mean, jnp.float32)
    shares, concepts = factors.begun(matrix, COMPONENTS, jax.random.key(0))
    return np.asarray(shares), np.asarray(concepts)


def _factors(model: Any, x: Any, given: dict[str, np.ndarray]) -> dict[str, Any]:
    """From our start and by our updates; then from its own, by its own: the error alone."""
    from pytorch_grad_cam.feature_factorization import deep_feature_factorization as module

    usual = module.NMF
    errors = []

    class Ours(usual):
        def __init__(self, **options: Any) -> None:
            options |= {"init": "custom", "solver": "mu", "max_iter": UPDATES, "tol": 0}
            super().__init__(**options)

        def fit_transform(self, matrix: np.ndarray) -> np.ndarray:
            shares, concepts = start(*matrix.T.shape, float(matrix.mean()))
            w, h = (
                np.ascontiguousarray(each.T.astype(matrix.dtype)) for each in (concepts, shares)
            )
            return super().fit_transform(matrix, W=w, H=h)

    class Theirs(usual):
        def fit_transform(self, matrix: np.ndarray) -> np.ndarray:
            found = super().fit_transform(matrix)
            errors.append(self.reconstruction_err_ / np.linalg.norm(matrix))
            return found

    head = torch_head(given)
    with mock.patch.object(module, "NMF", Ours):
        made = module.DeepFeatureFactorization(model, model.layer3, computation_on_concepts=head)
        concepts, masks, scores = made(x, COMPONENTS)
    with mock.patch.object(module, "NMF", Theirs):
        module.DeepFeatureFactorization(model, model.layer3)(x, COMPONENTS)
    return {
        "pytorch-grad-cam/concepts": concepts.T,
        "pytorch-grad-cam/masks": np.stack(masks),
        "pytorch-grad-cam/scores": scores,
        "pytorch-grad-cam/error": errors[0],
    }


def torch_head(given: dict[str, np.ndarray]) -> Callable:
    """The classifier of concepts `[n, c]`."""
    import torch

    return lambda concepts: concepts @ torch.tensor(given["head"])


def _sampled(model: Any, x: Any, images: np.ndarray) -> dict[str, Any]:
    """LIME of our samples, kernel and ridge; KernelSHAP of all coalitions of three segments."""
    import torch
    from captum._utils.models.linear_model import SkLearnLinearModel
    from captum.attr import KernelShap, Lime

    def ridge(_: Any, __: Any, z: Any, **___: Any) -> Any:
        ones = np.ones(z.shape[1])
        return torch.tensor(np.array(surrogates.cosine_weights(z.numpy(), ones, 0.25)))

    def asked(made: Any, segments: np.ndarray, count: int) -> np.ndarray:
        mask = torch.tensor(segments[:1, None].astype(np.int64))
        found = made.attribute(x, HIDE, torch.tensor(TARGETS), feature_mask=mask, n_samples=count)
        return found[:, 0].numpy()

    key = jax.random.key(0)
    all_of = lambda count: jnp.ones((1, count), bool)
    halves = np.array(surrogates.halves(key, ROWS, all_of(16)))[:, 0]
    every = np.array(surrogates.coalitions(key, 8, all_of(3)))[:, 0]
    line = SkLearnLinearModel("linear_model.Ridge", alpha=1.0)
    lime = Lime(model, line, ridge, _given(halves))
    with mock.patch.object(KernelShap, "kernel_shap_perturb_generator", _given(every)):
        shap = KernelShap(model)
    return {
        "captum/Lime": asked(lime, squares(images, 6), ROWS),
        "captum/KernelShap": asked(shap, stripes(images), len(every)),
    }


def _given(samples: np.ndarray) -> Callable:
    """What yields these samples, one after another."""
    import torch

    def perturbed(*_: Any, **__: Any) -> Any:
        for row in samples:
            yield torch.tensor(row[None].astype(np.int64))

    return perturbed


if __name__ == "__main__":
    sys.exit(golden.write(FILE, theirs, __doc__, sys.argv[1:]))
