"""COCO's JSON, and what many tools make of it."""

import numpy as np
import pytest

from efficientlab_tf.data.annotations import canvas as canvas_module
from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.errors import UserError
from tests.data.annotations.making import (
    HEIGHT,
    WIDTH,
    box,
    coco,
    coco_folder,
    corners,
    masks,
    picture,
    without,
    write,
)


@pytest.mark.parametrize("given", ["", "annotations/instances.json"])
def test_coco(tmp_path, given):
    read = read_support(coco_folder(tmp_path, coco()) / given)
    assert read.format == "COCO" and read.classes == ("dog", "cat")
    found = masks(read)
    expected = box(2, 3, 10, 12) | box(20, 3, 25, 12)
    # Both of the dog's outlines together are larger than the cat.
    expected[5:15, 5:15] = 2
    np.testing.assert_array_equal(found["a.png"], expected)
    np.testing.assert_array_equal(found["b.png"], box(5, 5, 15, 15))
    # Of two pictures b.png the one in deep/ is meant.
    np.testing.assert_array_equal(read.pictures[1].image, np.asarray(picture(1)))
    assert read.notes[1:] == [
        "1 annotations have a box but no outline and were left out",
        "not labelled, so left out: c.png",
    ]


def test_chosen_classes_in_the_order_given(tmp_path):
    coco_folder(tmp_path, coco())
    read = read_support(tmp_path, classes=("cat",))
    assert read.classes == ("cat",)
    np.testing.assert_array_equal(masks(read)["a.png"], box(5, 5, 15, 15))
    assert not masks(read)["b.png"].any()
    assert "background, as `classes` leaves it out: dog" in read.notes
    assert "nothing marked, so all background: b.png" in read.notes
    assert read_support(tmp_path, classes=("cat", "dog")).classes == ("cat", "dog")
    with pytest.raises(UserError, match="nothing labelled cow; it has dog, cat"):
        read_support(tmp_path, classes=("cow", "cat"))
    with pytest.raises(UserError, match="names a class twice"):
        read_support(tmp_path, classes=("cat", "cat"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (without(coco(), "annotations", category_id=4), "annotation 0: category_id 4"),
        (without(coco(), "annotations", image_id=1), "annotation 0: image_id 1 is not"),
        (without(coco(), "annotations", category_id=None), "category_id None is not"),
        (without(coco(), "categories", id=1), "category 1 is both 'dog' and 'cat'"),
        (without(coco(), "categories", name="cat"), "2 categories are named 'cat'"),
        (without(coco(), "images", id=9), "two images have the id 9"),
        (without(coco(), "images", file_name="z.png"), "no picture z.png below"),
        (without(coco(), "images", file_name="../../../etc/passwd"), "no picture pass"),
        (without(coco(), "images", height=10), "annotated at 40x10 pixels, but a.png"),
        (without(coco(), "images", height=10**9), "annotated at 40x1000000000 pixels"),
        (without(coco(), "images", file_name=None), "None is not the name"),
        (coco(annotations=[]), "none of 0 annotations has an outline"),
        (coco(annotations=[3]), "annotation 0"),
        (coco(categories=[{"id": 1}]), "'name' is missing"),
        (coco(categories=[{"id": 1, "name": None}]), "label None"),
    ],
)
def test_malformed_coco(tmp_path, document, message):
    folder = coco_folder(tmp_path, document)
    with pytest.raises(UserError, match=message) as error:
        read_support(folder)
    assert "instances.json" in str(error.value)


def a_folder(folder, segmentation, **image):
    """A picture a.png with one good outline and another."""
    size = {"height": HEIGHT, "width": WIDTH}
    good = sum(corners(20, 3, 25, 12), [])
    document = {
        "images": [{"id": 1, "file_name": "a.png", **size, **image}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "segmentation": s}
            for i, s in enumerate(([good], segmentation))
        ],
    }
    return write(folder, {"x.json": document, "a.png": picture()})


POINTS = corners(2, 3, 10, 12)


@pytest.mark.parametrize(
    "segmentation",
    [
        sum(POINTS, []),
        [sum(POINTS, [])],
        POINTS,
        [POINTS],
        [sum(POINTS, []), []],
        [[1, 1], sum(POINTS, [])],
        [sum(POINTS, []), [1.0, 2.0, 3.0, 4.0]],
        [sum(POINTS, []), [70, 70, 80, 70, 80, 80]],
        [[str(v) for v in sum(POINTS, [])]],
    ],
)
def test_outlines_as_tools_write_them(tmp_path, segmentation):
    read = read_support(a_folder(tmp_path, segmentation))
    expected = box(2, 3, 10, 12) | box(20, 3, 25, 12)
    np.testing.assert_array_equal(read.pictures[0].mask, expected)


@pytest.mark.parametrize(
    ("segmentation", "note"),
    [
        ([[1, 2]], "a polygon of 1 points: left out"),
        ([[1, 2, 3, 4]], "a polygon of 2 points: left out"),
        ([["a"] * 6], "left out"),
        ([[1] * 7], "left out"),
        ([None], "left out"),
        ("abc", "left out"),
        ({"size": [3, 3], "counts": [9]}, "size [3, 3], image [30, 40]: left out"),
        ({"size": [HEIGHT, WIDTH]}, "'counts' is missing: left out"),
        ({"size": [HEIGHT, WIDTH], "counts": [2**62] * 4}, "do not make 40x30 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}, "that mark nothing"),
    ],
)
def test_one_bad_outline_costs_that_outline(tmp_path, segmentation, note):
    read = read_support(a_folder(tmp_path, segmentation))
    np.testing.assert_array_equal(read.pictures[0].mask, box(20, 3, 25, 12))
    assert any(note in n for n in read.notes), read.notes


def test_small_objects_lie_on_large_ones(tmp_path):
    document = coco()
    table = [sum(corners(0, 0, WIDTH, HEIGHT), [])]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [sum(POINTS, [])]},
        {"id": 2, "image_id": 7, "category_id": 3, "segmentation": table},
    ]
    coco_folder(tmp_path, {**document, "annotations": annotations})
    read = read_support(tmp_path)
    assert read.classes == ("dog", "cat")
    np.testing.assert_array_equal(read.pictures[0].mask, 1 + box(2, 3, 10, 12))
    assert "dog 94.0 %, cat 6.0 %" in read.notes[0]
    assert "warning: one class covers more than nine tenths" in read.notes[1]


@pytest.mark.parametrize("kind", [str, float])
def test_ids_and_sizes_of_other_types(tmp_path, kind):
    document = coco()
    for annotation in document["annotations"]:
        annotation["image_id"] = kind(annotation["image_id"])
        annotation["category_id"] = kind(annotation["category_id"])
    for image in document["images"]:
        image["height"], image["width"] = kind(HEIGHT), kind(WIDTH)
    coco_folder(tmp_path, document)
    assert len(read_support(tmp_path).pictures) == 2


def test_the_only_category_serves_for_none(tmp_path):
    document = coco()
    document["categories"] = document["categories"][:1]
    for annotation in document["annotations"]:
        annotation["category_id"] = None
    coco_folder(tmp_path, document)
    read = read_support(tmp_path)
    assert read.classes == ("dog",)
    assert "4 annotations have no category; dog, the only one, was taken" in read.notes


def test_lists_as_objects(tmp_path):
    document = coco()
    for key in ("annotations", "images"):
        document[key] = {str(item["id"]): item for item in document[key]}
    coco_folder(tmp_path, document)
    assert len(read_support(tmp_path).pictures) == 2


def test_a_root_category_of_the_projects_name(tmp_path):
    document = coco()
    document["categories"].insert(0, {"id": 0, "name": "dog", "supercategory": "none"})
    coco_folder(tmp_path, document)
    assert read_support(tmp_path).classes == ("dog", "cat")
    document["annotations"][1]["category_id"] = 0
    coco_folder(tmp_path, document)
    with pytest.raises(UserError, match="2 categories are named 'dog'; give each"):
        read_support(tmp_path)


def test_annotations_of_a_larger_copy(tmp_path):
    document = coco()
    for image in document["images"]:
        image["height"], image["width"] = 2 * HEIGHT, 2 * WIDTH
    document["annotations"] = document["annotations"][:1]
    coco_folder(tmp_path, document)
    read = read_support(tmp_path)
    assert read.pictures[0].mask.shape == (HEIGHT, WIDTH)
    assert "a.png: mask resized from 80x60 to the image's 40x30" in read.notes


def test_more_outlines_than_anybody_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(canvas_module, "MAX_OUTLINES", 1)
    with pytest.raises(UserError, match="2 outlines on one picture are more than 1"):
        read_support(a_folder(tmp_path, [sum(POINTS, [])]))
    monkeypatch.undo()
    monkeypatch.setattr(canvas_module, "_MOST_PAINTED", -(16 * HEIGHT * WIDTH - 100))
    with pytest.raises(UserError, match="2 outlines cover the picture 0 times"):
        read_support(a_folder(tmp_path, [sum(POINTS, [])]))
