"""A folder of mode 0555, by a process without a root's power over modes."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
_UNDER_MODES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def test_a_readonly_folder_is_named_in_one_line(weights, photo, tmp_path):
    (tmp_path / "photos").mkdir()
    cat = photo("photos/cats/cat.png", (20, 24))
    folder = tmp_path / "readonly"
    folder.mkdir(mode=0o555)
    words = [sys.executable, "-m", "tests.cli.readonly", folder, weights, cat.parents[1]]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("no setpriv: modes do not bind root")
        words = [*_UNDER_MODES, *words]
    environment = {**os.environ, "JAXCAM_NO_CACHE": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    if "modes do not bind" in ended.stdout:
        pytest.skip("modes do not bind")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [name for name, *_ in rows] == ["games", "explain", "train", "save"]
    for name, status, said in rows:
        told = said if status in ("1", "2") else status
        assert str(folder) in told and told.count("\n") <= 1, (name, status, said)
        assert "Permission denied" in told
    assert list(folder.iterdir()) == []
