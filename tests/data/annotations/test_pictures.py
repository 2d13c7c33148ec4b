"""Pictures of many kinds as support pictures."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.data.cleaning import stretched
from tests.data.annotations.making import HEIGHT, WIDTH, box, write


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
    values = np.array([[np.nan, 5.0], [np.inf, 7.0]], np.float32)
    found = np.asarray(stretched(Image.fromarray(values)))
    np.testing.assert_array_equal(found, [[0, 0], [255, 255]])
    flat = Image.fromarray(np.full((3, 3), 9, np.uint16))
    assert not np.asarray(stretched(flat)).any()
    # One hot pixel of ten thousand does not darken the others.
    hot = np.tile(np.arange(100), (100, 1)).astype(np.uint16)
    hot[0, 0] = 60000
    assert np.asarray(stretched(Image.fromarray(hot)))[:, -1].min() == 255
