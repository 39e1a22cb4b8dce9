"""The house stays as it was tidied: figures by room, held."""

import re
from pathlib import Path

import pytest

from tests import house

TOP = Path(__file__).parents[1]
# Where something lay on the machine of who made it.
PLACE = re.compile(r"(?<![\w.~-])/(?:work|root|home|tmp|mnt|data|Users)/[\w.-]+")


@pytest.mark.parametrize("room", house.ROOMS)
def test_one_thing_on_a_line(room):
    figures = house.count(list(house.sources(room)))
    for name, limit in house.LIMITS.items():
        assert figures.per_thousand(name) <= limit, f"{name} in {room}"


def test_what_is_counted():
    source = '''
def one(x):
    """Documented."""
    # a comment

    y = 1 if x else 2
    a, b = x, y
    a, b = b, a
    return [z for z in (a, b)]
'''
    figures = house.count([source])
    assert (figures.code, figures.conditional, figures.comprehension, figures.packed) == (
        5,
        1,
        1,
        1,
    )


def test_no_report_names_a_place_of_a_machine():
    pages = [TOP / "README.md", TOP / "CHANGELOG.md"]
    for room in ("docs", "results", "configs"):
        for kind in ("md", "html", "json", "py"):
            pages.extend(sorted((TOP / room).rglob(f"*.{kind}")))
    assert len(pages) > 50
    found = {}
    for page in pages:
        # pictures in a page are base64, which may hold anything
        text = re.sub(r"data:[\w/+.-]+;base64,[\w+/=]+", "", page.read_text())
        for line in text.splitlines():
            if PLACE.search(line):
                found[f"{page.relative_to(TOP)}"] = PLACE.search(line)[0]
    assert not found
