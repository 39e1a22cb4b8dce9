"""The house stays as it was tidied: figures by room, held."""

import pytest

from tests import house


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
