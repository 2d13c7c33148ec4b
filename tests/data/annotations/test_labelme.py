"""LabelMe's JSON, and that of tools that write the same."""

import base64

import numpy as np
import pytest

from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.errors import UserError
from tests.data.annotations.making import (
    HEIGHT,
    ORIENTATION,
    WIDTH,
    box,
    corners,
    labelme,
    masks,
    picture,
    png,
    shape,
    write,
)


def test_labelme_shapes(tmp_path):
    stencil = base64.b64encode(png(np.full((3, 4), 255, np.uint8))).decode()
    a = [
        shape("cup", corners(2, 3, 10, 12)),
        shape("lid", [[20, 20], [15, 18]], "rectangle"),
        shape("cup", [[30, 10], [30, 14]], "circle"),
        shape("cup", [[1, 25], [4, 27]], "mask", mask=stencil),
        shape("cup", [[0, 0], [40, 30]], "line"),
    ]
    b = [shape("lid", [[30.0, 20.0], [60.0, 40.0]], "rectangle")]
    embedded = base64.b64encode(png(picture(5))).decode()
    write(
        tmp_path,
        {
            "a.json": labelme(a, "..\\photos\\a.png"),
            "photos/a.png": picture(0),
            "b.json": labelme(b, "b.jpg", imageData=embedded),
            "unlabelled.png": picture(2),
            "package.json": {"name": "something else"},
        },
    )
    read = read_support(tmp_path)
    assert read.format == "LabelMe" and read.classes == ("cup", "lid")
    expected = box(2, 3, 10, 12) | box(1, 25, 5, 28)
    expected[18:20, 15:20] = 2
    rows, columns = np.indices(expected.shape) + 0.5
    expected[(rows - 10) ** 2 + (columns - 30) ** 2 <= 16] = 1
    found = masks(read)
    np.testing.assert_array_equal(found["a.png"], expected)
    np.testing.assert_array_equal(found["b.jpg"], box(30, 20, 40, 30, 2))
    np.testing.assert_array_equal(read.pictures[0].image, np.asarray(picture(0)))
    np.testing.assert_array_equal(read.pictures[1].image, np.asarray(picture(5)))
    assert read.notes[1:] == ["a.json: a line has no area and was left out"]


def test_labelme_says_background_and_unknown(tmp_path):
    shapes = [
        shape("cup", corners(0, 0, 20, 20)),
        shape("__ignore__", corners(0, 0, 20, 5)),
        shape("_background_", corners(0, 5, 20, 10)),
    ]
    write(tmp_path, {"a.json": labelme(shapes), "a.png": picture()})
    read = read_support(tmp_path / "a.json")
    assert read.classes == ("cup",)
    mask = read.pictures[0].mask
    assert mask[:5, :20].tolist() == [[255] * 20] * 5
    assert not mask[5:10].any() and mask[10:20, :20].all()


def test_a_turned_photo_takes_its_mask_along(tmp_path):
    photo = picture(0)
    exif = photo.getexif()
    exif[ORIENTATION] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    # Drawn by a program that shows the pixels as stored.
    write(tmp_path, {"a.json": labelme([shape("cup", corners(0, 0, 40, 5))], "a.jpg")})
    read = read_support(tmp_path)
    assert read.pictures[0].image.shape == (WIDTH, HEIGHT, 3)
    expected = np.zeros((WIDTH, HEIGHT), np.uint8)
    expected[:, -5:] = 1
    np.testing.assert_array_equal(read.pictures[0].mask, expected)


CUP = [shape("cup", corners(2, 3, 10, 12))]


def test_small_shapes_lie_on_large_ones(tmp_path):
    table, plate = (
        shape("table", corners(0, 0, 40, 30)),
        shape("plate", CUP[0]["points"]),
    )
    cup = shape("cup", [[6, 6], [6, 8]], "circle")
    write(tmp_path, {"a.json": labelme([cup, plate, table]), "a.png": picture()})
    read = read_support(tmp_path)
    assert read.classes == ("cup", "plate", "table")
    mask = read.pictures[0].mask
    assert (mask[0, 0], mask[4, 4], mask[6, 6]) == (3, 2, 1)
    assert "table 94" in read.notes[0] and "cup" in read.notes[0]


def test_a_class_of_which_nothing_is_left_is_a_warning(tmp_path):
    shapes = [*CUP, shape("lid", corners(2, 3, 10, 12))]
    write(tmp_path, {"a.json": labelme(shapes), "a.png": picture()})
    read = read_support(tmp_path)
    assert read.classes == ("lid",)
    assert "warning: nothing is left of class cup" in read.notes[1]


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        (shape("cup", [[1, 1], [2, 2]]), "a polygon of 2 points: left out"),
        (shape("cup", [[1, 1]], "rectangle"), "a rectangle of 1 points: left out"),
        (shape("cup", corners(50, 50, 60, 60)), "outside of the picture: left out"),
        (shape("cup", [[0, 0], [0, 0]], "circle"), "without area in the picture"),
        (shape("cup", [], "cuboid"), "unknown type, 'cuboid': left out"),
        (shape("cup", "no"), "left out"),
        (shape("cup", [[1, 1], [1e400, 2], [3, 3]]), "left out"),
        (shape("cup", [[0, 0], [1, 1]], "mask", mask="!"), "damaged base64"),
        (shape("cup", [[0, 0], [1, 1]], "mask"), "'mask' is missing: left out"),
        ({"points": []}, "'label' is missing: left out"),
        (shape(None, corners(0, 0, 3, 3)), "label None: left out"),
        (7, "left out"),
    ],
)
def test_one_bad_shape_costs_that_shape(tmp_path, bad, note):
    write(tmp_path, {"a.json": labelme([bad, *CUP]), "a.png": picture()})
    write(tmp_path, {"b.json": labelme([bad], "b.png"), "b.png": picture(1)})
    read = read_support(tmp_path)
    # A picture of which no shape is left says nothing about its background.
    assert list(masks(read)) == ["a.png"]
    np.testing.assert_array_equal(masks(read)["a.png"], box(2, 3, 10, 12))
    assert any(note in n for n in read.notes), read.notes


def test_only_bad_shapes_are_an_error_that_says_why(tmp_path):
    bad = [shape("cup", [[1, 1], [2, 2]])]
    write(tmp_path, {"a.json": labelme(bad), "a.png": picture()})
    with pytest.raises(UserError, match="marks anything.*polygon of 2 points"):
        read_support(tmp_path)


def test_rectangles_of_four_points(tmp_path):
    shapes = [shape("cup", corners(2, 3, 10, 12), "rectangle")]
    write(tmp_path, {"a.json": labelme(shapes), "a.png": picture()})
    found = masks(read_support(tmp_path))["a.png"]
    np.testing.assert_array_equal(found, box(2, 3, 10, 12))


DATA = base64.encodebytes(png(picture(5))).decode()


@pytest.mark.parametrize(
    "data",
    [
        *(DATA, DATA.replace("\n", "\r\n"), DATA.strip().rstrip("=")),
        "data:image/png;base64," + DATA,
    ],
)
def test_embedded_pictures_in_every_spelling(tmp_path, data):
    write(tmp_path, {"a.json": labelme(CUP, imageData=data)})
    (read,) = read_support(tmp_path).pictures
    np.testing.assert_array_equal(read.image, np.asarray(picture(5)))


@pytest.mark.parametrize("data", [DATA[:500], "?", 7, "aGVsbG8="])
def test_the_picture_beside_it_serves_for_a_damaged_one(tmp_path, data):
    document = labelme(CUP, imageData=data)
    write(tmp_path / "a", {"a.json": document, "a.png": picture(3)})
    read = read_support(tmp_path / "a")
    np.testing.assert_array_equal(read.pictures[0].image, np.asarray(picture(3)))
    assert "a.json: imageData: " in read.notes[1] and "a.png was taken" in read.notes[1]
    write(tmp_path / "b", {"a.json": document})
    with pytest.raises(UserError, match="imageData"):
        read_support(tmp_path / "b")


@pytest.mark.parametrize(("label", "name"), [(1, "1"), (2.0, "2"), (" cup ", "cup")])
def test_labels_are_stripped_and_may_be_numbers(tmp_path, label, name):
    shapes = [shape(label, corners(2, 3, 10, 12)), shape(name, corners(20, 3, 30, 12))]
    write(tmp_path, {"a.json": labelme(shapes), "a.png": picture()})
    assert read_support(tmp_path, classes=(name,)).classes == (name,)


def test_labels_with_commas_can_be_chosen(tmp_path):
    shapes = [
        shape("disc, red", corners(2, 3, 10, 12)),
        shape("disc", corners(12, 3, 20, 12)),
        shape("red", corners(22, 3, 30, 12)),
        shape("a, b,c", corners(32, 3, 38, 12)),
    ]
    write(tmp_path, {"a.json": labelme(shapes), "a.png": picture()})
    for wanted, classes in (
        (("disc, red",), ("disc", "red")),
        (("a", "b", "c"), ("a, b,c",)),
        (("red", "a,b, c", "disc"), ("red", "a, b,c", "disc")),
    ):
        assert read_support(tmp_path, classes=wanted).classes == classes
    write(tmp_path, {"a.json": labelme([*shapes[:2], *shapes[3:]])})
    assert read_support(tmp_path, classes=("disc", "red")).classes == ("disc, red",)


def test_sizes_as_scripts_write_them(tmp_path):
    document = labelme(CUP, imageHeight="30", imageWidth=40.0)
    write(tmp_path, {"a.json": document, "a.png": picture()})
    assert read_support(tmp_path).pictures[0].mask.sum() == 72


def test_swapped_sizes_are_those_of_the_picture(tmp_path):
    document = labelme(CUP, imageHeight=WIDTH, imageWidth=HEIGHT)
    write(tmp_path, {"a.json": document, "a.png": picture()})
    read = read_support(tmp_path)
    np.testing.assert_array_equal(read.pictures[0].mask, box(2, 3, 10, 12))
    assert "swapped" in read.notes[1]
    document["shapes"] = [shape("cup", corners(2, 3, 10, 39))]
    write(tmp_path, {"a.json": document})
    with pytest.raises(UserError, match="does not fit into 40x30"):
        read_support(tmp_path)
    write(tmp_path, {"a.json": labelme(CUP, imageHeight=31, imageWidth=80)})
    with pytest.raises(
        UserError, match="annotated at 80x31 pixels, but a.png is 40x30"
    ):
        read_support(tmp_path)


def test_annotations_of_a_larger_copy(tmp_path):
    shapes = [shape("cup", (10 * np.array(corners(2, 3, 10, 12))).tolist())]
    stencil = base64.b64encode(png(np.full((50, 60), 255, np.uint8))).decode()
    shapes.append(shape("lid", [[200, 100], [259, 149]], "mask", mask=stencil))
    document = labelme(shapes, imageHeight=10 * HEIGHT, imageWidth=10 * WIDTH)
    write(tmp_path, {"a.json": document, "a.png": picture()})
    expected = box(2, 3, 10, 12) + box(20, 10, 26, 15, 2)
    np.testing.assert_array_equal(read_support(tmp_path).pictures[0].mask, expected)


def test_a_picture_that_was_converted_since(tmp_path):
    write(tmp_path, {"a.json": labelme(CUP, "a.jpg"), "a.png": picture()})
    read = read_support(tmp_path)
    assert "a.json: a.jpg is not there, so a.png was taken" in read.notes
    write(tmp_path, {"a.tif": picture()})
    with pytest.raises(UserError, match=r"no picture a\.jpg"):
        read_support(tmp_path)


def test_a_picture_without_shapes_is_background(tmp_path):
    write(tmp_path, {"a.json": labelme(CUP), "a.png": picture()})
    write(tmp_path, {"b.json": labelme([], "b.png"), "b.png": picture()})
    read = read_support(tmp_path)
    assert not masks(read)["b.png"].any()
    assert "nothing marked, so all background: b.png" in read.notes


def test_labels_can_always_be_printed(tmp_path):
    """JSON may hold halves of characters, which no terminal takes."""
    shapes = [shape("a\ud800\x1b[2J", corners(2, 3, 9, 9))]
    write(tmp_path, {"a.json": labelme(shapes), "a.png": picture()})
    read = read_support(tmp_path)
    assert read.classes == ("a??[2J",)
    "".join((*read.classes, *read.notes)).encode()
