"""A video of two squares, and what a run on it left."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from efficientlab_tf.video.frames import natural_key
from tests.adapt.labelled_squares import enlarged
from tests.data.annotations.making import write
from tests.models.test_heads import SIZE

COUNT = 6
WIDTH, HEIGHT = 64, 48


def video(count=COUNT, width=WIDTH, height=HEIGHT):
    """A red square (1) that moves by two pixels a frame, and a blue one (2) at rest."""
    rng = np.random.default_rng(3)
    images, masks = [], []
    for i in range(count):
        image = rng.integers(90, 160, (SIZE, SIZE, 3), np.uint8)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        for value, top, left, color in (
            (1, 3 + i, 2 + 2 * i, (230, 30, 30)),
            (2, 20, 20, (30, 30, 230)),
        ):
            image[top : top + 10, left : left + 10] = color
            mask[top : top + 10, left : left + 10] = value
        images.append(enlarged(image, width, height))
        masks.append(np.asarray(enlarged(mask, width, height)))
    return images, masks


def summary(paths):
    return json.loads((Path(paths["output"]) / "summary.json").read_text())


def found(paths):
    """The masks that were written, in the order of the frames."""
    files = (Path(paths["output"]) / "masks").iterdir()
    files = sorted(files, key=lambda path: natural_key(path.name))
    return [np.asarray(Image.open(path)) for path in files]


def points_file(tmp_path, *points):
    names = ("frame", "x", "y", "label")
    document = {"points": [dict(zip(names, p, strict=True)) for p in points]}
    return str(write(tmp_path, {"points.json": document}) / "points.json")


def jaccard(truth, mask):
    return (truth & mask).sum() / (truth | mask).sum()


BLACK = np.zeros((HEIGHT, WIDTH), np.uint8)
