"""Meta-testing: adapt to each task, predict its queries, count.

Each task is adapted from the same initialization with a seed made of its own
name, so neither the order of tasks nor what else is evaluated changes a number.
"""

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from efficientlab_tf.api.model import Model
from efficientlab_tf.config import OWN, DataConfig, EvalConfig, Settings
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.episode import Episode, require_disjoint
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import tables
from efficientlab_tf.files import replacing, write_text, writing
from efficientlab_tf.metrics import (
    Summary,
    TaskResult,
    both_iou,
    image_iou,
    predicted_masks,
)
from efficientlab_tf.pictures import contact_sheet, marked
from efficientlab_tf.segmenters.segmenter import Diverged, Segmenter

COLUMNS = ("support", "query", "ground truth", "prediction")
"""Of a sheet of predictions."""
_PICTURES = 12

Row = tuple[str, list[np.ndarray]]
"""A query of a task for people to look at: class and IoU, and pictures as `COLUMNS`
says, uint8 [H, W, 3]; of the support set the first."""


def task_seed(name: str, draw: int, seed: int = 0) -> int:
    """Returns a seed in [0, 2**31) that depends on nothing but the task."""
    return zlib.crc32(f"{seed}/{name}/{draw}".encode()) % 2**31


def require_one_way(what: str, classes: int) -> None:
    """Checks that a model tells one class from the background."""
    if classes > 1:
        raise UserError(
            f"{what} is one-way, but the model tells {classes} classes apart; give one "
            "that was trained with `num_classes`=1, or use evaluate or compare"
        )


def open_dataset(dataset_dir: str, splits: str = "") -> Manifest:
    """Opens a dataset, with `splits` in the place of its own if any are named.

    Raises:
      UserError: none is named, or there is none.
    """
    if not dataset_dir:
        raise UserError("`dataset_dir` is needed: a converted dataset, or sample:icons")
    manifest = Manifest.load(dataset_dir)
    return manifest.with_splits(splits) if splits else manifest


def evaluate(
    segmenter: Segmenter,
    tasks: Iterable[tuple[Episode, str, int]],
    *,
    thresholds: Sequence[float] = (0.5,),
    seed: int = 0,
    disjoint: bool = True,
    on_task: Callable[[TaskResult, Row], None] | None = None,
) -> list[TaskResult]:
    """Adapts to every task and counts its query pixels.

    Args:
      segmenter: the method.
      tasks: (episode, class name, number of the class's draw) tuples.
      thresholds: see `metrics.predicted_masks`; counts and pictures are of the first.
      seed: of the adaptation.
      disjoint: whether support and query must not share an image.
      on_task: called after each task.

    Returns:
      One result a task, in the order given.

    Raises:
      UserError: a task's query set overlaps its support, and must not.
      Diverged: the adaptation to a task did.
    """
    results = []
    for episode, name, draw in tasks:
        if disjoint:
            require_disjoint(episode, name)
        try:
            adapted = segmenter.for_task(name).adapt(
                episode.support_images,
                episode.support_masks,
                seed=task_seed(name, draw, seed),
            )
            probabilities = adapted.predict(np.asarray(episode.query_images))
        except Diverged as error:
            raise Diverged(f"{name}: {error}") from error
        # A method may know nothing of a last class that no support mask shows.
        unknown = len(name.split("+")) + 1 - probabilities.shape[-1]
        probabilities = np.pad(probabilities, [(0, 0)] * 3 + [(0, max(0, unknown))])
        query_masks = np.asarray(episode.query_masks)
        result = TaskResult.of(name, draw, query_masks, probabilities, thresholds)
        results.append(result)
        if on_task is not None:
            caption = f"{name} {100 * image_iou(result.counts[:1])[0]:.0f}%"
            support, labelled, query, truth = (np.asarray(x[0]) for x in episode[:4])
            predicted = predicted_masks(probabilities[:1], thresholds[0])[0]
            pictures = [marked(support, labelled), query]
            pictures += [marked(query, mask) for mask in (truth, predicted)]
            on_task(result, (caption, pictures))
    return results


def sheet(rows: Sequence[Row]) -> Image.Image:
    """Draws support, query, ground truth and prediction of queries, a row each."""
    captions, pictures = zip(*rows, strict=True)
    return contact_sheet(pictures, row_captions=captions, column_captions=COLUMNS)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A meta-test with nothing left to default: what the numbers stand for.

    The fields of `Settings` are None where they have no meaning for the model. With
    `tuned` its defaults are those that tuning left with it.
    """

    dataset: str
    split: str
    classes: int
    shots: int
    queries: int
    splits_per_task: int
    steps: int | None
    learning_rate: float | None
    batch_norm: str | None
    inner_batch: int | None
    loss: str | None
    l2: float | None
    augment_rate: float | None
    adapt: str | None
    jit: str | None
    transductive: bool
    threshold: tuple[float, ...]
    image_size: int
    seed: int
    tuned: bool
    points: str
    family: str
    ways: int


def meta_test(
    model: Model,
    data: DataConfig,
    config: EvalConfig,
    *,
    settings: Settings = OWN,
    seed: int = 0,
    label: str = "evaluating",
) -> tuple[Protocol, list[TaskResult], list[Row]]:
    """Evaluates an initialization.

    Args:
      model: the model.
      data: which tasks: dataset, shots, points, family.
      config: the meta-test.
      settings: how the model adapts, where not as its defaults.
      seed: of the draws and adaptations.
      label: what the progress bar says.

    Returns:
      The protocol, one result a task, and a row for `sheet` a class.
    """
    own = model.resolve(settings)
    manifest = open_dataset(data.dataset_dir, data.splits)
    names = manifest.split(config.eval_split)
    protocol = Protocol(
        dataset=manifest.name,
        split=config.eval_split,
        classes=len(names),
        shots=data.shots,
        queries=config.eval_queries,
        splits_per_task=config.splits_per_task,
        **dataclasses.asdict(own),
        transductive=own.batch_norm == "query",
        threshold=config.threshold_values,
        image_size=model.size[0],
        seed=seed,
        tuned=model.tuned is not None,
        points=data.points,
        family=data.family,
        ways=data.ways,
    )
    segmenter = model.segmenter(data.ways, settings)
    tasks = fixed_episodes(
        *(manifest, names),
        shots=protocol.shots,
        queries=config.eval_queries or None,
        splits_per_task=config.splits_per_task,
        seed=protocol.seed,
        image_size=model.size,
        points=data.point_range,
        family=data.family,
        ways=data.ways,
    )
    rows = []
    total = len(names) * config.splits_per_task
    with tqdm(total=total, unit="task", desc=label, dynamic_ncols=True) as bar:
        ious = []

        def on_task(result, row):
            ious.append(result.iou)
            if result.draw == 0:
                rows.append(row)
            bar.update()
            bar.set_postfix(IoU=f"{100 * np.mean(ious):.1f}%", refresh=False)

        results = evaluate(
            segmenter,
            tasks,
            thresholds=protocol.threshold,
            seed=protocol.seed,
            disjoint=not data.same_images,
            on_task=on_task,
        )
    return protocol, results, rows


def write_results(
    output_dir: Path, protocol: Protocol, results: list[TaskResult], shown: list[Row]
) -> Summary:
    """Writes summary.json, per_class.csv and predictions.png.

    Raises:
      UserError: the folder cannot be written.
    """
    summary = Summary.of(results)
    document = {"protocol": dataclasses.asdict(protocol), "metrics": summary.to_dict()}
    of_class: dict[str, list[np.ndarray]] = {}
    for result in results:
        for name, counts in result.of_classes().items():
            of_class.setdefault(name, []).append(counts)
    rows = []
    for name, tasks in sorted(of_class.items()):
        iou = np.mean([image_iou(counts).mean() for counts in tasks])
        class_iou = both_iou(sum(counts.sum(0) for counts in tasks))[1]
        rows.append([name, len(tasks), f"{iou:.4f}", f"{class_iou:.4f}"])
    with writing(f"to {output_dir}"):
        output_dir.mkdir(parents=True, exist_ok=True)
        write_text(output_dir / "summary.json", json.dumps(document, indent=2))
        heads = ["class", "draws", "per_image_iou", "class_iou"]
        write_text(output_dir / "per_class.csv", tables.csv_text(heads, rows))
        # Evenly over the classes in name order: neither the best nor the worst.
        spread = np.linspace(0, len(shown) - 1, min(_PICTURES, len(shown)))
        with replacing(output_dir / "predictions.png") as partial:
            sheet([shown[int(i)] for i in spread]).save(partial)
    return summary
