"""What mask files mean: an object in every depth and format, and numbers."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.errors import UserError
from tests.data.drawn_masks import IN, cells, is_square, read, soft, square, two

# An object on background, in every depth and suffix.


@pytest.mark.parametrize("top", [1, 255, 65535, 256, 4095])
def test_objects_in_16_bits(tmp_path, top):
    _, masks = read(
        tmp_path, square(top, dtype=np.uint16), np.zeros_like(IN, np.uint16)
    )
    is_square(masks[0])
    assert not masks[1].any()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("top", [1, 255, 65535, 2**24])
def test_objects_in_32_bits(tmp_path, dtype, top):
    (mask,) = read(tmp_path, square(top, dtype=dtype), suffix=".tif")[1]
    is_square(mask)


def test_all_bits_of_32(tmp_path):
    is_square(read(tmp_path, square(-1, dtype=np.int32), suffix=".tif")[1][0])


def test_fractions(tmp_path):
    values = soft(1.0, np.float32)
    assert (values % 1 > 0).any()
    (mask,) = read(tmp_path, values, suffix=".tif")[1]
    np.testing.assert_array_equal(mask, values >= 127.5 / 255)


MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK")
WITHOUT = {".png": ("CMYK",), ".gif": ("CMYK",), ".bmp": ("LA", "CMYK")}


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        (mode, suffix)
        for suffix in (".png", ".gif", ".tif", ".bmp", ".webp")
        for mode in MODES
        if mode not in WITHOUT.get(suffix, ())
    ],
)
def test_objects_in_every_mode_and_format(tmp_path, mode, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    image = Image.fromarray(square()).convert(mode)
    is_square(read(tmp_path, image, suffix=suffix, **options)[1][0])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_soft_edges_and_lossy_formats(tmp_path, suffix):
    values = soft()
    means, (mask,) = read(tmp_path, values, suffix=suffix)
    assert means.kind == "object"
    assert abs(int(mask.sum()) - int((values >= 128).sum())) < 10


def test_soft_edges_in_16_bits(tmp_path):
    values = soft(65535, np.uint16)
    means, (mask,) = read(tmp_path, values)
    np.testing.assert_array_equal(mask, values >= 2**15)


# Numbers: of classes, or of instances.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_numbers_of_classes(tmp_path, dtype):
    kind = ".tif" if dtype == np.int32 else ".png"
    means, masks = read(
        tmp_path, two(3, 19, dtype=dtype), square(3, dtype=dtype), suffix=kind
    )
    assert means.kind == "index" and means.names == {3: "3", 19: "19"}
    np.testing.assert_array_equal(masks[0], two(3, 19))


def test_numbers_above_127_with_unknown(tmp_path):
    mask = two(17, 156, ground=156)
    mask[:2] = 255
    means, masks = read(tmp_path, mask, square(17, 156))
    assert means.kind == "index" and set(means.names) == {17, 156}
    assert "255 is unknown" in means.text
    np.testing.assert_array_equal(masks[0], mask)


def test_levels_0_and_1(tmp_path):
    means, masks = read(tmp_path, square(1), square(0))
    assert means.is_binary and means.names == {1: "object"}
    is_square(masks[0])


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(12, np.uint8), (195, np.uint8), (255, np.uint8), (12, np.uint16)],
)
def test_a_number_for_each_instance(tmp_path, count, dtype):
    found, other = cells(count, dtype=dtype), cells(9, dtype=dtype)
    means, masks = read(tmp_path, found, other)
    assert means.kind == "instances" and f"up to {count} a file" in means.text
    np.testing.assert_array_equal(masks[0], found > 0)
    np.testing.assert_array_equal(masks[1], other > 0)


def test_hundreds_of_instances_beside_few(tmp_path):
    found = cells(700), cells(1), cells(40), np.zeros((9, 9), np.uint16)
    means, masks = read(tmp_path, *found)
    assert means.kind == "instances"
    for mask, values in zip(masks, found, strict=True):
        np.testing.assert_array_equal(mask, values > 0)


def test_instances_with_gaps(tmp_path):
    found = cells(80, dtype=np.uint8)
    found[np.isin(found, (3, 7, 30))] = 0
    assert read(tmp_path, found)[0].kind == "instances"


def test_numbers_that_may_be_classes_or_instances(tmp_path):
    some = cells(12, dtype=np.uint8)
    some[some == 5] = 0
    for content in (some, cells(5), cells(3)):
        with pytest.raises(UserError, match="of classes, or one for each object"):
            read(tmp_path, content)
    means, _ = read(tmp_path, cells(5, dtype=np.uint8))
    assert means.kind == "index" and "set `mask_values` to instances" in means.text


def test_many_classes_in_pieces_are_not_instances(tmp_path):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 60, (24, 24)).astype(np.uint8)
    scene = np.kron(blocks, np.ones((6, 6), np.uint8))
    assert read(tmp_path, scene)[0].kind == "index"


def test_numbers_that_are_neither(tmp_path):
    with pytest.raises(UserError, match=r"m0\.png: numbers up to 26001, more than"):
        read(tmp_path, two(24000, 26001, dtype=np.uint16))
    _, (mask,) = read(
        tmp_path, two(24000, 26001, dtype=np.uint16), mask_values="instances"
    )
    assert mask.sum() == 600
