"""The page of methods is what the table in the code says, and says all of it."""

import inspect
import pathlib

from jaxcam import _metric_peers, metrics, peers
from jaxcam.methods import METHODS

PAGE = pathlib.Path(__file__).parents[1] / "docs/methods.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == peers.page(), "python -m jaxcam.peers > docs/methods.md"


def test_every_method_has_its_kin():
    assert list(peers.KIN) == list(METHODS)
    for name, kin in peers.KIN.items():
        assert kin.cost, name


def test_every_metric_of_the_page_exists_and_those_of_maps_are_on_it():
    names = [name for name, *_ in _metric_peers.METRICS]
    assert len(names) == len(set(names))
    asking = set()
    for name in metrics.__all__:
        value = getattr(metrics, name)
        if inspect.isfunction(value) and "saliency" in inspect.signature(value).parameters:
            asking.add(name)
    # What another name on the page stands for, or a part of one.
    asking -= {"adcc_of_maps", "arcc_of_maps", "box_from_map", "confidences", "mask_images"}
    assert asking <= set(names) <= set(metrics.__all__)


def test_options_that_the_page_names_exist():
    for name, kin in peers.KIN.items():
        for part in kin.cost.split("`")[1::2]:
            keyword, equals, _ = part.partition("=")
            known = inspect.signature(METHODS[name].function).parameters
            assert not equals or keyword in known, (name, part)
