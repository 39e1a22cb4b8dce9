import pytest

import configs
from configs.smoke import config


def test_overrides_take_literals_and_text():
    changed = configs.override(
        config, ["epochs=7", "learning_rate=1", "data=/a b/photos.zip", "options.widths=(4,)", "crop_sizes=[(0, 8)]"]
    )
    assert (changed.epochs, changed.learning_rate, changed.data) == (7, 1.0, "/a b/photos.zip")
    assert changed.options == {**config.options, "widths": (4,)}
    assert changed.crop_sizes == ((0, 8),)
    assert isinstance(changed.learning_rate, float)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "--set: got 'epochs', expected key=value"),
        ("epoch=3", "'epoch', which is no field; nearest: epochs"),
        ("epochs.x=3", "'epochs.x', which is no field"),
        ("epochs=many", "epochs got 'many', expected a int such as 4"),
        ("batch_size=7", "batch_size: got 7, expected an even number"),
        ("epochs=0", "epochs: got 0, expected at least 1"),
        ("export_dtype=int8", "export_dtype: got 'int8', expected 'float32' or 'float16'"),
        ("crop_sizes=((3, 8),)", "expected a first pair that begins at epoch 0"),
    ],
)
def test_wrong_overrides_say_what_is_wrong(assignment, message):
    with pytest.raises(ValueError) as error:
        configs.override(config, [assignment])
    assert message in str(error.value)


def test_crop_size_holds_from_its_epoch_on():
    assert [config.crop_size(epoch) for epoch in range(4)] == [12, 12, 16, 16]


def test_load_names_the_missing_file_and_the_missing_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--config: got 'no\.py'"):
        configs.load("no.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="defines no `config`"):
        configs.load(str(tmp_path / "empty.py"))
