"""How soon masks follow a click on the annotation page, with a guided network.

  guide    a new guide from known features and one more point
  predict  masks of all pictures from known features
  click    both, with drawing all pictures for the page: `Workspace`
  read     features of all pictures, once when they are added

Pictures are noise, and a click is a point at a random place of a random picture: as
many different ones as are measured. Times are medians, behind the warm-up.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from tqdm import tqdm

from efficientlab_tf.api.networks import network_model
from efficientlab_tf.app.annotations import BACKGROUND, FOREGROUND
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import Method, warm_up
from efficientlab_tf.app.picture import THUMBNAIL_SIDE
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.checkpoint.files import Checkpoint
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model
from efficientlab_tf.models.guided import FUSIONS
from efficientlab_tf.segmenters.network import Network

GUIDE_TARGET, CLICK_TARGET = 0.15, 1.0
_NAME = "guided"
_SHOWN = (480, 640)


def main(argv: list[str] | None = None) -> int:
    """Measures and prints a table.

    Args:
      argv: command line arguments, see `--help`.

    Returns:
      The exit status.

    Raises:
      UserError: an argument that cannot be.
    """
    parser = argparse.ArgumentParser(
        prog="guidance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--backbone", default="EfficientNetLite0")
    add("--weights", default="imagenet", help="empty: random")
    add("--image_size", type=int, default=224)
    add("--channels", type=int, default=256, help="of the scoring head")
    add("--fusion", choices=FUSIONS[:2], default=FUSIONS[0])
    add("--pictures", type=int, default=10)
    add("--repeats", type=int, default=20, help="clicks behind a median")
    options = parser.parse_args(argv)
    for name in ("pictures", "repeats"):
        value = getattr(options, name)
        if value < 1:
            raise UserError(f"--{name}: expected at least 1; received {value}")

    keras.utils.set_random_seed(0)
    network = Network(
        build_model(
            "guided",
            image_size=options.image_size,
            backbone=options.backbone,
            weights=options.weights or None,
            channels=options.channels,
            fusion=options.fusion,
        )
    )
    checkpoint = Checkpoint(network, network.weights(), RunConfig())
    model = network_model(_NAME, checkpoint)
    random = np.random.default_rng(0)
    times = _value(model.segmenter(), options, random)
    times |= _page(Method(model), options, random)
    print(
        f"guidance: {options.backbone}, {options.fusion}, "
        f"{options.image_size}x{options.image_size}, {options.pictures} pictures"
    )
    targets = {"guide": GUIDE_TARGET, "click": CLICK_TARGET}
    for name, seconds in times.items():
        target = targets.get(name)
        told = f"  (target: at most {1000 * target:.0f} ms)" if target else ""
        median, slowest = statistics.median(seconds), max(seconds)
        print(
            f"  {name:<8} {1000 * median:8.1f} ms, median of {len(seconds)}; slowest "
            f"{1000 * slowest:.1f} ms{told}"
        )
    return 0


def _value(segmenter, options, random) -> dict[str, list[float]]:
    """Times of the segmenter without a page around it."""
    size, count = options.image_size, options.pictures
    images = random.integers(0, 256, [count, size, size, 3], np.uint8)
    masks = np.full([count, size, size], IGNORE, np.uint8)
    masks[0, 0, 0] = FOREGROUND
    features = segmenter.read(images)
    reads = [_timed(lambda: segmenter.read(images))[0] for _ in range(3)]
    # The second shape of everything is the last that is compiled.
    segmenter.adapt(segmenter.read(images[:1]), masks[:1])
    segmenter.adapt(features, masks).predict(features)
    times = {"guide": [], "predict": []}
    for _ in tqdm(range(options.repeats), desc="guide", leave=False, disable=None):
        row, column, label = random.integers([size, size, 2])
        masks[int(random.integers(count)), row, column] = label
        seconds, adapted = _timed(lambda: _guided(segmenter, features, masks))
        times["guide"].append(seconds)
        times["predict"].append(_timed(lambda a=adapted: a.predict(features))[0])
    return times | {"read": reads}


def _guided(segmenter, features, masks):
    adapted = segmenter.adapt(features, masks)
    adapted.guides[0].numpy()  # Waits until it is done.
    return adapted


def _page(method: Method, options, random) -> dict[str, list[float]]:
    """Times of clicks in a workspace."""
    warm_up(method)
    height, width = _SHOWN
    limits = AppConfig(max_pictures=options.pictures)
    times = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Workspace({_NAME: method}, limits, Path(folder)) as workspace,
    ):
        for i in range(options.pictures):
            noise = random.integers(0, 256, [height, width, 3], np.uint8)
            file = io.BytesIO()
            Image.fromarray(noise).save(file, "PNG")
            workspace.add(f"{i}.png", file.getvalue())
        workspace.mark(0, 0, 0, FOREGROUND)
        workspace.adapt(_NAME)

        def click() -> None:
            row, column = random.integers([height, width]).tolist()
            label = random.choice([FOREGROUND, BACKGROUND])
            workspace.mark(int(random.integers(options.pictures)), row, column, label)
            workspace.adapt(_NAME)
            workspace.shown(0)
            for i in range(options.pictures):
                workspace.shown(i, THUMBNAIL_SIDE)

        for _ in tqdm(range(options.repeats), desc="click", leave=False, disable=None):
            times.append(_timed(click)[0])
    return {"click": times}


def _timed(function: Callable):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result
