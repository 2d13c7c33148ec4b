"""How soon masks follow a click on the annotation page, with a guided network.

  update   new guides from known features and one more point: `Guidance.update`
  predict  masks of all pictures from known features: `Guidance.predict`
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

from efficientlab_tf.app.annotations import BACKGROUND, FOREGROUND
from efficientlab_tf.app.methods import GuidedMethod, warm_up
from efficientlab_tf.app.picture import THUMBNAIL_SIDE, Limits
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model
from efficientlab_tf.models.guided import FUSIONS
from efficientlab_tf.segmenters.guided import GuidedFunctions
from efficientlab_tf.segmenters.network import Network

UPDATE_TARGET, CLICK_TARGET = 0.15, 1.0
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
    add("--fusion", choices=FUSIONS[:-1], default=FUSIONS[0])
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
    functions, weights = GuidedFunctions(network), network.weights()
    random = np.random.default_rng(0)
    times = _value(functions, weights, options, random)
    times |= _page(GuidedMethod(functions, weights), options, random)
    print(
        f"guidance: {options.backbone}, {options.fusion}, "
        f"{options.image_size}x{options.image_size}, {options.pictures} pictures"
    )
    targets = {"update": UPDATE_TARGET, "click": CLICK_TARGET}
    for name, seconds in times.items():
        target = targets.get(name)
        told = f"  (target: at most {1000 * target:.0f} ms)" if target else ""
        median, slowest = statistics.median(seconds), max(seconds)
        print(
            f"  {name:<8} {1000 * median:8.1f} ms, median of {len(seconds)}; slowest "
            f"{1000 * slowest:.1f} ms{told}"
        )
    return 0


def _value(functions, weights, options, random) -> dict[str, list[float]]:
    """Times of the value without a page around it."""
    size, count = options.image_size, options.pictures
    segmenter = functions.segmenter(weights)
    images = random.integers(0, 256, [count, size, size, 3], np.uint8)
    masks = np.full([count, size, size], IGNORE, np.uint8)
    masks[0, 0, 0] = FOREGROUND
    queries = segmenter.read(images)
    reads = [_timed(lambda: segmenter.read(images))[0] for _ in range(3)]
    # The second shape of everything is the last that is compiled.
    segmenter.adapt(segmenter.read(images[:1]), masks[:1]).update(0, [(0, 0, 1)])
    guide = segmenter.adapt(queries, masks)
    guide.predict(queries)
    times = {"update": [], "predict": []}
    for _ in tqdm(range(options.repeats), desc="update", leave=False, disable=None):
        row, column, label = random.integers([size, size, 2])
        image, point = int(random.integers(count)), (row, column, label)
        if (row, column) == (0, 0):
            continue  # Where the object is marked.
        seconds, guide = _timed(lambda g=guide, i=image, p=point: _updated(g, i, p))
        times["update"].append(seconds)
        times["predict"].append(_timed(lambda g=guide: g.predict(queries))[0])
    return times | {"read": reads}


def _updated(guide, image: int, point):
    guide = guide.update(image, [point])
    guide.guides.numpy()  # Waits until it is done.
    return guide


def _page(method: GuidedMethod, options, random) -> dict[str, list[float]]:
    """Times of clicks in a workspace."""
    warm_up(method)
    height, width = _SHOWN
    limits = Limits(pictures=options.pictures)
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
