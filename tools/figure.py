"""Draws figures of the papers, from a model and a dataset of your own.

activations   what the layers of a network answer to test pictures after it has adapted:
              of each the feature map with the highest mean (Banerjee 2020, figure 2)
conditioning  one query that shows two classes, segmented from support pictures of the
              one and of the other; in the first column, where there is such a picture,
              both rows have the same one and only the mask differs (Shaban et al. 2017,
              figure S4)
tasks         what each option that makes training tasks harder does to an episode
              (--zoom_out_rate, --part_rate and the others of efficientlab_tf.train)
shots         the same queries segmented from one picture and from more (figure S5)
curve         IoU on validation classes over the meta-steps of several runs, from their
              own logs (Shaban et al. 2017, figure 3); prints the numbers, too

In `conditioning` and `shots` the truth is green, the prediction red, and both together
are yellow.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import efficientlab_tf.quiet  # noqa: F401  (before TensorFlow is imported)

# isort: split
import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import (
    TENSORS,
    EventAccumulator,
)

from efficientlab_tf.api.loading import load
from efficientlab_tf.api.model import Model
from efficientlab_tf.data.episode_augment import EpisodeAugment
from efficientlab_tf.data.episodes import episode_dataset, fixed_episodes
from efficientlab_tf.data.image_store import ImageStore
from efficientlab_tf.episode import IGNORE, pictures
from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.evaluation.meta_test import open_dataset, task_seed
from efficientlab_tf.files import replacing, save_figure, writing
from efficientlab_tf.metrics import predicted_masks
from efficientlab_tf.pictures import contact_sheet, marked
from efficientlab_tf.segmenters.gradient import GradientAdapted

CURVE, TASKS = "curve", "tasks"
VALIDATION = "validation/per_image_iou"
GROUPS = (
    *("head2_relu", "block1_relu", "block2_relu", "block3_relu"),
    *("degrid1_relu", "degrid2_relu", "logits"),
)
"""The last layer of each group of Meta-DRN."""


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the figure that the arguments name; returns the exit status.

    Raises:
      UserError: a model or dataset that the figure cannot be drawn of.
    """
    parser = argparse.ArgumentParser(
        prog="figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("figure", choices=(*FIGURES, TASKS, CURVE))
    add("--model", help="a shipped model, a run's folder, or a file")
    add("--dataset_dir", help="dataset folder, or sample:icons")
    add("--runs", default="", help="curve: LABEL=FOLDER,LABEL=FOLDER, of runs")
    add("--splits", default="", help="class lists to use instead: fold0")
    add("--split", default="test", help="split to draw from (%(default)s)")
    add("--count", type=int, default=3, help="tasks, or support pictures (%(default)s)")
    add("--shots", default="1,5", help="shots: numbers of pictures (%(default)s)")
    add("--layers", default=",".join(GROUPS), help="activations: names of layers")
    add("--seed", type=int, default=0, help="of the draws (%(default)s)")
    add("--output", type=Path, required=True, help="the PNG file to write")
    args = parser.parse_args(argv)
    if args.count < 1:
        raise UserError(f"--count must be at least 1, received {args.count}")
    if args.figure == CURVE:
        _curve(curves(args.runs), args.output)
        print(f"written: {args.output}")
        return 0
    needs = ("dataset_dir",) if args.figure == TASKS else ("model", "dataset_dir")
    if not all(getattr(args, name) for name in needs):
        raise UserError(f"{args.figure} needs --{' and --'.join(needs)}")
    if args.figure == TASKS:
        rows, captions, heads = _changes(args)
    else:
        rows, captions, heads = FIGURES[args.figure](load(args.model), args)
    with writing(str(args.output)):
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(args.output) as partial:
            contact_sheet(rows, captions, heads).save(partial, "PNG")
    print(f"written: {args.output}")
    return 0


def compared(image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Colours a picture uint8 [H, W, 3] by two masks; see the top of the module."""
    colour = np.stack([found == 1, truth == 1, np.zeros_like(found)], -1) * 255.0
    shown = colour.any(-1, keepdims=True) & (truth != IGNORE)[..., np.newaxis]
    return np.where(shown, 0.5 * image + 0.5 * colour, image).astype(np.uint8)


def _changes(args):
    manifest = open_dataset(args.dataset_dir, args.splits)
    options = {"shots": 3, "queries": 2, "image_size": 160, "seed": args.seed}
    rows, captions = [], []
    for name in ("", *EpisodeAugment._fields):
        augment = EpisodeAugment(**({name: 1.0} if name else {}))
        (episode,) = episode_dataset(
            manifest, args.split, augment=augment, **options
        ).take(1)
        images, masks = (x.numpy() for x in pictures(episode))
        rows.append([marked(*pair) for pair in zip(images, masks, strict=True)])
        task = episode.name.numpy().decode()
        captions.append(f"{name.removesuffix('_rate') or 'as drawn'}: {task}")
    return rows, captions, ["support"] * 3 + ["query"] * 2


def _tasks(args, model: Model, shots: int, queries: int | None):
    manifest = open_dataset(args.dataset_dir, args.splits)
    names = manifest.split(args.split)
    picks = np.linspace(0, len(names) - 1, min(args.count, len(names))).round()
    chosen = [sorted(names)[int(pick)] for pick in picks]
    options = {"seed": args.seed, "image_size": model.size}
    return fixed_episodes(manifest, chosen, shots=shots, queries=queries, **options)


def _activations(model: Model, args):
    layers, rows, captions = args.layers.split(","), [], []
    for episode, name, draw in _tasks(args, model, shots=1, queries=1):
        adapted = model.segmenter().adapt(*episode[:2], seed=task_seed(name, draw))
        if not isinstance(adapted, GradientAdapted):
            raise UserError(
                f"activations are of networks that adapt by gradients, {model.name} "
                "adapts without"
            )
        network = adapted.functions.inner.network
        network.assign(adapted.weights)
        known = [layer.name for layer in network.model.layers]
        if unknown := [layer for layer in layers if layer not in known]:
            raise UserError(
                f"network {network.model.name} has no layer {unknown[0]}; --layers of: "
                f"{', '.join(known)}"
            )
        outputs = [network.model.get_layer(layer).output for layer in layers]
        query = np.asarray(episode.query_images)
        parts = keras.Model(network.model.inputs, outputs)(
            tf.cast(query, network.dtype), training=False
        )
        maps = [brightest(np.asarray(part[0])) for part in keras.tree.flatten(parts)]
        rows.append([query[0], *maps])
        captions.append(name)
    return rows, captions, ["query", *layers]


def brightest(maps: np.ndarray) -> np.ndarray:
    """The map of the highest mean of [h, w, C], as uint8 [h, w].

    One that is the same everywhere shows nothing, such as the background's logit, 0: it
    is chosen only where there is no other.
    """
    means, varied = maps.mean((0, 1)), np.ptp(maps, axis=(0, 1)) > 0
    chosen = maps[..., np.where(varied | ~varied.any(), means, -np.inf).argmax()]
    low, high = chosen.min(), chosen.max()
    return (255 * (chosen - low) / max(high - low, 1e-9)).astype(np.uint8)


def _shots(model: Model, args):
    shots = [int(number) for number in args.shots.split(",")]
    rows, heads = [], []
    for number in shots:
        row = []
        # The first pictures of the largest support set, so that sets only grow.
        for episode, name, draw in _tasks(args, model, max(shots), queries=1):
            support = (np.asarray(part[:number]) for part in episode[:2])
            found = _found(model, *support, episode.query_images, name, draw)
            truth = np.asarray(episode.query_masks[0])
            row.append(compared(np.asarray(episode.query_images[0]), truth, found))
            heads.append(name)
        rows.append(row)
    return rows, [f"{number}-shot" for number in shots], heads[: len(rows[0])]


def _conditioning(model: Model, args):
    manifest = open_dataset(args.dataset_dir, args.splits)
    store = ImageStore(manifest, sorted(manifest.split(args.split)), model.size)
    shared = store.examples[(store.examples >= 0).sum(1) > 1]
    if not len(shared):
        raise UserError(
            f"no picture of {args.dataset_dir}/{args.split} shows two classes, as the "
            "query must; give a dataset like PASCAL VOC"
        )
    both = np.flatnonzero(shared[0] >= 0)[:2].tolist()
    more = shared[1:][(shared[1:, both] >= 0).all(1)]
    rng = np.random.default_rng(args.seed)
    rows, captions = [], []
    for index in both:
        query = int(shared[0, index])
        others = [n for n in range(store.counts[index]) if n != query]
        support = rng.permutation(others)[: args.count].tolist()
        if len(more):
            same = int(more[0, index])
            support = [same, *(n for n in support if n != same)][: args.count]
        images, masks = store.images(tf.constant(index), tf.constant([query, *support]))
        row, name = [], store.class_names[index]
        for i in range(1, len(images)):
            pair = np.asarray(images[i : i + 1]), np.asarray(masks[i : i + 1])
            found = _found(model, *pair, images[:1], name, i)
            row.append(marked(pair[0][0], pair[1][0]))
            row.append(compared(np.asarray(images[0]), np.asarray(masks[0]), found))
        rows.append(row)
        captions.append(name)
    return rows, captions, ["support", "query"] * (max(map(len, rows)) // 2)


def _found(model: Model, images, masks, query, name: str, draw: int) -> np.ndarray:
    """The mask of the first query, uint8 [H, W]."""
    adapted = model.segmenter().adapt(images, masks, seed=task_seed(name, draw))
    return predicted_masks(adapted.predict(np.asarray(query[:1])))[0]


def curves(runs: str) -> dict[str, list[tuple[int, float]]]:
    """Reads LABEL=FOLDER,...: label to (meta-step, IoU) of each validation.

    Raises:
      UserError: not of that form, or a run that validated nothing.
    """
    found = {}
    for part in runs.split(","):
        label, _, folder = part.partition("=")
        if not label or not folder:
            raise UserError(
                f"--runs must be LABEL=FOLDER joined by commas, received {runs!r}"
            )
        logs = EventAccumulator(str(Path(folder) / "logs"), {TENSORS: 0})
        there = (Path(folder) / "logs").is_dir()
        if not there or VALIDATION not in logs.Reload().Tags()[TENSORS]:
            raise UserError(f"--runs: {folder} has no logs of a validation")
        found[label] = [
            (event.step, float(tf.make_ndarray(event.tensor_proto)))
            for event in logs.Tensors(VALIDATION)
        ]
    return found


def _curve(found: dict[str, list[tuple[int, float]]], path: Path) -> None:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for label, points in found.items():
        axes.plot(*zip(*((s, 100 * v) for s, v in points), strict=True), "o-")
        axes.lines[-1].set_label(label)
        print(f"{label}: " + ", ".join(f"{s}: {100 * v:.1f} %" for s, v in points))
    axes.set_xlabel("meta-steps")
    axes.set_ylabel("mean per-image IoU on validation classes, %")
    axes.grid(alpha=0.25)
    axes.legend(loc="best")
    save_figure(figure, path)


FIGURES = {"activations": _activations, "conditioning": _conditioning, "shots": _shots}

if __name__ == "__main__":
    run_command(main)
