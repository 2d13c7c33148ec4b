"""Pictures of squares with their masks, as files; a run on them, and what it left."""

import json
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.losses import Objective
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Network, Weights
from tests.models.test_heads import SIZE, squares
from tests.models.tiny import tiny_network

ROOT = Path(__file__).parents[2]
LEARNER = LearnerConfig(
    inner_learning_rate=0.1, inner_steps=12, inner_batch=0, augment_rate=0.0, l2=0.0
)


def learned() -> tuple[Network, Weights]:
    """A network that has learned what squares are: as good as meta-learned."""
    keras.utils.set_random_seed(7)
    network = Network(tiny_network(SIZE))
    functions = AdaptFunctions(InnerLoop(network, Objective(l2=0.0)))
    images, masks = squares(6, 0)
    segmenter = functions.segmenter(
        network.weights(), learning_rate=0.1, steps=60, batch_norm="support"
    )
    return network, segmenter.adapt(images, masks.clip(0, 1)).weights


def enlarged(image, width, height):
    how = Image.Resampling.NEAREST
    return Image.fromarray(image).resize((width, height), how)


def pairs(count, seed, size=(64, 48), classes=1, first=1):
    """Files of pictures of `size` (width, height), and their masks."""
    images, masks = squares(count, seed)
    files = {}
    for i, (image, mask) in enumerate(zip(images, masks, strict=True), start=first):
        files[f"{i}.jpg"] = enlarged(image, *size)
        levels = mask if classes > 1 else np.uint8(255) * (mask == 1)
        files[f"{i}.png"] = enlarged(levels, *size)
    return files


def summary(paths):
    return json.loads((Path(paths["output"]) / "summary.json").read_text())


def found(paths, name):
    with Image.open(Path(paths["output"]) / "masks" / f"{name}.png") as image:
        assert image.mode == "P"
        return np.asarray(image)


def coco(count, seed):
    """A COCO export of pictures with two classes, and a third that is never used."""
    images, masks = squares(count, seed)
    files, entries, annotations = {}, [], []
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        files[f"{i}.png"] = image
        entries.append({"id": i, "file_name": f"{i}.png", "height": 32, "width": 32})
        for value in (1, 2):
            rows, columns = np.nonzero(mask == value)
            (y0, y1), (x0, x1) = (
                (a.min().item(), a.max().item() + 1) for a in (rows, columns)
            )
            outline = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            annotations.append(
                {"image_id": i, "category_id": value, "segmentation": outline}
            )
    names = enumerate(("red", "blue", "green"), start=1)
    return files | {
        "instances.json": {
            "images": entries,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in names],
        }
    }
