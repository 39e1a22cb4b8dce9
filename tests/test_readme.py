"""What the README and the pages of docs/ print runs as printed, and CI's commands are there."""

import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys

import matplotlib.image
import pytest

from jaxcam import cli

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# tests/test_own_model.py runs these blocks, as files.
ELSEWHERE = {"own_model.md"}
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in ELSEWHERE]
ALL = [ROOT / "README.md", *PAGES, ROOT / "docs" / "own_model.md"]


def blocks(text, *languages):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for language, block in fenced if language in languages]


def run(page, folder, monkeypatch):
    """Runs the blocks of a page one after another, as one program."""
    monkeypatch.chdir(folder)
    scope = {"__name__": "page"}
    for block in blocks(page.read_text(), "python"):
        exec(compile(block, page.name, "exec"), scope)
    return scope


@pytest.mark.lenient
def test_the_readme_runs(tmp_path, monkeypatch):
    scope = run(ROOT / "README.md", tmp_path, monkeypatch)
    assert scope["pair"].shape[:2] == (1, 2)
    assert set(scope["maps"]) == {"layer2", "layer4"}
    picture = matplotlib.image.imread(tmp_path / "cat.png")
    assert picture.std() > 0.05


WITH_CODE = [page for page in PAGES if blocks(page.read_text(), "python")]


@pytest.mark.lenient
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_a_page_runs(page, tmp_path, monkeypatch):
    assert run(page, tmp_path, monkeypatch)


def test_every_name_of_ours_is_there_after_import_jaxcam_alone():
    text = "\n".join(page.read_text() for page in ALL)
    names = sorted(set(re.findall(r"(?<!-m )(?<![/.\w])jaxcam((?:\.[a-z_0-9]+)+)", text)))
    assert len(names) > 40
    program = "import operator, jaxcam\nfor name in {}: operator.attrgetter(name[1:])(jaxcam)"
    subprocess.run([sys.executable, "-c", program.format(names)], check=True)


def test_the_readme_is_read_in_one_go():
    assert len(README) <= 9000


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_commands_are_commands(page):
    """`jaxcam` accepts the words; a module that is run is there."""
    for block in blocks(page.read_text(), "sh", ""):
        for line in block.replace("\\\n", " ").splitlines():  # a command of several lines is one
            words = shlex.split(line, comments=True)
            if words[:1] == ["jaxcam"] and "--help" not in words and words[1:2] != ["COMMAND"]:
                cli._parser().parse_args(words[1:])
            if "-m" in words and words[words.index("-m") + 1].startswith(("eval", "train")):
                where = words.index("-m")
                module = ".".join(words[where + 1 : where + 2])
                assert importlib.util.find_spec(module), line


def test_the_two_commands_stand_after_their_marks():
    for mark, words in (("main-command", "jaxcam demo"), ("test-command", "pytest")):
        block = README.split(f"<!-- {mark} -->", 1)[1].split("```")[1]
        commands = [line for line in block.splitlines() if line.startswith("python3 -m venv")]
        assert len(commands) == 1
        assert words in commands[0]


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_links_lead_to_files_and_pictures_say_what_they_show(page):
    for alt, target in re.findall(r"(?<!`)(!?\[[^\]]*\])\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http", "#")):
            path = page.parent / target.split("#")[0]
            if target.startswith("notebooks/"):  # a page that the site makes of the script
                path = path.with_suffix(".py")
            # mkdocs writes the API's pages
            assert path.exists() or target.startswith("api/"), target
        if alt.startswith("!"):
            assert len(alt) > 20, target
