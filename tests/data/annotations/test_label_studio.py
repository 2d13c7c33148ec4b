"""Label Studio's JSON."""

import base64

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.errors import UserError
from tests.data.annotations.making import (
    HEIGHT,
    WIDTH,
    box,
    corners,
    masks,
    pack_brush,
    picture,
    png,
    region,
    task,
    write,
)


def test_label_studio(tmp_path):
    alpha = box(3, 4, 20, 25, 255)
    percent = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(22, 2, 30, 8)]
    results = [
        region(
            "brushlabels",
            {"format": "rle", "rle": pack_brush(alpha), "brushlabels": ["cup"]},
        ),
        region("polygonlabels", {"points": percent, "polygonlabels": ["lid"]}),
        region(
            "rectanglelabels",
            {"x": 50, "y": 50, "width": 25, "height": 20, "rectanglelabels": ["lid"]},
        ),
        region("keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["lid"]}),
        region("choices", {"choices": ["good"]}),
    ]
    ellipse = region(
        "ellipselabels",
        {"x": 50, "y": 50, "radiusX": 25, "radiusY": 50, "ellipselabels": ["cup"]},
    )
    second = task([ellipse], "/data/local-files/?d=photos%2Fb.png", id=6)
    outdated = {"id": 2, "updated_at": "2024-01-01T00:00:00Z", "result": results}
    newer = {"id": 3, "updated_at": "2024-01-02T00:00:00Z", "result": [ellipse]}
    third = {**task([], "s3://bucket/c.png"), "annotations": [newer, outdated]}
    cancelled = task(results, "http://host:8080/d.png")
    cancelled["annotations"][0]["was_cancelled"] = True
    write(
        tmp_path,
        {
            "export.json": [task(results), second, third, cancelled],
            "my cup.png": picture(0),
            "photos/b.png": picture(1),
            "c.png": picture(2),
        },
    )
    read = read_support(tmp_path / "export.json")
    assert read.format == "Label Studio" and read.classes == ("cup", "lid")
    expected = alpha // 255
    expected[2:8, 22:30] = 2
    expected[15:21, 20:30] = 2
    found = masks(read)
    np.testing.assert_array_equal(found["my cup.png"], expected)
    rows, columns = np.indices(expected.shape) + 0.5
    inside = ((rows - 15) / 15) ** 2 + ((columns - 20) / 10) ** 2 <= 1
    for name in ("b.png", "c.png"):
        np.testing.assert_array_equal(found[name], inside)
    assert any("keypointlabels has no area" in note for note in read.notes)
    assert any("several annotations, the one" in note for note in read.notes)
    assert "not labelled, so left out: http://host:8080/d.png" in read.notes


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([task([])], "none of 1 tasks has a labelled region"),
        (
            [task([region("brushlabels", {"rle": [1], "brushlabels": ["a"]})])],
            "marks anything .*break off: left out",
        ),
        (
            [task([region("brushlabels", {"brushlabels": ["a"]}, image_rotation=90)])],
            "turned by 90 degrees",
        ),
        ([task([region("polygonlabels", {"polygonlabels": [1]})])], "marks anything"),
        ([task([region("x", {"xlabels": [{}]})])], "none of 1 tasks"),
        ([task([3])], "none of 1 tasks has a labelled region"),
        (
            [task([], predictions=[{"result": []}])],
            "there are predictions: accept them as annotations",
        ),
        ([{**task([]), "data": {}}], "without a picture"),
    ],
)
def test_malformed_label_studio(tmp_path, document, message):
    write(tmp_path, {"export.json": document, "my_cup.png": picture()})
    with pytest.raises(UserError, match=message) as error:
        read_support(tmp_path)
    assert "export.json" in str(error.value) or "my_cup.png" in str(error.value)


def square(points=None, label="cup"):
    points = points or corners(2, 3, 10, 12)
    percent = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]
    return region("polygonlabels", {"points": percent, "polygonlabels": [label]})


def a_folder(folder, reference, *names, results=None):
    tasks = [task(results or [square()], reference)]
    return write(
        folder, {"x.json": tasks, **{n: picture(i) for i, n in enumerate(names)}}
    )


URI = base64.b64encode(b"s3://bucket/photos/p 0.png").decode()


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/data/local-files/?d=photos/c++_0.png", "c++_0.png"),
        ("/data/local-files/?d=photos/a#1.png", "a#1.png"),
        ("/data/local-files/?d=photos%2Fa%231.png", "a#1.png"),
        ("/data/local-files/?d=photos/a?b&c=d.png", "a?b&c=d.png"),
        ("/data/upload/1/0a1b2c3d-cup.png", "cup.png"),
        ("/data/upload/1/0a1b2c3d-my_cup.png", "my cup.png"),
        ("http://host/a%3Ab.png", "a%3Ab.png"),
        ("http://host/a%3Ab.png", "a:b.png"),
        ("http://host/a.png?X-Amz-Date=20250101&d=1", "a.png"),
        ("https://host/a.png#top", "a.png"),
        ("s3://bucket/a%20b.png", "a b.png"),
        (f"/tasks/1/resolve/?fileuri={URI}", "p 0.png"),
        (f"/tasks/1/resolve/?fileuri={URI.rstrip('=')}&x=1", "p 0.png"),
        ("bu\u0308ro.png", "b\u00fcro.png"),
        ("b\u00fcro.png", "bu\u0308ro.png"),
        ("C:\\photos\\A.PNG", "a.png"),
    ],
)
def test_addresses_of_pictures(tmp_path, reference, name):
    read = read_support(a_folder(tmp_path, reference, name))
    np.testing.assert_array_equal(read.pictures[0].image, np.asarray(picture(0)))


@pytest.mark.parametrize(
    ("reference", "names", "found"),
    [
        ("img_1.png", ("img 1.png", "img_1.png"), 1),
        ("img 1.png", ("img 1.png", "img_1.png"), 0),
        ("IMG_1.png", ("img_1.png", "IMG_1.png"), 1),
        ("a%20b.png", ("a b.png", "a%20b.png"), 1),
        ("x/a.png", ("y/a.png", "x/a.png"), 1),
        ("b\u00fc.png", ("bu\u0308.png", "b\u00fc.png", "B\u00dc.png"), 1),
    ],
)
def test_the_exact_name_goes_first(tmp_path, reference, names, found):
    read = read_support(a_folder(tmp_path, reference, *names))
    np.testing.assert_array_equal(read.pictures[0].image, np.asarray(picture(found)))


def test_names_that_may_be_several(tmp_path):
    with pytest.raises(UserError, match="may be A.png and a.png; leave only one"):
        read_support(a_folder(tmp_path, "A.PNG", "A.png", "a.png"))


def test_the_picture_is_the_text_that_names_a_file(tmp_path):
    data = {"title": "sample_0", "n": 3, "img": "/data/upload/1/p.png"}
    write(tmp_path, {"x.json": [task([square()], data=data)], "p.png": picture()})
    assert masks(read_support(tmp_path)).keys() == {"p.png"}
    (tmp_path / "p.png").rename(tmp_path / "q.png")
    with pytest.raises(UserError, match=r"no picture p\.png below"):
        read_support(tmp_path)


def bitmask(alpha, level=0, mode="RGBA"):
    """What Label Studio's BitmaskLabels hold: black on transparent."""
    values = np.full((*alpha.shape, 4), level, np.uint8)
    values[..., 3] = alpha
    data = base64.b64encode(png(Image.fromarray(values).convert(mode))).decode()
    value = {"imageDataURL": f"data:image/png;base64,{data}", "bitmasklabels": ["cup"]}
    return region("bitmasklabels", value)


@pytest.mark.parametrize("level", [0, 255])
def test_bitmasks(tmp_path, level):
    result = bitmask(box(2, 3, 10, 12, 255), level)
    read = read_support(a_folder(tmp_path, "a.png", "a.png", results=[result]))
    np.testing.assert_array_equal(read.pictures[0].mask, box(2, 3, 10, 12))


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        (square([[1, 1], [2, 2]]), "a polygon of 2 points: left out"),
        (region("x", {"polygonlabels": ["cup"], "points": [["a", 1]]}), "left out"),
        (region("x", {"brushlabels": ["cup"], "rle": [0, 0]}), "break off: left out"),
        (
            region(
                "x", {"x": 1, "y": 1, "radiusX": 0, "radiusY": 1, "xlabels": ["cup"]}
            ),
            "",
        ),
        (region("x", {"bitmasklabels": ["cup"], "imageDataURL": "no"}), "left out"),
        (bitmask(box(0, 0, 0, 0)), "marks nothing in the picture: left out"),
        (region("x", {"x": 1, "height": 1, "xlabels": ["cup"]}), "'y' is missing"),
        (3, "left out"),
    ],
)
def test_one_bad_region_costs_that_region(tmp_path, bad, note):
    read = read_support(a_folder(tmp_path, "a.png", "a.png", results=[bad, square()]))
    np.testing.assert_array_equal(read.pictures[0].mask, box(2, 3, 10, 12))
    assert any(note in n and "left out" in n for n in read.notes), read.notes


def test_small_regions_lie_on_large_ones(tmp_path):
    results = [square(), square(corners(0, 0, 40, 30), "table")]
    read = read_support(a_folder(tmp_path, "a.png", "a.png", results=results))
    np.testing.assert_array_equal(read.pictures[0].mask, 2 - box(2, 3, 10, 12))


def test_labels_of_one_region_in_text(tmp_path):
    result = square(label="x")
    result["value"]["polygonlabels"] = " cup "
    read = read_support(a_folder(tmp_path, "a.png", "a.png", results=[result]))
    assert read.classes == ("cup",)
