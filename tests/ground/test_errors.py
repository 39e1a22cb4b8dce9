"""Errors carry their argument as data; checks say what they got and what they expected."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam._ground.errors import (
    ArgumentError,
    ArgumentFileError,
    ArgumentTypeError,
    alike,
    check_above,
    check_at_least,
    check_choice,
    check_size,
    check_whole,
    check_within,
    listing,
    nearest,
    one_of,
    renaming,
    shown,
)


def said(function, *args, **kwargs):
    with pytest.raises(ArgumentError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "kin"),
    [
        (ArgumentError, ValueError),
        (ArgumentFileError, FileNotFoundError),
        (ArgumentTypeError, TypeError),
    ],
)
def test_an_error_has_its_argument_as_data(kind, kin):
    error = kind("size", (1, 2, 3), "(height, width)")
    assert isinstance(error, kin)
    assert (error.argument, error.got, error.expected) == ("size", "(1, 2, 3)", "(height, width)")
    assert str(error) == "size: got (1, 2, 3), expected (height, width)"
    renamed = error.renamed("--size")
    assert type(renamed) is kind
    assert str(renamed) == "--size: got (1, 2, 3), expected (height, width)"
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is kind
    assert str(copied) == str(error)


def test_renaming():
    with (
        pytest.raises(ArgumentFileError, match=r"^--data: got 'x', expected a folder$") as caught,
        renaming(name="--data"),
    ):
        raise ArgumentFileError("name", "'x'", "a folder")
    assert caught.value.__cause__.argument == "name"
    with pytest.raises(ArgumentError, match=r"^split: got") as caught, renaming(name="--data"):
        raise ArgumentError("split", "'x'", "another")
    assert caught.value.__cause__ is None
    with pytest.raises(ValueError, match=r"^name: free$"), renaming(name="--data"):
        raise ValueError("name: free")


def test_choices():
    check_choice("method", "a", ("a", "b"))
    check_choice("method", None, (None, "b"))
    check_choice("method", np.str_("a"), {"a": 1})
    check_choice("relu", True, (True, "channel"))
    expected = "method: got 'c', expected one of 'a', 'b'"
    assert said(check_choice, "method", "c", {"a": 1, "b": 2}) == expected
    assert said(check_choice, "x", 1, (True, 2)) == "x: got 1, expected one of True, 2"
    assert said(check_choice, "x", True, (1, 2)) == "x: got True, expected one of 1, 2"
    assert said(check_choice, "x", ["a"], "a") == "x: got ['a'], expected one of 'a'"
    message = "x: got array(['a', 'b'], dtype='<U1'), expected one of 'a', 'b'"
    assert said(check_choice, "x", np.array(["a", "b"]), "ab") == message
    message = "x: got 'c', expected one of 'a', 'b' or a number"
    assert said(check_choice, "x", "c", "ab", or_else="a number") == message


def test_of_many_choices_the_nearest_are_named():
    layers = [f"layer{i}" for i in range(1, 13)]
    assert one_of("x", layers).startswith("one of 'layer1', 'layer2'")
    layers += ["head", "Stem"]
    message = "layer: got 'stem.', expected one of 14 layers, such as 'Stem'"
    assert said(check_choice, "layer", "stem.", layers, kind="layers").startswith(message)
    assert "such as 'layer11', 'layer12', 'head', 'Stem'" in one_of(7, layers)


def test_nearest():
    assert nearest("LAYER3", ["layer1", "layer3", "x"])[0] == "layer3"
    assert nearest("???", list("abcdef")) == ["c", "d", "e", "f"]
    assert nearest("???", list("abcdef"), count=2) == ["e", "f"]
    assert nearest("a", []) == []
    assert listing(["a", 1]) == "'a', 1"


def test_numbers_have_bounds():
    check_at_least("n", 1, 1)
    check_at_least("n", jnp.float32(1), 1)
    check_above("n", 1e-9, 0)
    assert said(check_at_least, "n", 0, 1) == "n: got 0, expected at least 1"
    assert said(check_at_least, "n", float("nan"), 1) == "n: got nan, expected at least 1"
    assert said(check_at_least, "n", "2", 1) == "n: got '2', expected at least 1"
    assert said(check_at_least, "n", np.float64(0.5), 1) == "n: got 0.5, expected at least 1"
    assert said(check_above, "n", 0, 0) == "n: got 0, expected a number above 0"
    assert said(jax.jit(lambda n: check_above("n", n, 0)), 1).startswith("n: got ")


@pytest.mark.parametrize(
    ("ends", "good", "bad"),
    [
        ("[]", (0, 0.5, 1), (-0.1, 1.1)),
        ("[)", (0, 0.5), (-0.1, 1)),
        ("(]", (0.5, 1), (0, 1.1)),
        ("()", (0.5,), (0, 1, float("nan"))),
    ],
)
def test_intervals(ends, good, bad):
    for value in good:
        check_within("k", value, 0, 1, ends=ends)
    for value in bad:
        expected = f"k: got {value}, expected a number in {ends[0]}0, 1{ends[1]}"
        assert said(check_within, "k", value, 0, 1, ends=ends) == expected


def test_whole_numbers():
    check_whole("n", 1, 1)
    check_whole("n", np.int64(5), 1, 5)
    assert said(check_whole, "n", 0, 1) == "n: got 0, expected a whole number, at least 1"
    assert said(check_whole, "n", True, 1) == "n: got True, expected a whole number, at least 1"
    assert said(check_whole, "n", 2.0, 1) == "n: got 2.0, expected a whole number, at least 1"
    assert said(check_whole, "n", 6, 1, 5, what="the classes") == (
        "n: got 6, expected 1 to 5, the classes"
    )
    assert "expected 1 to 5" in said(check_whole, "n", np.array([1, 2]), 1, 5)


def test_sizes():
    assert check_size("size", (2, 3)) == (2, 3)
    assert check_size("size", np.array([2, 3])) == (2, 3)
    for bad in (
        (2,),
        (2, 3, 4),
        (0, 3),
        (2.5, 3),
        "ab",
        5,
        (float("nan"), 1),
        (float("inf"), 1),
        (None, 1),
    ):
        message = f"size: got {bad!r}, expected (height, width) in whole pixels"
        assert said(check_size, "size", bad) == message


def test_values_are_shown_to_be_read():
    assert shown("a") == "'a'"
    assert shown(np.float64(0.1)) == "0.1"
    assert shown(0.1) == "0.1"
    assert shown([1]) == "[1]"


def test_alike_may_find_nothing():
    assert alike("vocc", ["voc", "imagenet"]) == ["voc"]
    assert alike("???", ["voc", "imagenet"]) == []
    assert alike("ab", ["abc", "abd", "abe"], count=2) == ["abe", "abd"]
    assert alike("abxx", ["abc"]) == [] != alike("abxx", ["abc"], cutoff=0.3)
