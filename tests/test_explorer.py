"""The explorer's page: what is stored in it, that it needs nothing else, and how it behaves."""

import base64
import json
import re
import shutil

import numpy as np
import pytest

import jaxcam
from jaxcam import explorer
from jaxcam.explorer import Heat, Shown
from jaxcam.explorer._shown import quantized

CLASSES = ["tabby", "</script><b>espresso", "crane", "lion", "orange", "umbrella", "truck"]
CHANCES = np.array([0.5, 0.3, 0.1, 0.04, 0.03, 0.02, 0.01])


def shown(**changes):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    spot = np.zeros((4, 4))
    spot[1, 2] = 2.0
    signed = rng.normal(size=(80, 80))
    heats = [
        Heat("Grad-CAM", "layer3", 0, rng.random((8, 8)), metrics={"entropy": 2.5}),
        Heat("Grad-CAM", "layer4", 0, spot, jaxcam.Centers((7.0, 7.0), (8.0, 8.0), (32, 32))),
        Heat("LRP", "", 0, signed, signed=True),
        Heat("Grad-CAM", "layer4", 1, np.full((4, 4), np.nan)),
        Heat("Grad-CAM", "layer4", 6, spot),
    ]
    usual = {
        "name": "cat <1>.jpg",
        "photo": photo,
        "classes": CLASSES,
        "probabilities": CHANCES,
        "target": 0,
        "heats": heats,
        "size": (32, 32),
    }
    return Shown(**usual | changes)


def stored(page):
    (text,) = re.findall(
        r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(text)


def values(heat):
    raw = base64.b64decode(heat["values"])
    integers = np.frombuffer(raw, f"<i{heat['bits'] // 8}").reshape(heat["h"], heat["w"])
    return integers * heat["scale"]


def test_maps_are_stored_as_they_are():
    given = shown()
    (photo,) = stored(explorer.page([given], network="tiny"))["photos"]
    for heat, expected in zip(photo["heats"], given.heats, strict=True):
        if heat["note"]:
            continue
        exact = np.abs(expected.values).max() / (2 ** (heat["bits"] - 1) - 1)
        np.testing.assert_allclose(values(heat), expected.values, atol=0.51 * exact)
        assert heat["layer"] == expected.layer
    assert [heat["bits"] for heat in photo["heats"]] == [16, 16, 8, 16, 16]
    assert photo["heats"][3]["note"] == "no map: NaN or infinity"
    assert photo["heats"][1]["centers"] == {"start": [7, 7], "step": [8, 8], "size": [32, 32]}
    assert photo["heats"][0]["metrics"] == {"entropy": 2.5}
    assert photo["box"] == [0, 0, 1, 1]
    assert [row[0] for row in photo["classes"]] == [0, 1, 2, 3, 4, 6]  # the fifth, and who is shown


@pytest.mark.parametrize("scale", [1e-41, 1e-30, 1.0, 1e30, 4e37])
def test_numbers_of_any_size_fit(scale):
    integers, unit = quantized(np.array([[0.0, 0.5], [1.0, -0.25]]) * scale, 16, signed=False)
    np.testing.assert_allclose(integers * unit / scale, [[0, 0.5], [1, -0.25]], atol=1e-4)


def test_a_map_that_is_only_against_is_zero_of_a_plain_scale():
    integers, unit = quantized(-np.ones((2, 2)), 16, signed=False)
    assert unit == 0
    assert not integers.any()


def test_the_page_needs_nothing_else_and_no_name_ends_its_script():
    page = explorer.page([shown()], network="<i>net", title="T & <x>")
    assert "http:" not in page and "https:" not in page
    assert page.count("</script>") == 2
    assert "<title>T &amp; &lt;x&gt;</title>" in page
    assert "{{" not in page
    assert len(page) < 1e6


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="photos: got none, expected one at least"):
        explorer.page([], network="tiny")
    with pytest.raises(ValueError, match=r"heats: got none for photo 'cat <1>\.jpg'"):
        explorer.page([shown(heats=[])], network="tiny")
    with pytest.raises(ValueError, match=r"values: got shape \(3,\), expected \[h, w\]"):
        explorer.page([shown(heats=[Heat("CAM", "", 0, np.ones(3))])], network="tiny")


# In a browser ---------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    found = tmp_path_factory.mktemp("explorer") / "page.html"
    explorer.write(found, [shown(), shown(name="second.jpg")], network="tiny")
    return found


@pytest.fixture(params=[(1280, 900), (390, 800)], ids=["desktop", "phone"])
def page(request, browser, path):
    width, height = request.param
    opened = browser.new_page(viewport={"width": width, "height": height})
    complaints = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: complaints.append(asked.url) if "http" in asked.url else 0)
    opened.goto(path.as_uri())
    opened.wait_for_function(
        "document.querySelector('#a canvas').width > 300 || images[0].complete"
    )
    yield opened
    opened.close()
    assert complaints == []


def test_what_is_picked_is_kept_in_the_address(page, path):
    page.select_option("#a .method", "LRP")
    page.select_option("#class", "6")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    for part in ("photo=1", "class=6", "smooth=false"):
        assert part in page.url
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert page.text_content("#about") == "second.jpg · tiny"
    assert page.input_value("#class") == "6"
    assert not page.is_checked("#smooth")


def test_one_pointer_reads_both_maps_at_the_cells_place(page):
    """A spot at cell (1, 2) of a layer whose cells lie every 8 px from 7: at (15, 23) of 32."""
    page.goto(page.url.split("#")[0] + "#a=Grad-CAM%2Flayer4&b=Grad-CAM%2Flayer3")
    page.reload()
    stage = page.locator("#a .stage")
    box = stage.bounding_box()
    x, y = (23 + 0.5) / 32, (15 + 0.5) / 32
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    value, share = page.text_content("#a .readout").split(", ")
    assert abs(float(value) - 2.0) < 0.12
    assert int(share.split()[0]) >= 94
    assert "of the largest" in page.text_content("#b .readout")
    hottest = page.evaluate(
        """() => {
          const c = document.querySelector('#a canvas');
          const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
          let x = 0, y = 0, n = 0;
          for (let i = 0; i < d.length; i += 4) {
            const chroma = Math.max(d[i], d[i+1], d[i+2]) - Math.min(d[i], d[i+1], d[i+2]);
            if (chroma > 60) { n += 1; x += i / 4 % c.width; y += Math.floor(i / 4 / c.width); }
          }
          return [x / n / c.width, y / n / c.height];
        }"""
    )
    np.testing.assert_allclose(hottest, (x, y), atol=0.03)


def test_a_map_without_numbers_says_so_and_the_picture_is_saved(page):
    page.select_option("#class", "1")
    assert page.text_content("#a .note") == "no map: NaN or infinity"
    assert page.locator("#classes").text_content().count("</script><b>espresso") == 1
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename.endswith("_explained.png")


def test_nothing_is_wider_than_the_page(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
