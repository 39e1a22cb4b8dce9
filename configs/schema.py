"""The fields of a config: every number of a run, checked when the config is made."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from jaxcam._ground.errors import ArgumentError, check_choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """Every number of one classification run of `train.classify`.

    Args:
        name: name of the run, written into the export.
        data: what `jaxcam.datasets.load` takes: a zip or folder with `train/CLASS/*` and
            `val/CLASS/*`, a folder that TFDS prepared or a TFDS name; or "synthetic".
        train_split: of the data.
        val_split: of the data.
        workdir: folder of checkpoints and logs.
        export: `.safetensors` file that the trained network is written to.
        export_dtype: storage type of its parameters, "float32" or "float16".
        architecture: name that `jaxcam.models.create` takes.
        options: its options.
        init_from: a name or file that `jaxcam.models.load` reads: the parameters to start from;
            None draws them.
        frozen: prefixes of parameter paths, "layer1" say, that keep their weights and batch
            statistics.
        compute_dtype: "float32" or "bfloat16"; parameters, losses and averages are float32 all the
            same.
        image_size: side of the photos in pixels, the size of validation too.
        mean: mean of each channel of RGB in [0, 1], subtracted from the images.
        std: deviation of each channel, which divides them.
        crop_on: where random crops are cut: "device", of photos that all are of `image_size`, or
            "host", of any.
        crop_sizes: (first epoch, side in pixels) pairs in order: the side of the training crops
            from that epoch on.
        crop_area: smallest and largest part of the photo's area that a crop covers.
        crop_ratio: largest width to height ratio of a crop, and the smallest's inverse.
        crop_fraction: part of the resized photo's shorter side that validation keeps.
        stretch: whether photos are resized to a square of image_size / crop_fraction, of which
            training cuts image_size at a random place, and validation the middle; crop_area and
            crop_ratio then say nothing. With crop_on "host".
        color_jitter: brightness, contrast and saturation are each scaled by U(1 - j, 1 + j).
        cutmix: probability that a box of an image is cut out of another image.
        workers: threads that read and decode.
        epochs: passes over the training photos.
        batch_size: images in a step over all devices and processes, even.
        accumulate: steps whose gradients are averaged for one update; a batch in the optimiser's
            sense is accumulate x batch_size images.
        loss: "softmax", or "sigmoid" for photos of several classes.
        label_smoothing: probability that is spread over all classes.
        auxiliary_weight: of the cross-entropy of a network's auxiliary logits.
        optimizer: "sgd", "adam" or "adamw".
        momentum: of SGD.
        nesterov: whether that is Nesterov's.
        weight_decay: times the parameters is added to the gradient (adamw: to the update); norms
            and biases are spared.
        clip_norm: largest norm of an update's gradient, longer ones are scaled down; 0 leaves all.
        learning_rate: peak of the schedule.
        schedule: what follows a linear warm-up from 0: "cosine" down to 0, "multistep" (times
            `decay_factor` at each of `milestones`), "step" (at every multiple of `decay_every`) or
            "constant".
        warmup_epochs: length of the warm-up.
        milestones: epochs, ascending.
        decay_every: epochs.
        decay_factor: above.
        ema_decay: decay an update of the averaged parameters and batch statistics, which are
            validated and exported; 0 averages nothing and takes the last ones.
        checkpoint_every: steps between checkpoints, besides one at each epoch's end; 0: none
            besides.
        log_every: steps in a window of the log.
        unreadable: photos that may be unreadable, in each process; their places are taken by the
            next ones of the set, and log and report name them. More end the run.
        seed: of parameters, order and augmentation.
        parallel: how the step meets several devices: "pmap" maps it over them, "jit" compiles it
            for global arrays; see `train.parallel`.
    """

    name: str
    data: str
    train_split: str = "train"
    val_split: str = "val"
    workdir: str
    export: str
    export_dtype: str = "float32"
    architecture: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    init_from: str | None = None
    frozen: tuple[str, ...] = ()
    compute_dtype: str = "float32"
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    crop_on: str = "device"
    crop_sizes: Sequence[tuple[int, int]]
    crop_area: tuple[float, float]
    crop_ratio: float
    crop_fraction: float = 1.0
    stretch: bool = False
    color_jitter: float = 0.0
    cutmix: float = 0.0
    workers: int = 8
    epochs: int
    batch_size: int
    accumulate: int = 1
    loss: str = "softmax"
    label_smoothing: float = 0.0
    auxiliary_weight: float = 1.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    learning_rate: float
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    milestones: tuple[float, ...] = ()
    decay_every: float = 30.0
    decay_factor: float = 0.1
    ema_decay: float = 0.0
    checkpoint_every: int = 0
    log_every: int = 100
    unreadable: int = 10
    seed: int
    parallel: str = "pmap"

    def __post_init__(self) -> None:
        """Checks what would otherwise fail late or silently.

        Raises:
            ValueError: a field that is not what it must be.
        """
        _check_fields(self)
        _check_crops(self)
        _check_schedule(self)

    def view(self, epoch: int) -> int:
        """The augmentation's draw for an epoch: equal numbers give equal crops, flips, colours."""
        return epoch

    def crop_size(self, epoch: int) -> int:
        """Side in pixels of the training crops in an epoch."""
        return [size for first, size in self.crop_sizes if first <= epoch][-1]


Config = TypeVar("Config", bound=Classification)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fostering(Classification):
    """A run of `train.foster`: classification + beta * penalty of the Grad-CAM.

    The loss is `jaxcam.fostering.fostering_loss`.

    Args:
        beta: weight of the penalty; 0 is plain training.
        layer: of the Grad-CAM; None: the last with spatial extent.
        term: "entropy" (the paper's), "entropy_softmax", "area" or "dispersion".
        explain: class of the Grad-CAM: "label" or "predicted".
    """

    beta: float
    layer: str | None = None
    term: str = "entropy"
    explain: str = "label"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation(Classification):
    """A run of `train.distill`: kd_weight * T^2 KL(teacher || student) + ce_weight * cross-entropy.

    Args:
        teacher: name or file of the teacher.
        teacher_kind: "network" (what `jaxcam.models.load` reads), or a black box outside JAX:
            "onnx" (a file) or "python" (`module:function`, a function of NumPy images).
        teacher_options: of a black box: the keywords of `jaxcam.blackbox.onnx`.
        teacher_mean: of a black box: mean of each channel of RGB in [0, 1] that is subtracted from
            what it gets.
        teacher_std: of a black box: deviation of each channel, which divides that.
        teacher_probabilities: of a black box: whether it answers with probabilities, not logits.
        temperature: T, which divides both logits.
        kd_weight: of the divergence from the teacher.
        ce_weight: of the cross-entropy with the labels.
        answers: of a black box: the folder that its answers are kept in, computed once; say beside
            the data.
        views: of a black box: draws of the augmentation of each photo that it is asked about; epoch
            e trains on draw e mod views.
    """

    teacher: str
    teacher_kind: str = "network"
    teacher_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    teacher_mean: Sequence[float] = (0.0, 0.0, 0.0)
    teacher_std: Sequence[float] = (1.0, 1.0, 1.0)
    teacher_probabilities: bool = False
    temperature: float = 1.0
    kd_weight: float = 1.0
    ce_weight: float = 1.0
    answers: str = ""
    views: int = 1

    def __post_init__(self) -> None:
        """Checks what would otherwise fail late or silently.

        Raises:
            ValueError: a field that is not what it must be.
        """
        super().__post_init__()
        _require(
            self.loss == "softmax",
            self,
            "loss",
            "'softmax': a teacher answers with one class of several",
        )
        if self.teacher_kind != "network":
            _require(
                self.answers, self, "answers", "a folder for the answers of a teacher outside JAX"
            )
            _require(self.cutmix == 0, self, "cutmix", "0: the answers are of single photos")
            _require(
                len(self.crop_sizes) == 1, self, "crop_sizes", "one size, which the answers are for"
            )

    def view(self, epoch: int) -> int:
        """A black box is asked about `views` draws; other teachers about a new one each epoch."""
        if self.teacher_kind == "network":
            return epoch
        return epoch % self.views


# What is checked of one field alone ------------------------------------

_CHOICES = {
    "export_dtype": ("float32", "float16"),
    "compute_dtype": ("float32", "bfloat16"),
    "crop_on": ("device", "host"),
    "loss": ("softmax", "sigmoid"),
    "parallel": ("pmap", "jit"),
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("cosine", "multistep", "step", "constant"),
    "term": ("entropy", "entropy_softmax", "area", "dispersion"),
    "explain": ("label", "predicted"),
    "teacher_kind": ("network", "onnx", "python"),
}


class _Rule(NamedTuple):
    """What holds for a field, and how an error says it."""

    holds: Callable[[Any], bool]
    expected: str


_EVEN = _Rule(lambda value: value >= 2 and value % 2 == 0, "an even number (CutMix pairs images)")
_SOME = _Rule(lambda value: value >= 1, "at least 1")
_POSITIVE = _Rule(lambda value: value > 0, "a positive number")
_NONE_OR_MORE = _Rule(lambda value: value >= 0, "0 or more")
_BELOW_1 = _Rule(lambda value: 0 <= value < 1, "0 or more and below 1")
_SHARE = _Rule(lambda value: 0 <= value <= 1, "between 0 and 1")
_PART = _Rule(lambda value: 0 < value <= 1, "more than 0 and at most 1")
_PREFIXES = _Rule(lambda value: not isinstance(value, str), "a tuple of prefixes")
_CHANNELS = _Rule(lambda value: len(value) == 3, "3 numbers")
_FOLDER = _Rule(lambda value: value != "", "a folder")
_NETWORK = _Rule(lambda value: value.endswith(".safetensors"), "a file that ends in .safetensors")
_DEVIATIONS = _Rule(lambda value: len(value) == 3 and min(value) > 0, "3 numbers above 0")
_RULES = {
    "accumulate": _SOME,
    "auxiliary_weight": _NONE_OR_MORE,
    "batch_size": _EVEN,
    "beta": _NONE_OR_MORE,
    "ce_weight": _NONE_OR_MORE,
    "checkpoint_every": _NONE_OR_MORE,
    "clip_norm": _NONE_OR_MORE,
    "color_jitter": _SHARE,
    "crop_fraction": _PART,
    "crop_ratio": _SOME,
    "cutmix": _SHARE,
    "decay_every": _POSITIVE,
    "decay_factor": _POSITIVE,
    "ema_decay": _BELOW_1,
    "epochs": _SOME,
    "export": _NETWORK,
    "frozen": _PREFIXES,
    "image_size": _SOME,
    "kd_weight": _NONE_OR_MORE,
    "label_smoothing": _BELOW_1,
    "learning_rate": _POSITIVE,
    "log_every": _SOME,
    "mean": _CHANNELS,
    "momentum": _BELOW_1,
    "seed": _NONE_OR_MORE,
    "std": _DEVIATIONS,
    "teacher_mean": _CHANNELS,
    "teacher_std": _DEVIATIONS,
    "temperature": _POSITIVE,
    "views": _SOME,
    "unreadable": _NONE_OR_MORE,
    "warmup_epochs": _NONE_OR_MORE,
    "weight_decay": _NONE_OR_MORE,
    "workdir": _FOLDER,
    "workers": _SOME,
}


def _check_fields(config: Classification) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in _RULES:
            rule = _RULES[field.name]
            _require(rule.holds(value), config, field.name, rule.expected)
        if field.name in _CHOICES:
            check_choice(field.name, value, _CHOICES[field.name])


# What fields must be to each other -------------------------------------


def _check_crops(config: Classification) -> None:
    low, high = config.crop_area
    _require(0 < low <= high <= 1, config, "crop_area", "0 < smallest <= largest <= 1")
    whole = config.crop_on == "host" or not config.stretch
    _require(whole, config, "stretch", "crop_on 'host'")
    starts = [epoch for epoch, _ in config.crop_sizes]
    _require(starts[:1] == [0], config, "crop_sizes", "a first pair that begins at epoch 0")
    _require(
        starts == sorted(set(starts)), config, "crop_sizes", "pairs in the order of their epochs"
    )
    sides = [side for _, side in config.crop_sizes]
    _require(min(sides) >= 1, config, "crop_sizes", "sides of 1 pixel or more")


def _check_schedule(config: Classification) -> None:
    ascending = [0, *config.milestones]
    _require(ascending == sorted(set(ascending)), config, "milestones", "ascending epochs above 0")
    if config.schedule == "multistep":
        _require(config.milestones, config, "milestones", "epochs, for schedule='multistep'")
    if config.schedule == "cosine":
        _require(
            config.epochs > config.warmup_epochs,
            config,
            "epochs",
            f"more than warmup_epochs, {config.warmup_epochs:g}, for the cosine to decay in",
        )


def _require(holds: Any, config: Classification, field: str, expected: str) -> None:
    if not holds:
        raise ArgumentError(field, repr(getattr(config, field)), expected)
