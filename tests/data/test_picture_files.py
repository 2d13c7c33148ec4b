"""Which files are opened at all, and how much of a computer they may take."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data import picture_files
from efficientlab_tf.data.cleaning import read_image, resize_mask
from efficientlab_tf.data.file_names import garbled, match_stems, meanings
from efficientlab_tf.data.picture_files import (
    FORMATS,
    Refused,
    header_size,
    open_picture,
    read_bytes,
)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width, height):
    """A PNG that says it is so large, and holds next to nothing."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"")),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_only_listed_formats_are_tried(monkeypatch):
    assert not {"EPS", "PSD", "WMF", "FITS", "IM", "MPEG"} & set(FORMATS)
    tried = []
    real = Image.open

    def spy(*arguments, formats=None, **options):
        tried.append(formats)
        return real(*arguments, formats=formats, **options)

    monkeypatch.setattr(Image, "open", spy)
    with pytest.raises(Refused, match="PostScript files are not read"):
        open_picture(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
        )
    assert tried and all(set(formats) <= set(FORMATS) for formats in tried)


@pytest.mark.parametrize("size", [(50_000, 50_000), (9000, 9000), (10**8, 1)])
def test_large_pictures_are_refused_by_their_headers(size):
    with pytest.raises(Refused, match="too large"):
        open_picture(png_of_size(*size))


@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1)])
def test_pictures_of_very_long_sides_are_refused(size):
    with pytest.raises(Refused, match="too long: .* at most 65535; save it in pieces"):
        open_picture(encoded(Image.new("1", size), "PNG"))


@pytest.mark.parametrize("kind", ["JPEG2000", "WEBP", "AVIF"])
def test_formats_that_need_more_memory_have_smaller_bounds(monkeypatch, kind):
    data = encoded(Image.new("RGB", (40, 30)), kind)
    assert open_picture(data).size == (40, 30)
    monkeypatch.setitem(picture_files.MAX_PIXELS_OF, kind, 1199)
    with pytest.raises(Refused, match="save it smaller, or as PNG, or in pieces"):
        open_picture(data)
    assert open_picture(encoded(Image.new("RGB", (40, 30)), "PNG")).size == (40, 30)


def test_progressive_jpegs_of_endless_scans(monkeypatch):
    data = encoded(Image.new("L", (300, 200), 128), "JPEG", progressive=True)
    start = data.rfind(b"\xff\xda")
    many = data[:start] + data[start:-2] * 60 + data[-2:]
    assert open_picture(many).size == (300, 200)
    monkeypatch.setattr(picture_files, "MAX_SCANNED", 300 * 200 * 40)
    with pytest.raises(Refused, match="a JPEG of more than 40 scans"):
        open_picture(many)
    assert open_picture(data).size == (300, 200)
    baseline = encoded(Image.new("RGB", (300, 200), "red"), "JPEG")
    assert open_picture(baseline).size == (300, 200)


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(Refused, match="not a regular file"):
            read_bytes(path)
        with pytest.raises(Refused, match="not a regular file"):
            header_size(path)
    with pytest.raises((Refused, OSError)):
        read_bytes(tmp_path)
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_bytes(tmp_path / "link") == b"12345"
    with pytest.raises(Refused, match="are more than"):
        read_bytes(tmp_path / "file", 4)


@pytest.mark.parametrize("kind", ["F", "I;16", "RGBA", "P"])
def test_bands_give_what_the_whole_picture_gives(monkeypatch, kind):
    rng = np.random.default_rng(0)
    if kind in ("F", "I;16"):
        dtype = np.float32 if kind == "F" else np.uint16
        image = Image.fromarray((rng.random((50, 40)) * 4000).astype(dtype))
    else:
        image = Image.fromarray(rng.integers(0, 256, (50, 40, 4), np.uint8)).convert(
            kind
        )
    data = encoded(image, "TIFF")
    whole = np.asarray(read_image(data, stretch=True).picture)
    monkeypatch.setattr(picture_files, "_BAND", 120)
    np.testing.assert_array_equal(read_image(data, stretch=True).picture, whole)


@pytest.mark.parametrize("size", [(7, 5), (64, 64), (1, 90), (33, 2)])
def test_masks_are_resized_as_pillow_does(size):
    mask = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
    expected = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_mask(mask, size), expected)


@pytest.mark.parametrize("kind", [k for k in FORMATS if k != "HEIF"])
def test_damage_of_every_kind_has_one_error(kind):
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    data = encoded(Image.fromarray(values), kind)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data[: rng.integers(1, len(data) + 1)])
        for place in rng.integers(0, len(damaged), rng.integers(0, 6)):
            damaged[place] = rng.integers(0, 256)
        try:
            assert open_picture(bytes(damaged)).size[0] > 0
        except Refused as error:
            assert "\n" not in str(error)


def test_damage_is_said_once(capfd):
    # libtiff would print lines of its own.
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(data, "TIFF", compression="tiff_adobe_deflate")
    damaged = bytearray(data.getvalue())
    damaged[1000:1010] = bytes(10)
    with pytest.raises(Refused, match="truncated or corrupt"):
        open_picture(bytes(damaged))
    assert capfd.readouterr() == ("", "")


def test_names_that_match():
    found = match_stems(["a", "B", "c 1", "d"], ["a_mask", "b", "c_1", "d", "D", "e"])
    assert found == {"a": "a_mask", "B": "b", "c 1": "c_1", "d": "d"}
    assert match_stems(["a", "A"], ["a_mask"]) == {"a": "a_mask"}
    assert match_stems(["A", "Ä"], ["a_mask", "a"]) == {}
    assert match_stems(["a"], ["a_mask", "mask_a"]) == {}
    assert match_stems(["a%20b"], ["a b"]) == {"a%20b": "a b"}
    assert match_stems(["a%20b", "a b"], ["a b"]) == {"a b": "a b"}


def test_what_an_address_may_mean():
    assert meanings("a%20b.png") == [["a%20b.png"], ["a b.png"]]
    assert meanings("x/../y\\z.png")[0] == ["x", "y", "z.png"]
    assert ["photos", "c++.png"] in meanings("/data/local-files/?d=photos/c++.png")
    assert meanings("") == meanings("../.") == []
    assert "图片" in garbled("图片".encode("gbk").decode("cp437"))
    assert garbled("plain") == []
