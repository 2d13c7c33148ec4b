"""Meta-testing: adapt to each task, predict its queries, count.

Each task is adapted from the same initialization with a seed made of its own
name, so neither the order of tasks nor what else is evaluated changes a number.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from efficientlab_tf.episode import Episode, require_disjoint
from efficientlab_tf.metrics import TaskResult, image_iou, predicted_masks
from efficientlab_tf.pictures import contact_sheet, marked
from efficientlab_tf.segmenters.gradient import Segmenter


@dataclasses.dataclass(frozen=True)
class Example:
    """One query image of a task, for pictures: all uint8.

    Attributes:
      caption: class and IoU.
      support_image: [H, W, 3]; the task's first.
      support_mask: [H, W].
      query_image: [H, W, 3].
      query_mask: [H, W].
      predicted: [H, W].
    """

    caption: str
    support_image: np.ndarray
    support_mask: np.ndarray
    query_image: np.ndarray
    query_mask: np.ndarray
    predicted: np.ndarray


def task_seed(name: str, draw: int, seed: int = 0) -> int:
    """Returns a seed in [0, 2**31) that depends on nothing but the task."""
    return zlib.crc32(f"{seed}/{name}/{draw}".encode()) % 2**31


def evaluate(
    segmenter: Segmenter,
    tasks: Iterable[tuple[Episode, str, int]],
    *,
    thresholds: Sequence[float] = (0.5,),
    seed: int = 0,
    disjoint: bool = True,
    on_task: Callable[[TaskResult, Example], None] | None = None,
) -> list[TaskResult]:
    """Adapts to every task and counts its query pixels.

    Args:
      segmenter: the method.
      tasks: (episode, class name, number of the class's draw) tuples.
      thresholds: see `metrics.predicted_masks`; counts and pictures are of the first.
      seed: of the adaptation.
      disjoint: whether support and query must not share an image. They do in the task
        families that ask about the support images themselves.
      on_task: called after each task, for progress and pictures.

    Returns:
      One result a task, in the order given.

    Raises:
      UserError: a task's query set overlaps its support, and must not.
    """
    results = []
    for episode, name, draw in tasks:
        if disjoint:
            require_disjoint(episode, name)
        adapted = segmenter.adapt(
            episode.support_images,
            episode.support_masks,
            seed=task_seed(name, draw, seed),
        )
        query_masks = np.asarray(episode.query_masks)
        probabilities = adapted.predict(np.asarray(episode.query_images))
        result = TaskResult.of(name, draw, query_masks, probabilities, thresholds)
        results.append(result)
        if on_task is not None:
            on_task(
                result,
                Example(
                    f"{name} {100 * image_iou(result.counts[:1])[0]:.0f}%",
                    np.asarray(episode.support_images[0]),
                    np.asarray(episode.support_masks[0]),
                    np.asarray(episode.query_images[0]),
                    query_masks[0],
                    predicted_masks(probabilities[:1], thresholds[0])[0],
                ),
            )
    return results


def sheet(examples: list[Example], cell: int = 128) -> Image.Image:
    """Draws one row an example: support, query, ground truth, prediction."""
    rows = [
        [
            marked(e.support_image, e.support_mask),
            e.query_image,
            marked(e.query_image, e.query_mask),
            marked(e.query_image, e.predicted),
        ]
        for e in examples
    ]
    return contact_sheet(
        rows,
        row_captions=[e.caption for e in examples],
        column_captions=["support", "query", "ground truth", "prediction"],
        cell=cell,
    )
