"""Masks that may mean several things are refused, or read as they are told to be."""

import numpy as np
import pytest

from efficientlab_tf.data.mask_readings import MASK_VALUES
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.errors import UserError
from tests.data.drawn_masks import GREEN, IN, RED, WHITE, colored, read, square, two

# What is refused rather than guessed.


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            [square(), square(1)],
            r"m0\.png holds the levels 0, 255, but .*m1\.png the lev",
        ),
        ([square(), two(1, 2)], "masks of one set have to mean the same"),
        ([square(), colored((IN, RED))], r"but .*m1\.png the colours #000000, #ff0000"),
        (
            [colored((IN, WHITE), alpha=square()), square()],
            "transparent background, but",
        ),
        ([square(255, 255)], "every mask is 255 all over"),
        ([two(128, 255)], "levels 128, 255: classes in shades of grey, or an object"),
        ([two(100, 255)], "100 and 255: is 255 the object, or unknown"),
        ([np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)], "not a mask"),
        (
            [np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)],
            "a photo, not a mask",
        ),
        (
            [np.random.default_rng(0).integers(0, 999, (40, 60), np.uint16)],
            "not a mask",
        ),
    ],
)
def test_what_may_mean_several_things_is_refused(tmp_path, contents, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, *contents)


def test_values_that_no_mask_has(tmp_path):
    for values, message in (
        (square(-5, dtype=np.int32), "negative number -5"),
        (square(np.nan, dtype=np.float32), "save it as 8-bit grey"),
        (square(1e20, dtype=np.float32), "save it as 8-bit grey"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path, values, suffix=".tif")


@pytest.mark.parametrize("suffix", [".jpg", ".jp2", ".avif"])
def test_numbers_do_not_survive_lossy_formats(tmp_path, suffix):
    with pytest.raises(UserError, match="format that changes them, as JPEG does"):
        read(tmp_path, two(17, 60), suffix=suffix, quality=100)


# By hand.


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("object", two(100, 200), two(0, 1)),
        ("dark", square(0, 255), square(1)),
        ("dark", square(40, 200), square(1)),
        ("index", two(200, 255), two(200, 255)),
        ("index", square(9), square(9)),
        ("instances", two(7, 255), two(1, 1)),
        ("instances", colored((IN, RED)), square(1)),
        ("colors", two(85, 170), two(1, 2)),
        ("colors", colored((IN, WHITE)), square(1)),
        ("alpha", colored((IN, RED), ground=GREEN, alpha=square()), square(1)),
    ],
)
def test_every_reading_by_hand(tmp_path, kind, content, expected):
    means, (mask,) = read(tmp_path, content, mask_values=kind)
    assert means.kind == kind and means.text
    np.testing.assert_array_equal(mask, expected)


def test_all_readings_were_tried_by_hand():
    (mark,) = test_every_reading_by_hand.pytestmark
    assert {case[0] for case in mark.args[1]} | {"auto"} == set(MASK_VALUES)


def test_readings_by_hand_that_do_not_fit(tmp_path):
    for kind, content, message in (
        ("alpha", square(), "no transparency"),
        (
            "index",
            colored((IN, RED)),
            r"colours where indices are expected \(#ff0000\)",
        ),
        ("index", square(300, dtype=np.uint16), "index 300"),
        ("object", square(90), "brightest level of the mask is 90"),
    ):
        with pytest.raises(Refused, match=message):
            read(tmp_path, content, mask_values=kind)
