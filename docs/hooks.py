"""What the site takes from outside docs/: the README, other pages of the root, and the results.

They stay where a reader of the repository expects them; links are made to fit here. Notebooks are
run and shown with their outputs; those of a script that has not changed since a test or the site
ran it are taken from build/notebooks (remove the folder to run all of them again).
"""

import pathlib
import re
import sys

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import cells  # noqa: E402  (a module of this folder)

# Pages of the repository's root, and what they are called here.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"(\]\()(?!https?:|#)([^)\s]+)\)")


def on_files(files, config):
    """Adds the root's pages, and reports and pictures of results/."""
    for name, here in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, here, content=_root_links(text)))
    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in (".md", ".png", ".jpg"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        for name, content in _notebook(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def _notebook(path):
    """A script's page, pictures and `.ipynb`, by file name."""
    script = path.read_text(encoding="utf-8")
    done = cells.kept(script)
    if done is None:
        print(f"running {path.name}", file=sys.stderr)
        done = cells.run(cells.read(script), {"__name__": "notebook"})
        cells.keep(script, done)
    page, pictures = cells.page(done, path.stem)
    links = f"[As a Jupyter notebook]({path.stem}.ipynb) · [as a script]({path.name})"
    title, _, rest = page.partition("\n")
    shown = f"{title}\n\n{links}\n{rest}"
    return {f"{path.stem}.md": shown, f"{path.stem}.ipynb": cells.notebook(done), **pictures}


def on_page_markdown(markdown, page, config, files):
    """`../results/` of a page in docs/ is `results/` here, `../NAME.md` the root's page."""
    for name, here in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({here}")
    return markdown.replace("](../results/", "](results/")


def _root_links(text):
    def here(match):
        target = match[2].removeprefix("docs/")
        page, mark, part = target.partition("#")
        if page.startswith("notebooks/"):  # scripts there, pages here
            page = f"{page.removesuffix('.py')}.md"
        return f"{match[1]}{PAGES.get(page, page)}{mark}{part})"

    return _LINK.sub(here, text)
