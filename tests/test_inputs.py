"""docs/inputs.md against the code: every format that it names is read, and no other."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.data.annotations.archives import MAX_MEMBERS, MAX_UNPACKED
from efficientlab_tf.data.annotations.export import MAX_JSON
from efficientlab_tf.data.mask_readings import AUTO, MASK_VALUES
from efficientlab_tf.data.picture_files import (
    FORMATS,
    MAX_PIXELS,
    MAX_PIXELS_OF,
    MAX_SIDE,
)
from efficientlab_tf.untrusted import MAX_PARTS
from tests.data.annotations.making import (
    archive,
    box,
    coco,
    corners,
    cvat,
    labelme,
    picture,
    region,
    shape,
    task,
)

DOCUMENT = (Path(__file__).parent.parent / "docs/inputs.md").read_text(encoding="utf-8")


def tables():
    """The rows of each table, by its section."""
    found = {}
    for section in DOCUMENT.split("\n## ")[1:]:
        rows = [row for row in section.splitlines() if row.startswith("|")][2:]
        found[section.splitlines()[0]] = [
            [cell.strip() for cell in row.strip("|").split("|")] for row in rows
        ]
    return found


COCO = coco()
XML = (
    '<annotations><image id="0" name="a.png" width="40" height="30"><polygon label="x" '
    'points="2,3;10,3;10,12"/></image></annotations>'
)
CIRCLE = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "ellipselabels": ["x"]}
EXAMPLES = {
    "images and masks": {"images/a.png": picture(), "masks/a.png": box(2, 3, 9, 9)},
    "LabelMe": {
        "a.json": labelme([shape("x", corners(2, 3, 9, 9))]),
        "a.png": picture(),
    },
    "COCO": {
        "x.json": {**COCO, "annotations": COCO["annotations"][:2]},
        "a.png": picture(),
    },
    "CVAT segmentation mask": cvat(),
    "CVAT for images": {"annotations.xml": XML, "a.png": picture()},
    "Label Studio": {
        "x.json": [task([region("ellipselabels", CIRCLE)], "a.png")],
        "a.png": picture(),
    },
}


def test_every_format_of_labels_has_an_example():
    assert [row[0] for row in tables()["Labels"]] == list(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_format_of_labels_is_read(tmp_path, name):
    read = read_support(archive(tmp_path / "x.zip", EXAMPLES[name]))
    assert read.format == name and read.notes[0].startswith(name)
    assert any((p.mask == 1).any() for p in read.pictures)


def one(value, ground=0):
    return np.where(box(2, 3, 20, 15) > 0, value, ground).astype(np.uint8)


def numbers(count, dtype=np.uint8):
    cells = np.kron(np.arange(1, count + 1).reshape(2, -1), np.ones((4, 4)))
    return np.pad(cells, 2).astype(dtype)


CLEAR = Image.fromarray(np.dstack([one(255, 255), one(255)]))
COLORS = np.dstack([one(255), np.where(box(25, 3, 35, 15) > 0, 200, 0), one(0)])
MASKS = {
    "object": (one(255), "object"),
    "dark": (one(0, 255), "object"),
    "index": (one(3), "index"),
    "instances": (numbers(12), "instances"),
    "colors": (COLORS.astype(np.uint8), "colors"),
    "alpha": (CLEAR, "alpha"),
}


def test_every_reading_of_masks_is_in_the_table():
    rows = tables()["Masks"]
    assert [row[0] for row in rows] == [kind for kind in MASK_VALUES if kind != AUTO]
    assert [row[0] for row in rows] == list(MASKS)


@pytest.mark.parametrize("kind", MASKS)
def test_every_reading_of_masks(tmp_path, kind):
    mask, by_itself = MASKS[kind]
    size = mask.size if isinstance(mask, Image.Image) else mask.shape[1::-1]
    photo = picture().resize(size)
    path = archive(tmp_path / "x.zip", {"images/a.png": photo, "masks/a.png": mask})
    assert read_support(path).reading.kind == by_itself
    assert read_support(path, mask_values=kind).reading.kind == kind
    (row,) = (row for row in tables()["Masks"] if row[0] == kind)
    assert (row[2] == "never") == (by_itself != kind)


def test_every_format_of_pictures_is_in_the_table():
    # tests/inference/test_queries.py reads each of them.
    found = {row[0]: tuple(row[1].split()) for row in tables()["Pictures"]}
    assert found == FORMATS


def test_limits_are_those_of_the_code():
    text = " ".join(DOCUMENT.split())
    assert f"{MAX_PIXELS / 1e6:.0f} million pixels" in text
    least = {name: f"{most / 1e6:.0f}" for name, most in MAX_PIXELS_OF.items()}
    assert least["AVIF"] == least["HEIF"]
    assert (
        f"({least['JPEG2000']} million in JPEG2000, {least['WEBP']} in WEBP, "
        f"{least['AVIF']} in AVIF and HEIF," in text
    )
    assert f"sides of at most {MAX_SIDE:,}" in text
    assert f"exports at most {MAX_JSON / 1e6:.0f} MB" in text
    assert f"{MAX_PARTS / 1e6:.0f} million lists and objects" in text
    assert (
        f"archives at most {MAX_MEMBERS:,} files and {MAX_UNPACKED >> 30} GiB" in text
    )
    page = AppConfig()
    assert (
        f"{page.max_upload_mb:g} MB and {page.max_megapixels:g} million pixels, and "
        f"{page.max_batch_mb:g} MB at once" in text
    )
