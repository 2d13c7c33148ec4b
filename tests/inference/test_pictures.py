"""Masks as files in the Python interface."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.pictures import read_masks
from tests.data.annotations.making import box, write

PICTURES = [np.zeros((30, 40, 3), np.uint8)] * 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (box(2, 3, 9, 9, 255), box(2, 3, 9, 9)),
        (box(2, 3, 9, 9).astype(np.uint16) * 65535, box(2, 3, 9, 9)),
        (box(2, 3, 9, 9, 38), box(2, 3, 9, 9)),
        (
            box(2, 3, 9, 9) + box(20, 3, 29, 9, 2),
            box(2, 3, 9, 9) + box(20, 3, 29, 9, 2),
        ),
        (
            box(2, 3, 9, 9) | box(20, 3, 29, 9, 255),
            box(2, 3, 9, 9) | box(20, 3, 29, 9, 255),
        ),
        (
            Image.fromarray(np.dstack([box(2, 3, 9, 9, 255)] + [box(0, 0, 0, 0)] * 2)),
            box(2, 3, 9, 9),
        ),
    ],
)
def test_mask_files(tmp_path, content, expected):
    write(tmp_path, {"a.png": content, "b.png": box(0, 0, 0, 0)})
    masks = read_masks([tmp_path / "a.png", str(tmp_path / "b.png")], PICTURES)
    np.testing.assert_array_equal(masks[0], expected)
    assert not masks[1].any() and masks[0].dtype == np.uint8


def test_mask_files_that_contradict_each_other(tmp_path):
    write(tmp_path, {"a.png": box(2, 3, 9, 9), "b.png": box(2, 3, 9, 9, 255)})
    with pytest.raises(UserError, match="masks of one set have to mean the same"):
        read_masks([tmp_path / "a.png", tmp_path / "b.png"], PICTURES)
