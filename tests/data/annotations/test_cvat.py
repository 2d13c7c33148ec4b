"""CVAT's two formats: coloured masks, and outlines as XML."""

import numpy as np
import pytest

from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.errors import UserError
from tests.data.annotations.making import (
    LABELMAP,
    box,
    cvat,
    masks,
    picture,
    write,
)


def test_cvat(tmp_path):
    read = read_support(write(tmp_path, cvat()))
    assert read.format == "CVAT segmentation mask"
    assert read.classes == ("cat", "big dog")
    expected = box(4, 3, 12, 9, 2) | box(4, 10, 12, 20)
    expected[0] = 255
    np.testing.assert_array_equal(masks(read)["a.png"], expected)
    np.testing.assert_array_equal(masks(read)["b.png"], expected[:, ::-1])
    assert read.notes[1:] == ["no mask, so left out: empty"]


def test_cvat_of_one_channel_holds_the_lines_of_the_label_map(tmp_path):
    gray = box(4, 3, 12, 9, 2) + box(4, 10, 12, 20)
    files = {"SegmentationClass/a.png": gray, "SegmentationClass/sub/b.png": gray}
    read = read_support(write(tmp_path, cvat(**files)))
    np.testing.assert_array_equal(masks(read)["a.png"], gray)
    files = {"SegmentationClass/a.png": np.full_like(gray, 9)}
    with pytest.raises(UserError, match=r"a\.png: index 9, but .*has 4 lines"):
        read_support(write(tmp_path, files))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"SegmentationClass/sub/b.png": np.full((30, 40, 3), 77, np.uint8)},
            r"b\.png: colour \(77, 77, 77\) belongs to no label of",
        ),
        ({"labelmap.txt": LABELMAP + "cow:10,20,30::"}, "cat and cow have the same"),
        ({"labelmap.txt": LABELMAP + "cat:1,2,3::"}, "label 'cat' has two colours"),
        ({"labelmap.txt": "cat\n"}, "expected label:red,green,blue"),
        ({"labelmap.txt": ""}, "labelmap.txt: not as its format says"),
        ({"SegmentationClass/a.png": b"nothing"}, r"a\.png: not an image file"),
        ({"JPEGImages/a.png": b""}, r"a\.png: empty file"),
    ],
)
def test_malformed_cvat(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        read_support(write(tmp_path, cvat(**files)))


def test_cvat_without_its_pictures(tmp_path):
    write(tmp_path, cvat())
    (tmp_path / "JPEGImages/a.png").unlink()
    with pytest.raises(UserError, match="no picture a.* export it with images"):
        read_support(tmp_path)


def cvat_xml(shapes, more=""):
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f'<image id="0" name="sub/a.png" width="40" height="30">{shapes}</image>'
        f'<image id="1" name="b.png" width="40" height="30"></image>{more}'
        "</annotations>"
    )


def polygon(label, points, order=0):
    text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f'<polygon label="{label}" points="{text}" z_order="{order}"></polygon>'


CUP = polygon("cup", [(2, 3), (10, 3), (10, 12), (2, 12)])
TABLE = polygon("table", [(0, 0), (40, 0), (40, 30), (0, 30)])


def xml_folder(folder, text):
    pictures = {"images/sub/a.png": picture(), "images/b.png": picture(1)}
    return write(folder, {"annotations.xml": text, **pictures})


@pytest.mark.parametrize("given", ["", "annotations.xml"])
def test_cvat_xml(tmp_path, given):
    lid = '<mask label="lid" rle="1,2,3,6" left="20" top="10" width="4" height="3"/>'
    eye = '<ellipse label="eye" cx="30" cy="20" rx="3" ry="2" rotation="90"/>'
    left_out = '<box label="cup" xtl="1" ytl="1" xbr="3" ybr="3"/>'
    left_out += '<polyline label="cup" points="1,1;2,2"/>'
    read = read_support(
        xml_folder(tmp_path, cvat_xml(CUP + lid + eye + left_out)) / given
    )
    assert read.format == "CVAT for images" and read.classes == ("cup", "eye", "lid")
    mask = masks(read)["a.png"]
    np.testing.assert_array_equal(mask == 1, box(2, 3, 10, 12))
    np.testing.assert_array_equal(
        mask[10:13, 20:24] == 3, [[0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]]
    )
    rows, columns = np.nonzero(mask == 2)
    assert (np.ptp(rows), np.ptp(columns)) == (5, 3)
    assert "not labelled, so left out: b.png" in read.notes
    assert "a.png: a box has no outline and was left out" in read.notes


def test_layers_of_cvat_and_areas_within_them(tmp_path):
    mask = masks(read_support(xml_folder(tmp_path, cvat_xml(CUP + TABLE))))["a.png"]
    np.testing.assert_array_equal(mask, 2 - box(2, 3, 10, 12))
    above = CUP + TABLE.replace('z_order="0"', 'z_order="1"')
    read = read_support(xml_folder(tmp_path, cvat_xml(above)))
    assert read.classes == ("table",)
    assert any("nothing is left of class cup" in note for note in read.notes)


@pytest.mark.parametrize(
    "bad",
    [
        '<polygon label="cup" points="1,1;2,2"/>',
        '<polygon label="cup" points="x"/>',
        '<polygon points="1,1;2,2;3,3"/>',
        '<mask label="cup" rle="1,1" left="0" top="0" width="4" height="3"/>',
        '<mask label="cup" rle="1,1e30" left="0" top="0" width="1e9" height="1e9"/>',
        '<ellipse label="cup" cx="nan" cy="1" rx="1" ry="1"/>',
    ],
)
def test_one_bad_shape_of_cvat_costs_that_shape(tmp_path, bad):
    read = read_support(xml_folder(tmp_path, cvat_xml(bad + CUP)))
    np.testing.assert_array_equal(masks(read)["a.png"], box(2, 3, 10, 12))
    assert any("left out" in note and "a.png" in note for note in read.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cvat_xml(""), "none of 2 images has a shape"),
        (cvat_xml("", "<track id='0' label='x'/>"), "format for videos; export it as"),
        (cvat_xml(CUP).replace("</image>", ""), "not as its format says"),
        (cvat_xml(CUP).replace("<annotations", "<!DOCTYPE a><annotations"), "document"),
        (
            cvat_xml(CUP).replace('name="sub/a.png"', 'name="z.png"'),
            r"no picture z\.png",
        ),
        (cvat_xml(CUP).replace('name="sub/a.png"', ""), "'name' is missing"),
    ],
)
def test_malformed_cvat_xml(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_support(xml_folder(tmp_path, text))
    assert "annotations.xml" in str(error.value)


def test_entities_are_never_expanded(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    text = cvat_xml(CUP).replace("<annotations>", f"{bomb}<annotations>&a;&f;")
    with pytest.raises(UserError, match="declares a document type"):
        read_support(xml_folder(tmp_path, text))


def test_xml_of_others_is_passed_over(tmp_path):
    write(tmp_path, {"a.xml": "<annotation><object/></annotation>"})
    write(tmp_path, {"a.jpg": picture(), "a.png": box(2, 3, 10, 12, 255)})
    assert read_support(tmp_path).format == "images and masks"
