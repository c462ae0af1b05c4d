"""Pictures: formats, labels, text that is not markup, and nothing that two pictures of a page could share."""

import importlib
import re
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastmf.errors import DeviceUnavailableError, ParameterError
from fastmf.reporting import draw

pytest.importorskip("matplotlib")
HOSTILE = "<script>alert(1)</script> & \"'\x00\u2028 $x^$ "
EPOCHS = np.arange(1, 6)


def curve(label="what it shows", **more):
    series = {"one": (EPOCHS, EPOCHS / 7), "two": (EPOCHS, EPOCHS / 9)}
    return draw.picture(label, draw.Lines(series=series, x="x", y="y", **more))


def of_bars(label="b", **more):
    return draw.picture(
        label, draw.Bars(names=["p", "q"], series={"one": [1, np.nan], "two": [2, 3]}, value="v", **more)
    )


def of_dots(label="p"):
    return draw.picture(
        label, draw.Dots(series={"one": (EPOCHS, EPOCHS)}, x="x", y="y", line=("best", (EPOCHS, EPOCHS)))
    )


ALL = {
    "lines": curve,
    "logarithmic": lambda label: curve(label, log_x=True, log_y=True),
    "bars": of_bars,
    "flat bars": lambda label: of_bars(label, horizontal=True, log=True),
    "dots": of_dots,
    "two": lambda label: draw.picture(label, draw.Dots(series={}, x="", y=""), draw.Lines(series={}, x="", y="")),
}


@pytest.mark.parametrize("picture", ALL.values(), ids=ALL)
def test_svg_is_whole_labelled_and_always_the_same(picture):
    for inline in (False, True):
        text = picture("in words").svg(inline)
        root = ET.fromstring(text)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"] == "in words"
        assert text == picture("in words").svg(inline)
        assert "metadata" not in text
    assert "var(--ink, #22272e)" in text
    assert "mathdefault" not in text
    assert not re.search(r"[^,] #[0-9a-f]{6}\b", text), "a colour that is not the page's"
    assert "<style" not in text


def test_pictures_of_one_page_share_no_id():
    one, two = (set(re.findall(r' id="([^"]+)"', curve(label).svg(True))) for label in ("a", "b"))
    assert one
    assert not one & two


def test_names_are_text():
    series = {HOSTILE: (EPOCHS, EPOCHS), "b": (EPOCHS, EPOCHS)}
    names = [HOSTILE, "x" * 999]
    bars = draw.Bars(names=names, series={HOSTILE: [1, 2], "b": [1, 2]}, value=HOSTILE, horizontal=True)
    pictures = [
        draw.picture(HOSTILE, draw.Lines(series=series, x=HOSTILE, y=HOSTILE, marks=[(2, HOSTILE)])),
        draw.picture(HOSTILE, bars),
    ]
    for picture in pictures:
        root = ET.fromstring(picture.svg(True))
        assert not [each for each in root.iter() if each.tag.endswith("script")]
        assert "x" * 60 not in picture.svg()


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".PDF", b"%PDF")])
def test_files(tmp_path, suffix, start):
    path = tmp_path / f"a{suffix}"
    curve().save(path)
    assert path.read_bytes().startswith(start)
    if suffix == ".svg":
        assert ">what it shows</text>" in path.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError):
        curve().save(path)
    curve().save(path, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ParameterError, match=r"a\.gif: pictures are written as \.svg, \.png, \.pdf"):
        curve().save(tmp_path / "a.gif")


def test_drawing_leaves_no_style_behind():
    matplotlib = importlib.import_module("matplotlib")
    before = dict(matplotlib.rcParams)
    curve().svg()
    assert dict(matplotlib.rcParams) == before


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DeviceUnavailableError, match=r"need jinja2, .*pip install jinja2 matplotlib"):
        curve()


def test_drawing_in_threads_leaves_no_style_behind():
    matplotlib = importlib.import_module("matplotlib")
    before = dict(matplotlib.rcParams)
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda n: curve(f"picture {n}").svg(), range(12)))
    assert dict(matplotlib.rcParams) == before
    assert drawn == [curve(f"picture {n}").svg() for n in range(12)]


def test_the_style_of_the_caller_does_not_matter():
    matplotlib = importlib.import_module("matplotlib")
    usual = curve().svg()
    with matplotlib.rc_context({"savefig.facecolor": "black", "text.usetex": True}):
        assert curve().svg() == usual


def test_nothing_to_draw_is_an_empty_picture():
    assert ET.fromstring(draw.picture("Nothing was measured.").svg()).attrib["aria-label"] == "Nothing was measured."
