"""A small run on a video of squares, with the network that knows squares."""

import numpy as np
import pytest

from tests.adapt.conftest import model
from tests.data.annotations.making import write
from tests.video.moving_squares import video

__all__ = ["model"]  # A fixture.


@pytest.fixture
def paths(tmp_path, model):
    """Arguments of a small run: the red square is the object."""
    images, masks = video()
    frames = {f"frame{i}.png": image for i, image in enumerate(images, start=7)}
    truth = {f"frame{i}.png": 255 * (m == 1) for i, m in enumerate(masks, start=7)}
    write(tmp_path / "frames", frames)
    write(tmp_path / "truth", {n: m.astype(np.uint8) for n, m in truth.items()})
    return {
        "model": str(model),
        "sequence": str(tmp_path / "frames"),
        "annotation": str(tmp_path / "truth/frame7.png"),
        "annotations": str(tmp_path / "truth"),
        "output": str(tmp_path / "output"),
    }
