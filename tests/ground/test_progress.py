"""How far a loop is, said where no terminal shows a bar."""

import itertools

from jaxcam._ground.progress import told


def lines(capsys, items, seconds):
    """What is printed of a loop whose every item takes so many seconds, and what it goes over."""
    clock = itertools.count(0, seconds).__next__
    found = list(told(items, "games: rise", "group", len(items), clock=clock))
    assert found == list(items)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_log_gets_a_line_a_minute_with_what_is_left(capsys):
    # The clock is read once before the loop and once for each item.
    found = lines(capsys, range(10), 25)
    assert found == [
        "games: rise: 2 of 10 groups, 1 min, 5 min left",
        "games: rise: 5 of 10 groups, 2 min, 2 min left",
        "games: rise: 8 of 10 groups, 3 min, 56 s left",
    ]


def test_hours_and_nothing_for_what_is_quick(capsys):
    first = lines(capsys, range(3), 4000)[0]
    assert first == "games: rise: 1 of 3 groups, 2 h 13 min, 4 h 26 min left"
    assert lines(capsys, range(100), 0.1) == []
    assert lines(capsys, [], 100) == []


def test_control_characters_of_a_name_stay_out_of_the_log(capsys):
    clock = itertools.count(0, 100).__next__
    list(told(range(2), "a\x1b[2J\nb", "group", 2, clock=clock))
    assert capsys.readouterr().err == "a\\x1b[2J b: 1 of 2 groups, 3 min, 3 min left\n"
