"""A file is there whole, or what was there before is."""

import os
import pathlib
import re
import stat

import pytest

from jaxcam._ground import files


def test_a_new_file_has_the_permissions_of_any(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    files.write_bytes(tmp_path / "new", b"x")
    assert (tmp_path / "new").read_bytes() == b"x"
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o604)
    files.write_text(path, "new\r\nä")
    assert path.read_bytes() == "new\r\nä".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt])
def test_what_was_there_stays_if_the_block_fails(tmp_path, failure):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(failure), files.replacing(path, "w") as file:
        file.write("half")
        file.flush()
        assert path.read_text() == "old"
        raise failure
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "missing" / "file"
    with pytest.raises(OSError, match="missing/file' cannot be written: No such file or dir"):
        files.write_bytes(path, b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder' cannot be written: Is a directory"):
        files.write_bytes(tmp_path / "folder", b"")
    assert os.listdir(tmp_path) == ["folder"]


def test_options_are_those_of_open_and_long_names_have_room(tmp_path):
    path = tmp_path / ("n" * 250)
    with files.replacing(path, "w", newline="\r\n") as file:
        file.write("a\n")
    assert path.read_bytes() == b"a\r\n"


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with files.replacing(path) as first, files.replacing(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_damaged_json_is_named(tmp_path):
    path = tmp_path / "a.json"
    files.write_text(path, '{"a": [1, "ä"]}')
    assert files.read_json(path) == {"a": [1, "ä"]}
    for damaged in (b"", b'{"a"', b'{"a": "\xff"}', b"\x00" * 9):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.json' is damaged: no JSON \("):
            files.read_json(path)


ROOT = pathlib.Path(files.__file__).parents[2]
# A file that is written where it will be read, which a full disk leaves half-written.
IN_PLACE = re.compile(
    r"(?<!files)\.write_(text|bytes)\(|\bonnx\.save\("
    r"|\.savefig\((?!file|buffer)|np\.savez?\w*\((?!file)"
)
# What another process is asked for, and answers.
KNOWN = {"eval/costs/peers/child.py", "eval/costs/peers/ours.py"}


def test_nothing_is_written_in_place():
    found = []
    for room in ("jaxcam", "eval", "train"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for line in path.read_text().splitlines():
                if IN_PLACE.search(line) and ">>>" not in line and "`" not in line:
                    found.append(f"{name}: {line.strip()}")
    assert [each for each in found if each.partition(":")[0] not in KNOWN] == []


def test_a_tilde_is_the_home_where_the_shell_leaves_it(monkeypatch):
    """`--out=~/x` made a folder called `~`."""
    monkeypatch.setenv("HOME", "/home/me")
    words = ["explain", "~/a.png", "./~/b", "--out=~/x", "workdir=~/y", "a=b=c", "~nobody~/c", "~d"]
    assert files.homed(words) == [
        "explain",
        "/home/me/a.png",
        "./~/b",
        "--out=/home/me/x",
        "workdir=/home/me/y",
        "a=b=c",
        "~nobody~/c",
        "~d",
    ]


def test_names_that_a_file_system_may_take_for_one_are_told_apart():
    taken = set()
    names = ["cafe\u0301", "caf\u00e9", "CAF\u00c9", "cafe"]
    found = [files.unused(name, "png", taken) for name in names]
    assert found == ["cafe\u0301.png", "caf\u00e9-2.png", "CAF\u00c9-3.png", "cafe.png"]
