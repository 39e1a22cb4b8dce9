"""The package's long description: the README, with links that also lead somewhere outside.

Where the repository is to be found is not known to a checkout. A release says it,
`JAXCAM_REPOSITORY=https://... python -m build`, as .github/workflows/release.yml does; its links
and pictures then are absolute, and the package's page links to it. Without, they stay relative.
"""

import os
import pathlib
import re

from setuptools import setup

ADDRESS = os.environ.get("JAXCAM_REPOSITORY", "").rstrip("/")
README = pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8")
PAGES = {
    "Homepage": "",
    "Documentation": "/tree/HEAD/docs",
    "Changelog": "/blob/HEAD/CHANGELOG.md",
    "Issues": "/issues",
}


def absolute(match: re.Match) -> str:
    """`[text](path)` or `![alt](path)` with the path made an address of the repository."""
    kind = "raw" if match[1].startswith("!") else "blob"
    return f"{match[1]}({ADDRESS}/{kind}/HEAD/{match[2]})"


def described() -> dict:
    """What depends on the repository's address."""
    description = README
    urls = {}
    if ADDRESS:
        description = re.sub(r"(!?\[[^\]]*\])\((?!https?:|#)([^)\s]+)\)", absolute, README)
        urls = {name: ADDRESS + page for name, page in PAGES.items()}
    return {
        "long_description": description,
        "long_description_content_type": "text/markdown",
        "project_urls": urls,
    }


setup(**described())
