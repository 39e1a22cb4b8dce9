import ast
import dataclasses

import pytest

import configs
from configs import common, schema
from configs.smoke import config


def test_overrides_take_literals_and_text():
    changed = configs.override(
        config,
        [
            "epochs=7",
            "learning_rate=1",
            "data=/a b/photos.zip",
            "options.widths=(4,)",
            "crop_sizes=[(0, 8)]",
        ],
    )
    assert (changed.epochs, changed.learning_rate, changed.data) == (7, 1.0, "/a b/photos.zip")
    assert changed.options == {**config.options, "widths": (4,)}
    assert changed.crop_sizes == ((0, 8),)
    assert isinstance(changed.learning_rate, float)


def test_fields_that_must_fit_each_other_change_together():
    changed = configs.override(
        config, ["schedule=multistep", "milestones=(1.0,)", "options.a=1", "options.b=2"]
    )
    assert changed.milestones == (1.0,)
    assert changed.options == {**config.options, "a": 1, "b": 2}


def test_another_workdir_has_an_export_of_its_own():
    assert configs.override(config, ["workdir=/tmp/x"]).export == "/tmp/x/smoke.safetensors"
    assert (
        configs.override(config, ["export=y.safetensors", "workdir=/tmp/x"]).export
        == "y.safetensors"
    )


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "--set: got 'epochs', expected key=value"),
        ("epoch=3", "--set: got the key 'epoch', expected one of 47 fields, such as 'epochs'"),
        ("epochs.x=3", "--set: got the key 'epochs.x', expected one of 47 fields"),
        ("epochs=many", "--set: got epochs='many', expected int such as 4"),
        ("init_from=3", "--set: got init_from=3, expected str or None such as None"),
        ("options=3", "--set: got options=3, expected dict"),
        ("frozen=conv1", "--set: got frozen='conv1', expected tuple such as ()"),
        ("batch_size=7", "batch_size: got 7, expected an even number"),
        ("epochs=0", "epochs: got 0, expected at least 1"),
        ("accumulate=0", "accumulate: got 0, expected at least 1"),
        ("export_dtype=int8", "export_dtype: got 'int8', expected one of 'float32', 'float16'"),
        ("compute_dtype=half", "compute_dtype: got 'half', expected one of 'float32', 'bfloat16'"),
        ("optimizer=lion", "optimizer: got 'lion', expected one of 'sgd', 'adam', 'adamw'"),
        (
            "schedule=linear",
            "schedule: got 'linear', expected one of 'cosine', 'multistep', 'step', 'constant'",
        ),
        ("schedule=multistep", "milestones: got (), expected epochs, for schedule='multistep'"),
        ("milestones=(3.0, 2.0)", "milestones: got (3.0, 2.0), expected ascending epochs above 0"),
        ("loss=hinge", "loss: got 'hinge', expected one of 'softmax', 'sigmoid'"),
        ("crop_on=disk", "crop_on: got 'disk', expected one of 'device', 'host'"),
        ("crop_sizes=((3, 8),)", "expected a first pair that begins at epoch 0"),
        ("crop_sizes=((0, 8), (2, 12), (1, 9))", "expected pairs in the order of their epochs"),
        (
            "crop_area=(0.5, 0.2)",
            "crop_area: got (0.5, 0.2), expected 0 < smallest <= largest <= 1",
        ),
        ("crop_ratio=0.5", "crop_ratio: got 0.5, expected at least 1"),
        ("crop_fraction=0", "crop_fraction: got 0.0, expected more than 0 and at most 1"),
        ("learning_rate=0", "learning_rate: got 0.0, expected a positive number"),
        ("clip_norm=-1", "clip_norm: got -1.0, expected 0 or more"),
        ("ema_decay=1", "ema_decay: got 1.0, expected 0 or more and below 1"),
        ("cutmix=2", "cutmix: got 2.0, expected between 0 and 1"),
        ("learning_rate=True", "--set: got learning_rate=True, expected float such as 0.05"),
        (
            "xyz=3",
            "--set: got the key 'xyz', expected one of 47 fields, such as 'log_every'",
        ),
        ("crop_sizes=((0, 0),)", "crop_sizes: got ((0, 0),), expected sides of 1 pixel or more"),
        ("parallel=xmap", "parallel: got 'xmap', expected one of 'pmap', 'jit'"),
        ("mean=(0.5,)", "mean: got (0.5,), expected 3 numbers"),
    ],
)
def test_wrong_overrides_say_what_is_wrong(assignment, message):
    with pytest.raises(ValueError) as error:
        configs.override(config, [assignment])
    assert message in str(error.value)


KINDS = {
    "Classification": {},
    "Fostering": {"beta": 1.0},
    "Distillation": {"teacher": "x"},
}
BELOW_0 = [("-0.5", "0 or more"), ("nan", "0 or more")]
BELOW_1 = [("0", "at least 1"), ("-3", "at least 1")]
UP_TO_0 = [("0", "a positive number"), ("nan", "a positive number")]
UP_TO_1 = [("-0.1", "0 or more and below 1"), ("1", "0 or more and below 1")]
CHANNELS = [("(0.5, 0.5)", "3 numbers")]
DEVIATIONS = [*CHANNELS, ("(0.5, 0.5, 0.0)", "3 numbers above 0")]
# What each field refuses: "softmax" and the like are refused by `_CHOICES`.
REFUSED = {
    "accumulate": BELOW_1,
    "auxiliary_weight": BELOW_0,
    "batch_size": [("7", "an even number"), ("0", "an even number"), ("-2", "an even number")],
    "beta": BELOW_0,
    "ce_weight": BELOW_0,
    "checkpoint_every": [("-1", "0 or more")],
    "clip_norm": BELOW_0,
    "color_jitter": [("-0.5", "between 0 and 1"), ("1.5", "between 0 and 1")],
    "crop_fraction": [("0", "more than 0 and at most 1"), ("1.1", "more than 0 and at most 1")],
    "crop_ratio": [("0.5", "at least 1")],
    "cutmix": [("-0.1", "between 0 and 1"), ("2", "between 0 and 1")],
    "decay_every": UP_TO_0,
    "decay_factor": UP_TO_0,
    "ema_decay": UP_TO_1,
    "epochs": BELOW_1,
    "image_size": BELOW_1,
    "kd_weight": BELOW_0,
    "label_smoothing": UP_TO_1,
    "learning_rate": UP_TO_0,
    "log_every": BELOW_1,
    "mean": CHANNELS,
    "momentum": UP_TO_1,
    "seed": [("-1", "0 or more")],
    "std": DEVIATIONS,
    "teacher_mean": CHANNELS,
    "teacher_std": DEVIATIONS,
    "temperature": UP_TO_0,
    "views": BELOW_1,
    "unreadable": BELOW_0,
    "warmup_epochs": BELOW_0,
    "weight_decay": BELOW_0,
    "workers": BELOW_1,
}


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [(field, *each) for field, refused in REFUSED.items() for each in refused],
)
def test_numbers_out_of_range_are_refused(field, text, expected):
    """Written as Python's literals, but for "nan"."""
    for name, more in KINDS.items():
        changed = common.as_kind(getattr(configs, name), config, **more)
        if not hasattr(changed, field):
            continue
        with pytest.raises(ValueError) as error:
            dataclasses.replace(changed, **{field: _value(text)})
        assert str(error.value).startswith(f"{field}: got {_value(text)!r}, expected {expected}")


def _value(text):
    if text == "nan":
        return float("nan")
    return ast.literal_eval(text)


def test_every_number_has_its_range():
    """A new field of numbers says what it refuses."""
    texts = {"name", "data", "train_split", "val_split", "workdir", "export", "architecture"}
    texts |= {"options", "init_from", "layer", "teacher", "teacher_options", "answers"}
    pairs = {"crop_sizes", "crop_area", "milestones"}  # below
    truths = {"nesterov", "stretch", "teacher_probabilities"}
    fields = set()
    for name in KINDS:
        fields |= {field.name for field in dataclasses.fields(getattr(configs, name))}
    others = texts | pairs | truths | set(schema._CHOICES) | {"frozen"}
    assert fields == set(REFUSED) | others and not set(REFUSED) & others


@pytest.mark.parametrize("field", schema._CHOICES)
def test_choices_are_refused_by_all_kinds_that_have_them(field):
    found = 0
    for name, more in KINDS.items():
        changed = common.as_kind(getattr(configs, name), config, **more)
        if hasattr(changed, field):
            found += 1
            with pytest.raises(ValueError, match=f"{field}: got 'other', expected one of '"):
                dataclasses.replace(changed, **{field: "other"})
    assert found


def test_a_cosine_needs_epochs_after_its_warm_up():
    with pytest.raises(ValueError, match="epochs: got 2, expected more than warmup_epochs, 2, for"):
        dataclasses.replace(config, epochs=2, warmup_epochs=2.0)
    assert dataclasses.replace(config, epochs=2, warmup_epochs=2.0, schedule="constant")


def test_the_defaults_of_papers_and_of_nothing():
    """What a config does not say: the paper's loss, or none of an effect."""
    fostering = common.as_kind(configs.Fostering, config, beta=1.0)
    assert (fostering.layer, fostering.term, fostering.explain) == (None, "entropy", "label")
    distillation = common.as_kind(configs.Distillation, config, teacher="x")
    weights = (distillation.temperature, distillation.kd_weight, distillation.ce_weight)
    assert weights == (1.0, 1.0, 1.0)
    assert (distillation.teacher_kind, distillation.views) == ("network", 1)
    assert distillation.teacher_mean == (0.0, 0.0, 0.0)
    assert distillation.teacher_std == (1.0, 1.0, 1.0)
    assert not distillation.teacher_probabilities
    required = [field for field in dataclasses.fields(configs.Classification)]
    plain = {
        each.name: each.default for each in required if each.default is not dataclasses.MISSING
    }
    assert plain == {
        "train_split": "train",
        "val_split": "val",
        "export_dtype": "float32",
        "init_from": None,
        "frozen": (),
        "compute_dtype": "float32",
        "crop_on": "device",
        "crop_fraction": 1.0,
        "stretch": False,
        "color_jitter": 0.0,
        "cutmix": 0.0,
        "workers": 8,
        "accumulate": 1,
        "loss": "softmax",
        "label_smoothing": 0.0,
        "auxiliary_weight": 1.0,
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
        "milestones": (),
        "decay_every": 30.0,
        "decay_factor": 0.1,
        "ema_decay": 0.0,
        "checkpoint_every": 0,
        "log_every": 100,
        "unreadable": 10,
        "parallel": "pmap",
    }


def test_views_repeat_for_a_black_box_alone():
    network = common.as_kind(configs.Distillation, config, teacher="x", views=2)
    assert [network.view(epoch) for epoch in range(4)] == [0, 1, 2, 3]
    changes = {"teacher_kind": "python", "answers": "here", "crop_sizes": ((0, 12),)}
    asked = dataclasses.replace(network, **changes)
    assert [asked.view(epoch) for epoch in range(4)] == [0, 1, 0, 1]


def test_none_and_text_go_where_both_may_stand():
    assert configs.override(config, ["init_from=tiny20"]).init_from == "tiny20"
    assert configs.override(config, ["init_from=tiny20", "init_from=None"]).init_from is None


def test_crop_size_holds_from_its_epoch_on():
    assert [config.crop_size(epoch) for epoch in range(4)] == [12, 12, 16, 16]


def test_load_names_the_missing_file_and_the_missing_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--config: got 'no\.py'"):
        configs.load("no.py")
    (tmp_path / "config.txt").write_text("")
    with pytest.raises(ValueError, match=r"--config: got '.*config\.txt', expected a Python file"):
        configs.load(str(tmp_path / "config.txt"))
    for text in ("", "config = 3"):
        (tmp_path / "empty.py").write_text(text)
        with pytest.raises(
            ValueError, match=r"--config: got .*empty\.py, expected a file that def"
        ):
            configs.load(str(tmp_path / "empty.py"))
