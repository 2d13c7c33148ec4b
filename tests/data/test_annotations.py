"""Readers of annotations: small exports of every format, written here by hand."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data import drawing
from efficientlab_tf.data.annotations import read_support, support
from efficientlab_tf.data.annotations.rle import brush_mask
from efficientlab_tf.data.cleaning import stretched
from efficientlab_tf.data.coco_masks import coco_mask
from efficientlab_tf.errors import UserError

HEIGHT, WIDTH = 30, 40
ORIENTATION = 0x0112


def picture(seed=0, height=HEIGHT, width=WIDTH):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def box(left, top, right, bottom, value=1):
    """The mask of a box, uint8 [HEIGHT, WIDTH]."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = value
    return mask


def corners(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def png(values):
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, files):
    """Writes files (bytes, pictures, mask arrays or JSON documents) by their names."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, (Image.Image, np.ndarray)):
            image = content if isinstance(content, Image.Image) else None
            (image or Image.fromarray(content)).save(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            path.write_text(json.dumps(content))
    return folder


def masks(read):
    return {p.name: p.mask for p in read.pictures}


# Drawing.


def test_a_pixel_is_inside_if_its_centre_is():
    for edge, first in ((2.4, 2), (2.6, 3), (2.0, 2), (3.0, 3)):
        mask = drawing.blank(5, 8)
        drawing.fill_polygon(mask, [[edge, 1], [6, 1], [6, 4], [edge, 4]], 7)
        expected = np.zeros((5, 8), int)
        expected[1:4, first:6] = 7
        np.testing.assert_array_equal(mask, expected)


def test_shapes_are_clipped_to_the_image():
    mask = drawing.blank(4, 4)
    drawing.fill_polygon(mask, corners(-1e6, 1, 1e6, 2), 1)
    drawing.fill_polygon(mask, corners(50, 50, 60, 60), 2)
    drawing.fill_ellipse(mask, (-50, -50), (3, 3), 3)
    assert mask[1].tolist() == [1] * 4 and mask.sum() == 4


def test_a_polygon_with_a_bridge_to_its_hole_keeps_the_hole():
    outer, hole = corners(0, 0, 9, 9), corners(3, 3, 6, 6)
    for inner in (hole, hole[:1] + hole[:0:-1]):
        mask = drawing.blank(9, 9)
        points = [*outer, outer[0], *inner, inner[0], outer[0]]
        drawing.fill_polygon(mask, points, 1)
        expected = np.ones((9, 9), int)
        expected[3:6, 3:6] = 0
        np.testing.assert_array_equal(mask, expected)


def test_areas_of_round_and_turned_shapes():
    mask = drawing.blank(200, 200)
    drawing.fill_ellipse(mask, (100, 100), (80, 40), 1, degrees=30)
    assert abs(mask.sum() / (np.pi * 80 * 40) - 1) < 0.005
    # Clockwise on the screen: the right end of the long axis points down.
    rows, columns = np.nonzero(mask)
    assert np.corrcoef(rows, columns)[0, 1] > 0.3
    mask = drawing.blank(200, 200)
    drawing.fill_rectangle(mask, (100, 20), (60, 30), 1, degrees=90)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max() + 1) == (70, 100)
    assert (rows.min(), rows.max() + 1) == (20, 80)


@pytest.mark.parametrize(
    "points", [[[1, 1], [2, 2]], [[0, 0], [1, float("nan")], [2, 2]], [[1], [2], [3]]]
)
def test_polygons_that_are_none(points):
    with pytest.raises(ValueError):
        drawing.fill_polygon(drawing.blank(4, 4), points, 1)


# Run lengths.


def compress(lengths):
    """COCO's compressed run lengths, from the description of the format."""
    text = ""
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        while True:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            text += chr(48 + (code | 32 * more))
            if not more:
                break
    return text


def run_lengths(mask):
    flat = mask.T.reshape(-1) > 0
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()


def test_coco_run_lengths_of_both_kinds():
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.5, 0.98, 1.0):
        mask = rng.random((23, 37)) < density
        lengths = run_lengths(mask)
        for counts in (lengths, compress(lengths)):
            decoded = coco_mask({"size": [23, 37], "counts": counts})
            np.testing.assert_array_equal(decoded, mask)


def test_a_mask_that_the_coco_api_compressed():
    mask = np.zeros((6, 7), bool)
    mask[2:5, 3:6] = mask[0, 0] = True
    decoded = coco_mask({"size": [6, 7], "counts": "01c02@0004"})
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("counts", ["01c02@000", "01c0P", "~~", [3, 4], [-1, 43]])
def test_damaged_coco_run_lengths(counts):
    with pytest.raises(ValueError):
        coco_mask({"size": [6, 7], "counts": counts})


def pack_brush(alpha, sizes=(2, 3, 7, 15)):
    """Label Studio's brush: bits of an RGBA image, from the format's description."""
    values = np.zeros((*alpha.shape, 4), np.uint8)
    values[..., 3] = alpha
    values[alpha > 0, :3] = (200, 100, 50)
    values = values.reshape(-1).tolist()
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{s:04b}" for s in sizes)
    i = 0
    while i < len(values):
        j = i
        while j < len(values) and values[j] == values[i]:
            j += 1
        literal = j - i < 3
        if literal:
            j = min(i + 5, len(values))
        length = min(j - i, 2 ** (sizes[3] + 1))
        size = next(n for n, s in enumerate(sizes) if length <= 2 ** (s + 1))
        bits += f"{0 if literal else 1}{size:02b}{length - 1:0{sizes[size] + 1}b}"
        bits += "".join(
            f"{v:08b}"
            for v in (values[i : i + length] if literal else values[i : i + 1])
        )
        i += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


def test_brush_strokes():
    rng = np.random.default_rng(0)
    for alpha in (box(3, 4, 20, 25, 255), rng.integers(0, 2, (9, 13), np.uint8) * 255):
        codes = pack_brush(alpha)
        np.testing.assert_array_equal(brush_mask(codes, *alpha.shape), alpha > 0)


def test_brush_strokes_that_label_studio_packed():
    codes = [0, 0, 0, 40, 57, 27, 252, 96, 0, 4, 128, 16, 0, 56, 31, 241, 128, 0]
    codes += [18, 0, 64, 0, 224, 127, 198, 0, 0, 72, 1, 0, 3, 129, 255, 124, 0]
    expected = np.zeros(10, bool)
    expected[[1, 3, 5]] = True
    np.testing.assert_array_equal(brush_mask(codes, 2, 5).reshape(-1), expected)


@pytest.mark.parametrize(
    ("codes", "height"), [([], 2), ([0, 0, 0, 40, 57], 2), ([300], 2), ("no", 2)]
)
def test_damaged_brush_strokes(codes, height):
    with pytest.raises(ValueError):
        brush_mask(codes, height, 5)


def test_brush_strokes_of_another_picture():
    with pytest.raises(ValueError, match="expected 7x9x4"):
        brush_mask(pack_brush(np.zeros((9, 13), np.uint8)), 9, 7)


# LabelMe.


def labelme(shapes, name="a.png", **fields):
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **fields,
    }


def shape(label, points, kind="polygon", **fields):
    return {"label": label, "points": points, "shape_type": kind, **fields}


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
    assert read.notes == ["a.json: a line has no area and was left out"]


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


# COCO.


def coco(**fields):
    polygons = [sum(corners(2, 3, 10, 12), []), sum(corners(20, 3, 25, 12), [])]
    lengths = run_lengths(box(5, 5, 15, 15))
    size = [HEIGHT, WIDTH]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": polygons},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 1,
            "segmentation": {"size": size, "counts": lengths},
            "iscrowd": 1,
        },
        {
            "id": 3,
            "image_id": 9,
            "category_id": 3,
            "segmentation": {"size": size, "counts": compress(lengths)},
        },
        {"id": 4, "image_id": 9, "category_id": 1, "segmentation": [], "bbox": [0] * 4},
    ]
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "deep/b.png", "height": HEIGHT, "width": WIDTH},
            {"id": 8, "file_name": "c.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": annotations,
        "categories": [
            {"id": 3, "name": "dog"},
            {"id": 1, "name": "cat"},
            {"id": 5, "name": "cow"},
        ],
        **fields,
    }


def coco_folder(folder, document):
    files = {"images/default/a.png": picture(0), "images/default/c.png": picture(2)}
    files |= {"images/other/b.png": picture(3), "images/deep/b.png": picture(1)}
    return write(folder, {"annotations/instances.json": document, **files})


@pytest.mark.parametrize("given", ["", "annotations/instances.json"])
def test_coco(tmp_path, given):
    read = read_support(coco_folder(tmp_path, coco()) / given)
    assert read.format == "COCO" and read.classes == ("dog", "cat")
    found = masks(read)
    expected = box(2, 3, 10, 12) | box(20, 3, 25, 12)
    expected[5:15, 5:15] = 2
    np.testing.assert_array_equal(found["a.png"], expected)
    np.testing.assert_array_equal(found["b.png"], box(5, 5, 15, 15))
    # Of two pictures b.png the one in deep/ is meant.
    np.testing.assert_array_equal(read.pictures[1].image, np.asarray(picture(1)))
    assert read.notes == [
        "1 annotations have a box but no outline and were left out",
        "not labelled, so left out: c.png",
    ]


def test_chosen_classes_in_the_order_given(tmp_path):
    coco_folder(tmp_path, coco())
    read = read_support(tmp_path, classes=("cat",))
    assert read.classes == ("cat",)
    np.testing.assert_array_equal(masks(read)["a.png"], box(5, 5, 15, 15))
    assert not masks(read)["b.png"].any()
    assert "background, as --classes leaves it out: dog" in read.notes
    assert "nothing marked, so all background: b.png" in read.notes
    assert read_support(tmp_path, classes=("cat", "dog")).classes == ("cat", "dog")
    with pytest.raises(UserError, match="nothing labelled cow; it has dog, cat"):
        read_support(tmp_path, classes=("cow", "cat"))
    with pytest.raises(UserError, match="names a class twice"):
        read_support(tmp_path, classes=("cat", "cat"))


def without(document, key, **changes):
    return {**document, key: [{**document[key][0], **changes}, *document[key][1:]]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (without(coco(), "annotations", category_id=4), "annotation 0: category_id 4"),
        (without(coco(), "annotations", image_id=1), "annotation 0: image_id 1 is not"),
        (without(coco(), "categories", id=1), "category 1 is both 'dog' and 'cat'"),
        (without(coco(), "categories", name="cat"), "2 categories are named 'cat'"),
        (without(coco(), "images", id=9), "two images have the id 9"),
        (without(coco(), "images", file_name="z.png"), "no picture z.png below"),
        (without(coco(), "images", file_name="../../../etc/passwd"), "no picture pass"),
        (without(coco(), "images", height=10), r"size \[30, 40\], image \[10, 40\]"),
        (without(coco(), "images", height=10**9), "an image of 40x1000000000 pixels"),
        (without(coco(), "images", file_name=None), "is not the name|no picture none"),
        (without(coco(), "annotations", segmentation=[[1, 2]]), "polygon of 1 points"),
        (without(coco(), "annotations", segmentation=[["a"] * 6]), "annotation 1 of"),
        (without(coco(), "annotations", segmentation=[[1] * 7]), "annotation 1 of"),
        (without(coco(), "annotations", segmentation={"size": [3, 3]}), r"\[3, 3\]"),
        (coco(annotations=[]), "none of 0 annotations has an outline"),
        (coco(annotations=[3]), "annotation 0"),
        (coco(categories=[{"id": 1}]), "'name' is missing"),
        (coco(categories=[{"id": 1, "name": 7}]), "category 1 is named 7"),
    ],
)
def test_malformed_coco(tmp_path, document, message):
    folder = coco_folder(tmp_path, document)
    with pytest.raises(UserError, match=message) as error:
        read_support(folder)
    assert "instances.json" in str(error.value)


# CVAT.

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:10,20,30::\n"
LABELMAP += "big dog:200,0,0::\nignored:224,224,192::\n"


def cvat(**files):
    colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colors[3:9, 4:12] = (200, 0, 0)
    colors[10:20, 4:12] = (10, 20, 30)
    colors[0] = (224, 224, 192)
    return {
        "labelmap.txt": LABELMAP,
        "ImageSets/Segmentation/default.txt": "a\nsub/b\nempty\n",
        "SegmentationClass/a.png": colors,
        "SegmentationClass/sub/b.png": colors[:, ::-1],
        "SegmentationObject/a.png": colors,
        "JPEGImages/a.png": picture(0),
        "JPEGImages/sub/b.png": picture(1),
        "JPEGImages/empty.png": picture(2),
        **files,
    }


def test_cvat(tmp_path):
    read = read_support(write(tmp_path, cvat()))
    assert read.format == "CVAT segmentation mask"
    assert read.classes == ("cat", "big dog")
    expected = box(4, 3, 12, 9, 2) | box(4, 10, 12, 20)
    expected[0] = 255
    np.testing.assert_array_equal(masks(read)["a.png"], expected)
    np.testing.assert_array_equal(masks(read)["b.png"], expected[:, ::-1])
    assert read.notes == ["no mask, so left out: empty"]


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


# Label Studio.


def region(kind, value, **fields):
    return {
        "id": "r1",
        "type": kind,
        "value": value,
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        **fields,
    }


def task(results, image="/data/upload/3/0a1b2c3d-my_cup.png", **fields):
    annotations = [{"id": 1, "was_cancelled": False, "result": results}]
    return {"id": 5, "data": {"image": image}, "annotations": annotations, **fields}


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
    assert any("2 annotations, the one" in note for note in read.notes)
    assert "not labelled, so left out: http://host:8080/d.png" in read.notes


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([task([])], "none of 1 tasks has a labelled region"),
        (
            [task([region("brushlabels", {"rle": [1], "brushlabels": ["a"]})])],
            "break o",
        ),
        (
            [task([region("brushlabels", {"brushlabels": ["a"]}, image_rotation=90)])],
            "turned by 90 degrees",
        ),
        ([task([region("polygonlabels", {"polygonlabels": [1]})])], "task 5"),
        ([task([3])], "task 5: not as its format says"),
        ([{**task([]), "data": {}}], "without a picture"),
    ],
)
def test_malformed_label_studio(tmp_path, document, message):
    write(tmp_path, {"export.json": document, "my_cup.png": picture()})
    with pytest.raises(UserError, match=message) as error:
        read_support(tmp_path)
    assert "export.json" in str(error.value)


# Mask files.


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
    assert read.classes == ("object",) and not read.index_masks
    np.testing.assert_array_equal(masks(read)["a.jpg"], box(2, 3, 10, 12))
    assert masks(read)["b.png"].all()
    assert read.notes == ["b.png: the whole picture is marked as object"]


def test_flat_folders_of_pairs(tmp_path):
    write(tmp_path, {"1.jpg": picture(0), "1.png": box(2, 3, 10, 12, 255)})
    write(tmp_path, {"2.png": picture(1), "2_mask.png": box(5, 3, 10, 12, 255)})
    read = read_support(tmp_path)
    assert list(masks(read)) == ["1.jpg", "2.png"]
    np.testing.assert_array_equal(masks(read)["2.png"], box(5, 3, 10, 12))


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
        assert read.index_masks
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
    "text", ["0 null\n3 hair\n19 bag\n", "background\nskin\nface\nhair\n"]
)
def test_names_of_indices(tmp_path, text):
    write(
        tmp_path,
        {
            "labels.txt": text,
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
    assert read.notes == ["a.jpg: mask resized from 20x15 to the image's 40x30"]


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
            r"b\.png: mask has only 0 and 255 \(unknown\).*--mask_values=object",
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
    with pytest.raises(UserError, match="neither a folder nor JSON nor ZIP"):
        read_support(tmp_path / "a.txt")
    with pytest.raises(UserError, match="of none of the formats"):
        read_support(tmp_path / "b.json")


def test_pictures_are_resized_and_tiny_objects_missed(tmp_path):
    write(tmp_path, {"a.jpg": picture(), "a.png": box(0, 0, 20, 30, 255)})
    read = read_support(tmp_path, size=(12, 16))
    assert read.pictures[0].image.shape == (12, 16, 3)
    np.testing.assert_array_equal(read.pictures[0].mask, [[1] * 8 + [0] * 8] * 12)
    write(tmp_path, {"a.png": box(1, 1, 2, 2, 255)})
    with pytest.raises(UserError, match="covers no pixel of any picture at 8x6"):
        read_support(tmp_path, size=(6, 8))


@pytest.mark.parametrize("kind", ["I;16", "RGBA", "LA", "P", "CMYK", "F"])
def test_pictures_of_many_kinds(tmp_path, kind):
    gray = np.linspace(0, 4000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    if kind == "I;16":
        image = Image.fromarray(gray.astype(np.uint16))
    elif kind == "F":
        image = Image.fromarray(gray.astype(np.float32))
    else:
        image = Image.fromarray((gray / 16).astype(np.uint8)).convert("RGB")
        image = image.convert(kind)
    write(tmp_path, {"a.tif": image, "a_mask.png": box(2, 3, 9, 9, 255)})
    (tmp_path / "a_mask.png").rename(tmp_path / "a.png")
    found = read_support(tmp_path).pictures[0].image
    assert found.shape == (HEIGHT, WIDTH, 3) and found.dtype == np.uint8
    # Twelve of sixteen bits are not left in the dark.
    assert found[0].mean() < 20 and found[-1].mean() > 235


def test_stretching():
    values = np.array([[np.nan, 5.0], [np.inf, 7.0]])
    np.testing.assert_array_equal(stretched(values), [[0, 0], [255, 255]])
    assert not stretched(np.full((3, 3), 9, np.uint16)).any()
    # One hot pixel of ten thousand does not darken the others.
    hot = np.tile(np.arange(100), (100, 1))
    hot[0, 0] = 60000
    assert stretched(hot)[:, -1].min() == 255


# Archives.


def archive(path, files, folder=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            if isinstance(content, (Image.Image, np.ndarray)):
                content = png(content)
            elif not isinstance(content, (bytes, str)):
                content = json.dumps(content)
            zipped.writestr(folder + name, content)
    return path


@pytest.mark.parametrize("folder", ["", "export/"])
def test_archives_of_exports(tmp_path, folder):
    read = read_support(archive(tmp_path / "cvat.zip", cvat(), folder))
    assert read.classes == ("cat", "big dog") and len(read.pictures) == 2
    pairs = {"images/a.png": picture(), "masks/a.png": box(2, 3, 9, 9, 255)}
    assert len(read_support(archive(tmp_path / "p.zip", pairs, folder)).pictures) == 1
    bad = archive(tmp_path / "bad.zip", {"x.json": "{"}, folder)
    with pytest.raises(UserError, match=rf"bad\.zip/{folder}x\.json: not as its"):
        read_support(bad)


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../e", "C:\\e"])
def test_archives_that_reach_outside(tmp_path, name):
    path = archive(tmp_path / "x.zip", {**cvat(), name: b"evil"})
    with pytest.raises(UserError, match="would be written outside"):
        read_support(path)


def test_archives_that_are_bombs(tmp_path, monkeypatch):
    path = archive(tmp_path / "x.zip", {"a.png": bytes(10**6)})
    monkeypatch.setattr(support, "_HARMLESS", 10**5)
    with pytest.raises(UserError, match="would unpack to .* times its size"):
        read_support(path)
    monkeypatch.setattr(support, "MAX_UNPACKED", 10**5)
    with pytest.raises(UserError, match="1 files of .* in all, more than"):
        read_support(path)
    monkeypatch.setattr(support, "MAX_MEMBERS", 0)
    with pytest.raises(UserError, match="more than 0 or"):
        read_support(path)


def test_damaged_archives(tmp_path):
    path = archive(tmp_path / "x.zip", cvat())
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(UserError, match="x.zip cannot be unpacked"):
        read_support(path)
