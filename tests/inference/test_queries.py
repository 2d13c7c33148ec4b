"""Pictures to segment, in every format that people have them in."""

import os

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.annotations import LabelledPicture, Support
from efficientlab_tf.data.mask_readings import Reading
from efficientlab_tf.data.picture_files import FORMATS, Refused
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import (
    Truth,
    find_queries,
    output_names,
    read_query,
)
from tests.adapt.labelled_squares import pairs
from tests.data.annotations.making import box, picture, write
from tests.models.test_heads import squares

WRITTEN_AS = {"JPEG2000": "JPEG2000", "HEIF": "HEIF"}


def photo():
    """A picture that lossy formats keep nearly as it is."""
    values = np.full((32, 48, 3), (40, 120, 200), np.uint8)
    values[8:24, 8:40] = (220, 60, 30)
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [(kind, suffix) for kind, suffixes in FORMATS.items() for suffix in suffixes],
)
def test_every_format_that_is_said_to_be_read(tmp_path, kind, suffix):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / f"a{suffix.upper()}"
    options = {"lossless": True} if kind == "WEBP" else {}
    photo().save(path, kind, **options)
    ((query,), notes) = find_queries(tmp_path, "")
    found = np.asarray(read_query(query.path).picture.convert("RGB")).astype(int)
    assert np.abs(found - np.asarray(photo())).mean() < 8
    assert query.path == path and notes == []


OTHERS = {
    "a.psd": (b"8BPS\0\1", "Photoshop files are not read; save it as PNG"),
    "b.svg": (b"<?xml version='1.0'?>\n<svg width='9'/>", "SVG files are not read"),
    "c.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript files are not read"),
    "d.jxl": (b"\xff\x0a....", "JPEG XL files are not read"),
    "e.dcm": (bytes(128) + b"DICM", "DICOM files are not read"),
    "f.nef": (b"MM\0*....", "not an image file that can be read"),
    "g": (b"\xff\xd8\xff\xe0", "truncated or corrupt|not an image file"),
    "h.jpg": (b"text", "not an image file that can be read; save it as PNG"),
    "i.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "j.exr": (b"\x76\x2f\x31\x01", "OpenEXR files are not read"),
    "k.pdf": (b"%PDF-1.7", "PDF files are not read"),
}


def test_whatever_looks_like_a_picture_is_named(tmp_path):
    write(tmp_path, {name: data for name, (data, _) in OTHERS.items()})
    write(tmp_path, {"z.png": photo(), "notes.txt": "text", "data.json": {}, ".x": "y"})
    queries, _ = find_queries(tmp_path, "")
    assert [q.path.name for q in queries] == [*OTHERS, "z.png"]
    for query in queries[:-1]:
        with pytest.raises(Refused, match=OTHERS[query.path.name][1]):
            read_query(query.path)


def test_raw_files_of_cameras_are_not_their_previews(tmp_path):
    tags = {254: 1}
    picture().save(tmp_path / "a.tif", tiffinfo=tags)
    with pytest.raises(Refused, match="raw file, of which only the preview"):
        read_query(tmp_path / "a.tif")


PAGES = [Image.fromarray(np.full((20, 30), 60 * i, np.uint8)) for i in range(1, 4)]


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png", ".avif"])
def test_several_pages(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    pages = [page.convert("RGB") for page in PAGES]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=100)
    picture().save(tmp_path / "b.jpg")
    queries, notes = find_queries(tmp_path, "")
    assert [q.output for q in queries] == ["a", "b"]
    assert notes == [
        f"a{suffix}: only the first page was taken of several; set `pages` to all to "
        "segment every one"
    ]
    levels = [np.asarray(read_query(path).picture.convert("L")).mean()]
    queries, notes = find_queries(tmp_path, "", "all")
    assert [q.output for q in queries] == ["a_page0", "a_page1", "a_page2", "b"]
    assert notes == []
    levels += [
        np.asarray(read_query(q.path, q.page).picture.convert("L")).mean()
        for q in queries[:3]
    ]
    np.testing.assert_allclose(levels, [60, 60, 120, 180], atol=6)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "q", {"a.png": picture(), "a_mask.png": box(2, 3, 9, 9, 255)})
    queries, _ = find_queries("~/q", "")
    assert [q.path for q in queries] == [tmp_path / "q/a.png"]
    assert len(find_queries("~/q/a.png", "~/q")[0]) == 1


def test_only_regular_files_are_queries(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    write(tmp_path, {"a.png": picture()})
    assert [q.path.name for q in find_queries(tmp_path, "")[0]] == ["a.png"]
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(UserError, match="no such file or folder"):
            find_queries(path, "")
        with pytest.raises(Refused, match="not a regular file"):
            read_query(path)


@pytest.mark.parametrize(
    ("name", "mask"),
    [("a.jpg", "a_mask.gif"), ("A.JPG", "a.png"), ("a.jpg", "a.jpg.png")],
)
def test_masks_named_almost_like_their_pictures(tmp_path, name, mask):
    write(tmp_path / "q", {name: picture()})
    write(tmp_path / "m", {mask: box(2, 3, 9, 9, 255)})
    ((query,), _) = find_queries(tmp_path / "q", str(tmp_path / "m"))
    assert query.mask == tmp_path / "m" / mask


def test_pictures_beside_pictures_are_not_masks(tmp_path):
    for suffix in (".png", ".gif"):
        write(tmp_path, {"1.jpg": picture(0), f"1{suffix}": picture(1)})
    write(tmp_path, {"2.jpg": picture(0), "2.gif": box(2, 3, 9, 9, 255)})
    queries, _ = find_queries(tmp_path, "")
    assert {q.path.name: q.mask and q.mask.name for q in queries} == {
        **{"1.jpg": None, "1.png": None, "1.gif": None},
        "2.jpg": "2.gif",
    }


def test_names_of_results_are_never_shared():
    files = ["a.jpg", "a.png", "b.jpg", "A.tif", "a_jpg.png", "c.d.png"]
    names = output_names(files)
    assert names == ["a_jpg_2", "a_png", "b", "A_tif", "a_jpg", "c.d"]


def test_masks_beside_queries(tmp_path):
    photo = squares(1, 0)[0][0]
    write(tmp_path, pairs(2, 0) | {"3.jpg": photo, "3.png": photo, "4.png": photo})
    queries, notes = find_queries(tmp_path, "")
    names = {q.path.name: q.mask and q.mask.name for q in queries}
    assert names == {
        **{"1.jpg": "1.png", "2.jpg": "2.png"},
        **{"3.jpg": None, "3.png": None, "4.png": None},
    }
    assert "not judged, for want of a mask: 3.jpg, 3.png, 4.png" in notes[-1]
    assert len(find_queries(tmp_path, "none")[0]) == 7
    (tmp_path / "masks").mkdir()
    write(tmp_path / "masks", {"4.png": pairs(1, 0)["1.png"], "3.png": photo})
    queries, notes = find_queries(tmp_path, str(tmp_path / "masks"))
    assert {q.path.name for q in queries if q.mask} == {"4.png"}
    assert "3.png may belong to several pictures: not used" in notes


def test_truth_has_the_values_of_the_support_set(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:2], mask[2:4], mask[4] = 19, 7, 255
    write(tmp_path, {"a.png": mask, "p.png": np.zeros((8, 8, 3), np.uint8)})
    upright = read_query(tmp_path / "p.png")
    picture = LabelledPicture("p", np.zeros((8, 8, 3), np.uint8), mask)

    def read(values, reading):
        classes = tuple("ab"[: len(values)])
        support = Support("", classes, [picture], values, reading, [])
        truth = Truth(support, [tmp_path / "a.png"])
        return truth.read(tmp_path / "a.png", upright)[:, 0].tolist()

    numbers = Reading("index", "", {7: "7", 19: "19"})
    objects = Reading("object", "", {1: "object"})
    rest = [255, 0, 0, 0]
    assert read((7, 19), numbers) == [2, 2, 1, 1, *rest]
    assert read((7,), numbers) == [0, 0, 1, 1, *rest]
    assert read((7,), Reading("index", "", {7: "7"})) == [0, 0, 1, 1, *rest]
    mask[:2], mask[2:4] = 2, 1
    write(tmp_path, {"a.png": mask})
    # Class folders and exports: masks of several classes hold their numbers.
    assert read((1, 2), objects) == read((5, 9), None) == [2, 2, 1, 1, *rest]
    mask[mask > 0] = 255
    write(tmp_path, {"a.png": mask})
    assert read((3,), None) == read((1,), objects) == [1] * 5 + [0] * 3
    mask[mask > 0] = 38
    write(tmp_path, {"a.png": mask})
    assert read((3,), None) == [1] * 5 + [0] * 3
