"""The README's library example runs as printed, and the commands CI takes from it are there."""

import pathlib
import re
import subprocess
import sys

import matplotlib.image

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_the_library_example_runs(tmp_path, monkeypatch):
    example = re.search(r"## In a few lines\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert scope["pair"].shape[:2] == (1, 2)
    assert set(scope["maps"]) == {"layer2", "layer4"}
    picture = matplotlib.image.imread(tmp_path / "cat.png")
    assert picture.std() > 0.05


def test_every_name_of_ours_is_there_after_import_jaxcam_alone():
    names = sorted(set(re.findall(r"(?<!-m )\bjaxcam((?:\.[a-z_0-9]+)+)", README)))
    assert len(names) > 20
    program = "import operator, jaxcam\nfor name in {}: operator.attrgetter(name[1:])(jaxcam)"
    subprocess.run([sys.executable, "-c", program.format(names)], check=True)


def test_the_two_commands_stand_after_their_marks():
    for mark, words in (("main-command", "jaxcam demo"), ("test-command", "pytest")):
        block = README.split(f"<!-- {mark} -->", 1)[1].split("```")[1]
        commands = [line for line in block.splitlines() if line.startswith("python3 -m venv")]
        assert len(commands) == 1
        assert words in commands[0]
