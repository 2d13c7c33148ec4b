"""Resizing, and judging files by their headers."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.serving import images
from tests.serving.conftest import photos

LARGEST = 200


@pytest.fixture(scope="module")
def decode():
    return tf.function(
        lambda data: images.decode(tf.constant("file"), data, LARGEST),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )


def encode(format: str, height: int, width: int, mode: str = "RGB", **options) -> bytes:
    picture = Image.fromarray(photos(1, height, width)[0]).convert(mode)
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((40, 70), (32, 32)),
        ((20, 9), (32, 32)),
        ((32, 32), (200, 7)),
        ((1, 500), (8, 8)),
    ],
)
def test_resize_equals_the_data_pipelines(source, target):
    pictures = photos(2, *source).astype(np.float32)
    expected = tf.image.resize(pictures, target, method="bilinear", antialias=True)
    resized = images.resize(pictures, *map(tf.constant, target))
    assert np.abs(resized - expected).max() <= 2e-3  # of 0..255


def test_resize_to_the_same_size_changes_nothing():
    pictures = photos(1, 33, 50).astype(np.float32)
    resized = images.resize(pictures, tf.constant(33), tf.constant(50))
    np.testing.assert_array_equal(resized, pictures)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("PNG", {"mode": "P"}),
        ("PNG", {"mode": "RGBA"}),
        ("PNG", {"mode": "L"}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"mode": "L"}),
        ("JPEG", {"mode": "CMYK"}),
        ("JPEG", {"mode": "CMYK", "progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + encode("JPEG", 9, 11)}),
        ("JPEG", {"icc_profile": bytes(200_000)}),
    ],
)
def test_decodes_what_pillow_writes(decode, format, options):
    data = encode(format, 30, 50, **options)
    decoded = decode(data).numpy()
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert decoded.shape == expected.shape
    # Two JPEG decoders may differ by a few grey levels where colours are subsampled.
    assert np.abs(decoded.astype(int) - expected).mean() <= (format == "JPEG") * 2


def png_header(height: int, width: int) -> bytes:
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return images.PNG_SIGNATURE + b"\0\0\0\rIHDR" + sides + b"\x08\x02\0\0\0"


def jpeg_header(height: int, width: int, **options) -> bytes:
    data = bytearray(encode("JPEG", 8, 8, **options))
    # The start of frame of sequential or progressive pictures: length, bits, sides.
    (frame,) = re.finditer(rb"\xff[\xc0\xc2]\0.\x08\0\x08\0\x08", data)
    place = frame.start() + 5
    data[place : place + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        png_header(30_000, 30_000),
        png_header(LARGEST + 1, 1),
        png_header(1, 2**31 - 1),
        jpeg_header(30_000, 30_000),
        jpeg_header(1, LARGEST + 1),
        jpeg_header(30_000, 30_000, progressive=True),
        jpeg_header(30_000, 30_000, mode="L"),
        jpeg_header(30_000, 30_000, mode="CMYK", progressive=True),
        # Fill bytes before a marker, and a header of a thumbnail, do not hide it.
        jpeg_header(30_000, 30_000).replace(b"\xff\xc0", b"\xff\xff\xff\xc0"),
        jpeg_header(30_000, 30_000).replace(
            b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x10" + jpeg_header(8, 8)[:14], 1
        ),
    ],
)
def test_a_large_size_in_the_header_is_refused(decode, data):
    with pytest.raises(tf.errors.InvalidArgumentError, match="sides of at most 200"):
        decode(data)


def test_progressive_jpegs_of_endless_scans_are_refused(monkeypatch):
    data = encode("JPEG", 30, 50, progressive=True)
    start = data.rfind(b"\xff\xda")
    many = data[:start] + data[start:-2] * 60 + data[-2:]
    name = tf.constant("file")
    assert images.decode(name, tf.constant(many), LARGEST).shape == [30, 50, 3]
    monkeypatch.setattr(images, "MAX_SCANNED", 30 * 50 * 40)
    assert images.decode(name, tf.constant(data), LARGEST).shape == [30, 50, 3]
    with pytest.raises(tf.errors.InvalidArgumentError, match="more scans than"):
        images.decode(name, tf.constant(many), LARGEST)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("progressive", [False, True])
def test_the_header_alone_is_read(decode, progressive):
    def address_space() -> int:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmPeak:\s*(\d+) kB", status)[1])

    huge = jpeg_header(65_500, 65_500, progressive=progressive)
    before = address_space()
    with pytest.raises(tf.errors.InvalidArgumentError, match="sides of at most 200"):
        decode(huge)
    # The coefficients that a progressive picture is collected in would take 25 GB.
    assert address_space() < before + 1_000_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "JPEG or PNG"),
        (b"GIF89a", "JPEG or PNG"),
        (images.PNG_SIGNATURE, "no picture size"),
        (images.PNG_SIGNATURE + b"\0\0\0\x0dtEXt" + bytes(20), "no picture size"),
        (png_header(0, 5), "no picture size"),
        (png_header(5, 5), "Invalid PNG"),
        (encode("PNG", 30, 50)[:-30], "Invalid PNG"),
        (encode("JPEG", 30, 50)[:-30], "Invalid JPEG"),
        (encode("JPEG", 30, 50, progressive=True)[:-30], "Invalid JPEG"),
        (encode("JPEG", 30, 50)[:30], "Invalid JPEG"),
        (jpeg_header(0, 5), "Invalid JPEG"),
        (b"\xff\xd8\xff\xda\0\x08" + bytes(20), "Invalid JPEG"),
        (b"\xff\xd8\xff\xe0\0\0" + bytes(20), "Invalid JPEG"),
        (b"\xff\xd8" + b"\xff" * 3_000, "Invalid JPEG"),
    ],
)
def test_unreadable_files_are_refused(decode, data, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_no_truncation_is_more_than_an_error(decode, format):
    data = encode(format, 12, 9)
    for length in range(0, len(data) - 2, 7):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(data[:length])
