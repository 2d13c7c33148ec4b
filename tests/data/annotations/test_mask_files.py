"""Folders of pictures and masks: layouts, names, and what the masks mean together."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import find_queries
from tests.data.annotations.making import (
    HEIGHT,
    ORIENTATION,
    WIDTH,
    box,
    coco,
    labelme,
    masks,
    picture,
    write,
)


def test_folders_of_images_and_masks(tmp_path):
    write(
        tmp_path,
        {
            "images/a.jpg": picture(0),
            "images/b.png": picture(1),
            "masks/a.png": box(2, 3, 10, 12, 255),
            "masks/b.png": box(0, 0, 40, 30, 255),
        },
    )
    read = read_support(tmp_path)
    assert read.classes == ("object",) and read.reading.is_binary
    np.testing.assert_array_equal(masks(read)["a.jpg"], box(2, 3, 10, 12))
    assert masks(read)["b.png"].all()
    assert (
        "read as bright object on dark background, levels 0 and 255;" in read.notes[0]
    )
    assert "object 53.0 %" in read.notes[0]
    assert read.notes[1].startswith("b.png: warning: one class covers more than nine")


@pytest.mark.parametrize("names", [("Images", "Masks"), ("image", "mask")])
def test_folders_called_almost_so(tmp_path, names):
    images, labels = names
    for place in ("", "plate/"):
        write(
            tmp_path / "x",
            {
                f"{place}{images}/a.jpg": picture(),
                f"{place}{labels}/a.png": box(2, 3, 10, 12, 255),
            },
        )
    read = read_support(tmp_path / "x")
    np.testing.assert_array_equal(masks(read)["a.jpg"], box(2, 3, 10, 12))
    assert read_support(tmp_path / "x/plate").classes == ("object",)
    ((query,), _) = find_queries(tmp_path / "x", "")
    assert query.mask == tmp_path / "x" / labels / "a.png"


def test_a_class_that_is_called_like_a_folder(tmp_path):
    for name in ("mask", "helmet"):
        write(tmp_path, {f"{name}/images/a.jpg": picture()})
        write(tmp_path, {f"{name}/masks/a.png": box(2, 3, 10, 12, 255)})
    assert read_support(tmp_path).classes == ("helmet", "mask")


def test_flat_folders_of_pairs(tmp_path):
    write(tmp_path, {"1.jpg": picture(0), "1.png": box(2, 3, 10, 12, 255)})
    write(tmp_path, {"2.png": picture(1), "2_mask.png": box(5, 3, 10, 12, 255)})
    read = read_support(tmp_path)
    assert list(masks(read)) == ["1.jpg", "2.png"]
    np.testing.assert_array_equal(masks(read)["2.png"], box(5, 3, 10, 12))
    write(tmp_path, {"c.tif": picture(2), "c_cp_masks.tif": box(5, 3, 9, 9, 255)})
    assert list(masks(read_support(tmp_path))) == ["1.jpg", "2.png", "c.tif"]


def test_flat_folders_of_lossy_masks(tmp_path):
    write(tmp_path, {"1.jpg": picture(0), "1_mask.jpg": box(8, 8, 24, 24, 255)})
    write(tmp_path, {"b_mask.jpg": picture(1), "b_mask.png": box(5, 3, 10, 12, 255)})
    read = read_support(tmp_path)
    assert list(masks(read)) == ["1.jpg", "b_mask.jpg"]
    np.testing.assert_array_equal(masks(read)["1.jpg"], box(8, 8, 24, 24))


def test_class_folders(tmp_path):
    for name, seed in (("bear", 0), ("star", 1)):
        write(tmp_path / name, {"1.jpg": picture(seed), "1.png": box(2, 3, 9, 9, 255)})
    read = read_support(tmp_path)
    assert read.classes == ("bear", "star")
    assert list(masks(read)) == ["bear/1.jpg", "star/1.jpg"]
    assert masks(read)["star/1.jpg"].max() == 2


def test_index_masks_are_told_from_objects(tmp_path):
    indices = box(2, 3, 10, 12, 3) + box(20, 3, 30, 12, 19)
    indices[0] = 255
    palette = Image.fromarray(indices).convert("L")
    palette.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    for content in (indices, palette):
        write(tmp_path, {"JPEGImages/a.jpg": picture()})
        write(tmp_path, {"SegmentationClass/a.png": content})
        read = read_support(tmp_path)
        assert read.classes == ("3", "19") and read.values == (3, 19)
        assert read.reading.kind == "index"
        expected = box(2, 3, 10, 12, 1) + box(20, 3, 30, 12, 2)
        expected[0] = 255
        np.testing.assert_array_equal(read.pictures[0].mask, expected)
    with pytest.raises(UserError, match="below the threshold"):
        dark = box(2, 3, 10, 12, 3)
        write(tmp_path, {"SegmentationClass/a.png": dark})
        read_support(tmp_path, mask_values="object")
    high = box(2, 3, 10, 12, 200)
    write(tmp_path, {"SegmentationClass/a.png": high})
    assert read_support(tmp_path).classes == ("object",)
    assert read_support(tmp_path, mask_values="index").classes == ("200",)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels.txt", "0 null\n3 hair\n19 bag\n"),
        ("labels.txt", "background\nskin\nface\nhair\n"),
        ("_classes.csv", "Pixel Value, Class\n0, background\n3, hair\n19, bag\n"),
    ],
)
def test_names_of_indices(tmp_path, file, text):
    write(
        tmp_path,
        {
            file: text,
            "images/a.jpg": picture(),
            "masks/a.png": box(2, 3, 10, 12, 3) + box(20, 3, 30, 12, 19),
        },
    )
    read = read_support(tmp_path, classes=("hair",))
    np.testing.assert_array_equal(read.pictures[0].mask, box(2, 3, 10, 12))


def test_one_index_needs_no_name(tmp_path):
    write(tmp_path, {"images/a.jpg": picture(), "masks/a.png": box(2, 3, 10, 12)})
    assert read_support(tmp_path).classes == ("object",)


def test_a_mask_drawn_at_half_the_size(tmp_path):
    write(tmp_path, {"a.jpg": picture(), "a.png": box(4, 4, 20, 20, 255)[::2, ::2]})
    read = read_support(tmp_path)
    np.testing.assert_array_equal(read.pictures[0].mask, box(4, 4, 20, 20))
    assert read.notes[1:] == ["a.jpg: mask resized from 20x15 to the image's 40x30"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": picture()}, r"image without mask: a\.jpg"),
        (
            {
                "images/a.jpg": picture(),
                "images/b.jpg": picture(),
                "masks/c.png": box(*[0] * 4),
            },
            r"image without mask: a\.jpg, b\.jpg",
        ),
        (
            {"a.jpg": picture(), "a.png": box(0, 0, 9, 9), "b.png": box(0, 0, 9, 9)},
            r"mask without image: b\.png",
        ),
        (
            {"a.jpg": picture(), "a.png": box(0, 0, 9, 9, 255)[:, :20]},
            r"a\.png: mask is 20x30, image 40x30",
        ),
        ({"a.jpg": picture(), "a.png": box(0, 0, 0, 0)}, "no picture marks anything"),
        (
            {"a.jpg": picture(), "a.png": np.full((30, 40), 255, np.uint8)},
            "every mask is 255 all over",
        ),
        (
            {
                **{"a.jpg": picture(), "a.png": box(2, 3, 9, 9)},
                **{"b.jpg": picture(), "b.png": np.full((30, 40), 255, np.uint8)},
            },
            r"a\.png holds the levels 0, 1, but .*b\.png the levels 255: masks of",
        ),
        ({"a.jpg": b"\xff\xd8nothing", "a.png": box(0, 0, 9, 9)}, r"a\.jpg: "),
        ({"a.jpg": picture(), "a.png": np.asarray(picture(3))}, "a photo, not a mask"),
        ({}, "holds no labelled pictures; give a folder"),
        ({"x.json": {"a": 1}}, r"none of the formats: .*x\.json"),
        ({"x.json": "{"}, r"x\.json: not as its format says"),
        ({"x.json": "[" * 100000}, r"x\.json: not as its format says"),
        ({"x.json": b"\xff\xfe\xfa"}, r"x\.json: not as its format says"),
        (
            {"x.json": coco(), "y.json": labelme([])},
            "holds exports of COCO and LabelMe",
        ),
        ({"x.json": coco(), "y.json": coco()}, "holds 2 exports of COCO"),
    ],
)
def test_bad_folders(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        read_support(write(tmp_path, files))


def test_paths_that_are_nothing(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        read_support(tmp_path / "nowhere")
    write(tmp_path, {"a.txt": "text", "b.json": {"images": []}})
    with pytest.raises(UserError, match="is no folder, JSON, XML or ZIP"):
        read_support(tmp_path / "a.txt")
    with pytest.raises(UserError, match="of none of the formats"):
        read_support(tmp_path / "b.json")


def test_pictures_are_resized_and_tiny_objects_missed(tmp_path):
    write(tmp_path, {"a.jpg": picture(), "a.png": box(0, 0, 20, 30, 255)})
    read = read_support(tmp_path, size=(12, 16))
    assert read.pictures[0].image.shape == (12, 16, 3)
    np.testing.assert_array_equal(read.pictures[0].mask, [[1] * 8 + [0] * 8] * 12)
    write(tmp_path, {"a.png": box(1, 1, 2, 2, 255)})
    with pytest.raises(UserError, match="covers no pixel .* at 8x6; .*of 43x32, which"):
        read_support(tmp_path, size=(6, 8))


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("p0.jpg", "p0_mask.png"),
        ("p0.jpg", "p0_MASK.gif"),
        ("p0.jpg", "p0.gif"),
        ("p0.jpg", "p0.jpg.png"),
        ("p0.jpg", "mask_p0.png"),
        ("p0.jpg", "p0_segmentation.tif"),
        ("p0.jpg", "p0_cp_masks.png"),
        ("p0.jpg", "p0-labelled.png"),
        ("P0.JPG", "p0.png"),
        ("p 0.jpg", "p_0.png"),
        (
            unicodedata.normalize("NFC", "büro.jpg"),
            unicodedata.normalize("NFD", "büro.png"),
        ),
        (
            unicodedata.normalize("NFD", "büro.jpg"),
            unicodedata.normalize("NFC", "büro.png"),
        ),
        ("p0_mask.jpg", "p0_mask.png"),
    ],
)
def test_masks_named_almost_like_their_pictures(tmp_path, name, mask):
    other = {"images/q.jpg": picture(1), "masks/q.png": box(0, 0, 9, 9, 255)}
    write(tmp_path, {f"images/{name}": picture(), **other})
    write(tmp_path, {f"masks/{mask}": box(2, 3, 10, 12, 255)})
    found = masks(read_support(tmp_path))
    np.testing.assert_array_equal(found[name], box(2, 3, 10, 12))


def test_the_exact_name_goes_first(tmp_path):
    for i, stem in enumerate(("p", "P", "p_mask", "p 1", "p_1")):
        write(tmp_path, {f"images/{stem}.jpg": picture(i)})
        write(tmp_path, {f"masks/{stem}.png": box(i, 3, 20 + i, 12, 255)})
    found = masks(read_support(tmp_path))
    for i, stem in enumerate(("p", "P", "p_mask", "p 1", "p_1")):
        np.testing.assert_array_equal(found[f"{stem}.jpg"], box(i, 3, 20 + i, 12))


def test_masks_that_may_belong_to_several(tmp_path):
    write(tmp_path, {"images/P.jpg": picture(), "images/p.jpg": picture(1)})
    write(tmp_path, {"masks/p_mask.png": box(0, 0, 9, 9, 255)})
    with pytest.raises(UserError, match=r"image without mask: P\.jpg"):
        read_support(tmp_path)


def test_files_that_are_not_read_are_named(tmp_path):
    write(tmp_path, {"images/a.psd": b"8BPS", "masks/a.png": box(0, 0, 9, 9, 255)})
    with pytest.raises(
        UserError, match=r"mask without image: a\.png.*not read: a\.psd"
    ):
        read_support(tmp_path)


def test_annotations_that_are_not_read_are_named(tmp_path):
    write(tmp_path, {"a.jpg": picture(), "via.csv": "a", ".hidden/x.csv": "a"})
    with pytest.raises(UserError, match=r"without mask: a.*; not read: via\.csv \("):
        read_support(tmp_path)


def test_numbers_that_leave_no_background(tmp_path):
    # As ilastik and Oxford's pets have them.
    write(tmp_path, {"a.jpg": picture(), "a.png": box(2, 3, 30, 25) + 1})
    warning = "no pixel of any picture is background; if one of the classes is, pick"
    assert any(warning in note for note in read_support(tmp_path).notes)
    write(tmp_path, {"a.png": box(2, 3, 3, 4) + 1})
    (share,) = (n for n in read_support(tmp_path).notes if "nine tenths" in n)
    assert share.endswith("pick the others with `classes`")
    write(tmp_path, {"b.jpg": picture(), "b.png": box(2, 3, 30, 25)})
    assert not any("no pixel" in note for note in read_support(tmp_path).notes)


@pytest.mark.parametrize(("turn", "said"), [(1, 0), (3, 1)])
def test_a_turn_that_a_mask_does_not_tell_is_said(tmp_path, turn, said):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    write(tmp_path, {"a.png": box(2, 3, 9, 9, 255)})
    picture().save(tmp_path / "a.jpg", exif=exif)
    notes = " ".join(read_support(tmp_path).notes)
    assert notes.count("a.jpg: mask taken to show its image as EXIF turns it") == said


def test_only_regular_files_are_read(tmp_path):
    write(tmp_path, {"a.jpg": picture(), "a.png": box(2, 3, 9, 9, 3)})
    (tmp_path / "x.json").symlink_to("/dev/zero")
    (tmp_path / "y.xml").symlink_to("/dev/zero")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "labels.txt").symlink_to("/dev/zero")
    assert read_support(tmp_path).classes == ("3",)
    with pytest.raises(UserError, match="no such file or folder"):
        read_support("/dev/zero")


def test_voc_folders_of_colours(tmp_path):
    colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colors[3:12, 2:10], colors[3:12, 20:30] = (192, 0, 0), (64, 0, 0)
    colors[20:, :] = (224, 224, 192)
    for stem in ("2007_000032", "2007_000033"):
        write(tmp_path, {f"JPEGImages/{stem}.jpg": picture()})
        write(tmp_path, {f"SegmentationClass/{stem}.png": colors})
    read = read_support(tmp_path)
    assert read.classes == ("cat", "chair") and read.values == (8, 9)
    expected = box(2, 3, 10, 12, 2) | box(20, 3, 30, 12, 1)
    expected[20:] = 255
    np.testing.assert_array_equal(read.pictures[0].mask, expected)
    assert "#c00000 chair" in read.notes[0] and "unknown 33.3 %" in read.notes[0]


def test_names_of_colours(tmp_path):
    colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colors[3:12, 2:10], colors[3:12, 20:30] = (10, 200, 30), (255, 0, 0)
    write(tmp_path, {"images/a.jpg": picture(), "masks/a.png": colors})
    assert read_support(tmp_path).classes == ("#0ac81e", "#ff0000")
    text = "background:0,0,0::\nleaf:10,200,30::\nfruit:255,0,0::\n"
    write(tmp_path, {"masks/labelmap.txt": text})
    read = read_support(tmp_path)
    assert read.classes == ("leaf", "fruit")
    np.testing.assert_array_equal(
        read.pictures[0].mask, box(2, 3, 10, 12) | box(20, 3, 30, 12, 2)
    )
    write(tmp_path, {"masks/labelmap.txt": text.replace("255,0,0", "0,0,9")})
    with pytest.raises(UserError, match="colour #ff0000, which belongs to no label"):
        read_support(tmp_path)


def test_class_names_of_labelme(tmp_path):
    write(tmp_path, {"class_names.txt": "__ignore__\n_background_\ncup\nlid\n"})
    write(tmp_path, {"images/a.jpg": picture(), "masks/a.png": box(2, 3, 9, 9, 2)})
    assert read_support(tmp_path).classes == ("lid",)


def test_class_folders_hold_one_class_each(tmp_path):
    for name in ("bear", "star"):
        both = box(2, 3, 9, 9, 1) + box(20, 3, 29, 9, 2)
        write(tmp_path / name, {"1.jpg": picture(), "1.png": both})
    with pytest.raises(UserError, match="hold several classes .*1, 2.*`mask_values`"):
        read_support(tmp_path)
    read = read_support(tmp_path, mask_values="instances")
    assert read.classes == ("bear", "star")
    assert (masks(read)["star/1.jpg"] == 2).sum() == 7 * 6 + 9 * 6


def test_an_object_that_vanishes_is_said_as_that(tmp_path):
    for name, mask in (("a", box(0, 0, 20, 30)), ("b", box(33, 22, 35, 24))):
        write(
            tmp_path, {f"images/{name}.png": picture(), f"masks/{name}.png": mask * 255}
        )
    read = read_support(tmp_path, size=(6, 8))
    assert not any("nothing marked" in note for note in read.notes)
    (note,) = (note for note in read.notes if "vanishes" in note)
    assert note.startswith("b.png: object vanishes at the model's 8x6 pixels")
    assert "a model of 43x32, which keeps it" in note
    small = masks(read)["b.png"]
    assert small[4, 6] == 255 and set(np.unique(small)) == {0, 255}
    assert 1 in np.unique(masks(read_support(tmp_path, size=(32, 43)))["b.png"])
