"""Run lengths of COCO and Label Studio, and what is done before they are believed."""

import numpy as np
import pytest
from pycocotools import mask as coco_api

from efficientlab_tf.data import coco_masks
from efficientlab_tf.data.annotations.rle import brush_mask
from efficientlab_tf.data.coco_masks import paint
from tests.data.annotations.making import box, compress, pack_brush, run_lengths


def coco_mask(encoded):
    """The mask, bool [height, width], that run lengths stand for."""
    size, lengths = coco_masks.run_lengths(encoded)
    mask = np.zeros(size, bool)
    coco_masks.paint_runs(mask, lengths, True)
    return mask


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


def test_what_the_coco_api_makes_of_polygons_and_masks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(5, 60, 2).tolist()
        points = rng.random((7, 2)) * [1.4 * width, 1.4 * height] - [3, 3]
        mask = np.zeros((height, width), np.uint8)
        paint(mask, [points.ravel().tolist()], 1)
        (encoded,) = coco_api.frPyObjects([points.ravel().tolist()], height, width)
        np.testing.assert_array_equal(mask, coco_api.decode(encoded))
        noise = np.asfortranarray(rng.integers(0, 2, (height, width), np.uint8))
        counts = coco_api.encode(noise)["counts"].decode()
        decoded = coco_mask({"size": [height, width], "counts": counts})
        np.testing.assert_array_equal(decoded, noise)


WRAPPED = [2**62, 2**62, 2**62, 2**62 + 42]
"""Their sum is 42 in numbers of 64 bits."""


@pytest.mark.parametrize(
    "counts",
    [
        *(WRAPPED, compress(WRAPPED), [2**63 - 1, 2**63 - 1, 44], [2**64, 0]),
        *([2**40, 42 - 2**40], [42.5, -0.5], [None], ["42"], [[42]], [], "", {}),
        *("1" * 1000, [0] * 1000, [float("nan")], [True], "\ud800"),
    ],
)
def test_run_lengths_that_lie(counts):
    with pytest.raises((ValueError, TypeError)):
        coco_mask({"size": [6, 7], "counts": counts})


@pytest.mark.parametrize(
    "size", [[2**31, 2**31], [0, 0], [-6, -7], None, [6], ["a", 7]]
)
def test_sizes_of_run_lengths_that_lie(size):
    with pytest.raises((ValueError, TypeError)):
        coco_mask({"size": size, "counts": [42]})


@pytest.mark.parametrize(
    "outline",
    [
        *([0, 0, 1e300, 0, 1, 1], [0, 0, 1e8, 0, 1, 1], [0, 0, float("inf"), 1, 1, 1]),
        *([0, 0, 1, 1], [1] * 7, [], None, "abc", [[1, 2], 3], [{}] * 6),
    ],
)
def test_polygons_that_do_not_reach_the_coco_api(outline, monkeypatch):
    monkeypatch.setattr(coco_api, "frPyObjects", lambda *_: 1 / 0)
    with pytest.raises(ValueError):
        paint(np.zeros((6, 7), np.uint8), [outline], 1)


def test_brush_strokes_say_how_large_they_are():
    with pytest.raises(ValueError, match="an image of 18000x13500"):
        brush_mask([0] * 60, 13500, 18000)
