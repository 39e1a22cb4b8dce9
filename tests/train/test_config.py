import pytest

import configs
from configs import common
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
        ("epoch=3", "'epoch', which is no field; nearest: epochs"),
        ("epochs.x=3", "'epochs.x', which is no field"),
        ("epochs=many", "epochs got 'many', expected int such as 4"),
        ("init_from=3", "init_from got 3, expected str or None such as None"),
        ("options=3", "options got 3, expected dict"),
        ("frozen=conv1", "frozen got 'conv1', expected tuple such as ()"),
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
        ("cutmix=2", "cutmix: got 2.0, expected a probability"),
        ("mean=(0.5,)", "mean: got (0.5,), expected 3 numbers"),
    ],
)
def test_wrong_overrides_say_what_is_wrong(assignment, message):
    with pytest.raises(ValueError) as error:
        configs.override(config, [assignment])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            configs.Classification,
            {"epochs": 2, "warmup_epochs": 2.0},
            "epochs: got 2, expected more than warmup_epochs, 2, for the cosine",
        ),
        (configs.Fostering, {"beta": -1.0}, "beta: got -1.0, expected 0 or more"),
        (
            configs.Fostering,
            {"beta": 1.0, "term": "size"},
            "term: got 'size', expected one of 'entropy'",
        ),
        (
            configs.Fostering,
            {"beta": 1.0, "explain": "all"},
            "explain: got 'all', expected one of 'label', 'predicted'",
        ),
        (
            configs.Distillation,
            {"teacher": "x", "temperature": 0.0},
            "temperature: got 0.0, expected a positive number",
        ),
        (
            configs.Distillation,
            {"teacher": "x", "teacher_kind": "oracle"},
            "teacher_kind: got 'oracle', expected one of",
        ),
    ],
)
def test_the_other_kinds_check_their_fields(kind, fields, message):
    with pytest.raises(ValueError) as error:
        common.as_kind(kind, config, **fields)
    assert message in str(error.value)


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
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="defines no `config`"):
        configs.load(str(tmp_path / "empty.py"))
