"""PyTorch's side: its libraries and itself, one in each process, on the same weights and images.

A tensor of images is `[B, C, H, W]` here; what is compared is turned to `[B, h, w]`. Libraries are
imported when they are asked for, since each process has one.
"""

import copy
import importlib
import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from importlib import metadata
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torchvision  # pyright: ignore[reportMissingImports]

from eval.costs.peers import by_hand, cases
from eval.costs.peers.child import Call, LeftOut

_IMPORTS = {
    "pytorch-grad-cam": "pytorch_grad_cam",
    "torchcam": "torchcam.methods",
    "captum": "captum.attr",
    "zennit": "zennit.composites",
}


def opened(name: str) -> "Torch":
    """A framework.

    Raises:
        ImportError: it is not installed.
    """
    if name in _IMPORTS:
        importlib.import_module(_IMPORTS[name])
    return Torch(name)


class Torch:
    """A library, or PyTorch by itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def versions(self) -> dict[str, str]:
        """Of its packages."""
        found = {}
        for package in cases.PACKAGES[self.name]:
            found[package] = metadata.version(package)
        return found

    def make(self, setup: Mapping[str, Any]) -> dict[str, Any]:
        """Not here."""
        raise LeftOut(f"{cases.OURS} makes {setup['weights']}")

    def load(self, setup: Mapping[str, Any]) -> None:
        """Weights and images onto the device."""
        torch.backends.cuda.matmul.allow_tf32 = setup["tf32"]
        torch.backends.cudnn.allow_tf32 = setup["tf32"]
        torch.set_num_threads(setup["threads"])
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = getattr(torch, setup["dtype"])
        with np.load(setup["weights"]) as file:
            state = {name: torch.tensor(file[name]) for name in file.files}
        model = torchvision.models.get_model(setup["model"])
        found = model.load_state_dict(state, strict=False)
        unknown = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
        if unknown or found.unexpected_keys:
            raise ValueError(f"weights: {unknown or found.unexpected_keys}")
        with np.load(setup["images"]) as file:
            images = torch.tensor(file["images"]).permute(0, 3, 1, 2)
            self.targets = torch.tensor(file["targets"], device=self.device).long()
            self.saliency = torch.tensor(file["saliency"], device=self.device)
        layout = torch.contiguous_format
        if setup["channels_last"]:
            layout = torch.channels_last
        self.images = images.to(self.device, dtype).contiguous(memory_format=layout)
        self.model = model.eval().to(self.device, dtype).to(memory_format=layout)

    def call(self, case: Mapping[str, Any]) -> Call:
        """A case, as the library's users write it, on a model of its own: hooks stay on it."""
        builders = BUILDERS[self.name]
        if case["call"] not in builders:
            raise LeftOut("no such method")
        own = copy.copy(self)
        own.model = copy.deepcopy(self.model)
        run, shown = builders[case["call"]](own, case)
        before = getattr(run, "before", lambda: None)
        return Call(lambda given: self._waited(run(given)), shown, before)

    def _waited(self, result: Any) -> Any:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return result

    def layer(self, name: str) -> torch.nn.Module:
        """A module by its name."""
        return self.model.get_submodule(name)

    @property
    def classes(self) -> list[int]:
        """Of the images."""
        return self.targets.tolist()

    def one_hot(self) -> torch.Tensor:
        """`[B, N]`, 1 at the class."""
        width = self.model(self.images[:1]).shape[1]
        return torch.nn.functional.one_hot(self.targets, width).to(self.images.dtype)


class Started:
    """A call of which a first part is not timed."""

    def __init__(self, before: Callable[[], Any], run: Callable[[Any], Any]) -> None:
        self.before = before
        self.run = run

    def __call__(self, given: Any) -> Any:
        """The timed part."""
        return self.run(given)


Built = tuple[Callable, Callable]
Builder = Callable[[Torch, Mapping[str, Any]], Built]


def array(tensor: Any) -> np.ndarray:
    """A result as float32."""
    if isinstance(tensor, torch.Tensor):
        return tensor.detach().float().cpu().numpy()
    return np.asarray(tensor, np.float32)


# pytorch-grad-cam -----------------------------------------------------


def _grad_cam(name: str) -> Builder:
    """Its heatmaps are resized and normalised; compared is the map before."""

    def build(side: Torch, case: Mapping[str, Any]) -> Built:
        library = importlib.import_module("pytorch_grad_cam")
        wanted = importlib.import_module("pytorch_grad_cam.utils.model_targets")
        method = getattr(library, name)(side.model, [side.layer(case["layer"])])
        targets = list(map(wanted.ClassifierOutputTarget, side.classes))

        def run(given: Any) -> Any:
            del given
            with redirect_stderr(io.StringIO()):  # its progress bars
                return method(input_tensor=side.images, targets=targets)

        def shown(result: Any) -> np.ndarray:
            del result
            kept = []
            inner = method.get_cam_image
            method.get_cam_image = lambda *args: kept.append(inner(*args)) or kept[-1]
            run(None)
            method.get_cam_image = inner
            return array(kept[0])

        return run, shown

    return build


# torchcam -------------------------------------------------------------


def _torchcam(name: str, *, latency: bool = False, **options: Any) -> Builder:
    def build(side: Torch, case: Mapping[str, Any]) -> Built:
        methods = importlib.import_module("torchcam.methods")
        shape = tuple(side.images.shape[1:])
        extractor = getattr(methods, name)(side.model, case["layer"], input_shape=shape, **options)
        scores = lambda: side.model(side.images)
        maps = lambda given: extractor(side.classes, given, normalized=latency)[0]
        run: Callable = lambda _: maps(scores())
        if latency:
            run = Started(scores, maps)
        return run, array

    return build


# captum ---------------------------------------------------------------


def _captum(name: str, *, layered: bool = False, total: bool = True, **options: Any) -> Builder:
    def build(side: Torch, case: Mapping[str, Any]) -> Built:
        attr = importlib.import_module("captum.attr")
        places = []
        if layered:
            places.append(side.layer(case["layer"]))
        method = getattr(attr, name)(side.model, *places)
        images = side.images.clone().requires_grad_()
        given: dict[str, Any] = {"target": side.targets, **options}
        run = lambda _: method.attribute(images, **given).detach().sum(1)
        return run, array

    return build


# zennit ---------------------------------------------------------------


def _zennit(name: str, *, canonized: bool = True, **options: Any) -> Builder:
    """`Gradient` of a composite; canonizers and hooks are set once, before."""

    def build(side: Torch, case: Mapping[str, Any]) -> Built:
        del case
        attribution = importlib.import_module("zennit.attribution")
        composite = None
        if name:
            composites = importlib.import_module("zennit.composites")
            chosen = dict(options)
            if canonized:
                chosen["canonizers"] = [_canonizer(side)]
            composite = getattr(composites, name)(**chosen)
        attributor = attribution.Gradient(side.model, composite)
        attributor.__enter__()
        one_hot = side.one_hot()
        run = lambda _: attributor(side.images, one_hot)[1].sum(1)
        return run, array

    return build


def _canonizer(side: Torch) -> Any:
    known = importlib.import_module("zennit.torchvision")
    if isinstance(side.model, torchvision.models.ResNet):
        return known.ResNetCanonizer()
    return known.VGGCanonizer()


def _relevance_cam(side: Torch, case: Mapping[str, Any]) -> Built:
    """Relevance down to the layer only: what lies below is not differentiated."""
    composites = importlib.import_module("zennit.composites")
    rules = importlib.import_module("zennit.rules")
    kinds = importlib.import_module("zennit.types")
    plus = rules.ZPlus(stabilizer=1e-9, **_NO_BIAS)
    pairs = [(kinds.Convolution, plus), (torch.nn.Linear, plus)]
    composite = composites.LayerMapComposite(
        composites.layer_map_base() + pairs, canonizers=[_canonizer(side)]
    )
    composite.register(side.model)
    side.model.requires_grad_(False)
    return by_hand.at_layer(side, case["layer"], _relevance_map), array


def _relevance_map(side: Torch, logits: torch.Tensor, activation: torch.Tensor) -> torch.Tensor:
    """L = sum_k (sum_ij R_ijk) A_k, of the contrastive relevance at the logits."""
    rest = logits.shape[1] - 1
    hot = torch.nn.functional.one_hot(side.targets, rest + 1).to(logits.dtype)
    size = (logits * hot).sum(1, keepdim=True).abs()
    start = size * (hot - (1 - hot) / rest)
    (relevance,) = torch.autograd.grad(logits, activation, start.detach())
    weights = relevance.sum((2, 3), keepdim=True)
    return (weights * activation).sum(1).detach()


_RANGE = 6.0
_NO_BIAS: dict[str, Any] = {"zero_params": "bias"}
BUILDERS: dict[str, dict[str, Builder]] = {
    cases.TORCH: by_hand.BUILDERS,
    "pytorch-grad-cam": {
        "grad_cam": _grad_cam("GradCAM"),
        "grad_cam_plus_plus_jacobgil": _grad_cam("GradCAMPlusPlus"),
        "layer_cam": _grad_cam("LayerCAM"),
        "hires_cam": _grad_cam("HiResCAM"),
        "xgrad_cam": _grad_cam("XGradCAM"),
        "score_cam_jacobgil": _grad_cam("ScoreCAM"),
        "ablation_cam": _grad_cam("AblationCAM"),
    },
    "torchcam": {
        "grad_cam": _torchcam("GradCAM"),
        "grad_cam_plus_plus_torchcam": _torchcam("GradCAMpp"),
        "layer_cam": _torchcam("LayerCAM"),
        "xgrad_cam": _torchcam("XGradCAM"),
        "score_cam": _torchcam("ScoreCAM"),
        "latency_grad_cam": _torchcam("GradCAM", latency=True),
        "latency_layer_cam": _torchcam("LayerCAM", latency=True),
    },
    "captum": {
        "gradient": _captum("Saliency", abs=False),
        "gradient_input": _captum("InputXGradient"),
        "integrated_gradients": _captum(
            "IntegratedGradients",
            baselines=0.0,
            n_steps=cases.IG_STEPS,
            method="riemann_middle",
        ),
        "guided_backprop": _captum("GuidedBackprop"),
        "grad_cam": _captum("LayerGradCam", layered=True, relu_attributions=True),
        "hires_cam": _captum("LayerGradientXActivation", layered=True),
        "lrp_epsilon": _captum("LRP"),
    },
    "zennit": {
        "gradient": _zennit(""),
        "guided_backprop": _zennit("GuidedBackprop", canonized=False),
        "relevance_cam": _relevance_cam,
        "lrp_epsilon_plus": _zennit("EpsilonPlus", **_NO_BIAS),
        "lrp_epsilon_plus_flat": _zennit("EpsilonPlusFlat", **_NO_BIAS),
        "lrp_epsilon_alpha2_beta1": _zennit("EpsilonAlpha2Beta1", **_NO_BIAS),
        "lrp_epsilon_gamma_box": _zennit("EpsilonGammaBox", low=-_RANGE, high=_RANGE, **_NO_BIAS),
    },
}
