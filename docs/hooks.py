"""What the site takes from outside docs/: the README, other pages of the root, and the results.

They stay where a reader of the repository expects them; links are made to fit here.
"""

import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
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
    return files


def on_page_markdown(markdown, page, config, files):
    """`../results/` of a page in docs/ is `results/` here, `../NAME.md` the root's page."""
    for name, here in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({here}")
    return markdown.replace("](../results/", "](results/")


def _root_links(text):
    def here(match):
        target = match[2].removeprefix("docs/")
        page, mark, part = target.partition("#")
        return f"{match[1]}{PAGES.get(page, page)}{mark}{part})"

    return _LINK.sub(here, text)
