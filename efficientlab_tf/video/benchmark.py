"""Methods over the sequences of a folder in DAVIS's layout, a process for each."""

import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.data.sources.davis import find_sequences
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.methods import Method
from efficientlab_tf.evaluation.study import (
    UNITS,
    file_name,
    run_unit,
    stamp_of,
    unit_process,
    units_folder,
)
from efficientlab_tf.pictures import contact_sheet
from efficientlab_tf.video.annotation import Annotation, Point, Truths, objects_of
from efficientlab_tf.video.config import VideoConfig
from efficientlab_tf.video.frames import Frames
from efficientlab_tf.video.report import Row, write_report
from efficientlab_tf.video.sequence import Options, SequenceResult, run_sequence

_CELL = 160


def benchmark(
    config: VideoConfig, methods: Sequence[Method], options: Options, output: Path
) -> list[Row]:
    """Measures what `output` does not hold yet; prints the table each time it grows.

    Raises:
      UserError: bad input; what was measured before is kept.
    """
    sequences = find_sequences(
        Path(config.davis),
        resolution=config.resolution,
        split=config.split,
        names=config.sequence_names,
    )
    for sequence in sequences:
        # Whether all of them can be measured, before the first is.
        frames = Frames(sequence.frames)
        truths = Truths(sequence.masks, frames)
        for shots, points in config.supports:
            annotate(truths, frames, shots, points, (sequence.name, config.seed))
    folder = units_folder(output)
    files = [p for s in sequences for d in (s.frames, s.masks) for p in d.iterdir()]
    rows: list[Row] = []
    for method, support in itertools.product(methods, config.supports):
        label = method.label + _words(*support)
        print(f"{label}: {len(sequences)} sequences")
        unit = {
            "method": dataclasses.asdict(method),
            "support": support,
            "sequences": [(s.name, str(s.frames), str(s.masks)) for s in sequences],
            "baseline_size": config.baseline_size,
            "options": dataclasses.asdict(options),
            "stamp": stamp_of(method.model, files),
        }
        measured = run_unit(__name__, unit, folder, file_name(label), label)
        results = tuple(map(SequenceResult.from_dict, measured["sequences"]))
        rows.append(Row(label, method.model, results, *support, method.label))
        print(f"\n{write_report(output, rows)}")
    print(
        f"written: {output}/table.md, results.csv, per_frame.csv, accuracy_time.png, "
        f"{UNITS}/"
    )
    return rows


def measure(unit: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Runs a method over its sequences, in a process of its own; see `study`.

    Beside the result at `path` it leaves a folder of its name with SEQ/masks and
    SEQ/overlay.gif, and a contact sheet.

    Raises:
      UserError: bad input.
    """
    method = Method.from_dict(unit["method"]).load(image_size=unit["baseline_size"])
    options = Options(**unit["options"])
    results, rows, captions = [], [], []
    for name, frame_folder, mask_folder in unit["sequences"]:
        frames = Frames(frame_folder)
        truths = Truths(mask_folder, frames)
        annotation = annotate(truths, frames, *unit["support"], (name, options.seed))
        output = path.with_suffix("") / name
        done = run_sequence(method, name, frames, annotation, truths, output, options)
        results.append(dataclasses.asdict(done.result))
        rows.append(done.pictures)
        scores = done.result.scores.values()
        j = ", ".join(f"{100 * s.j.mean:.0f}" for s in scores)
        f = ", ".join(f"{100 * s.f.mean:.0f}" for s in scores)
        captions.append(f"{name}: J {j}; F {f}")
    aspect = max(row[0].shape[0] / row[0].shape[1] for row in rows)
    sheet = contact_sheet(rows, row_captions=captions, cell=_CELL, aspect=aspect)
    sheet.save(path.with_suffix(".png"))
    return {"sequences": results}


def annotate(
    truths: Truths, frames: Frames, shots: int, points: int, key: tuple[str, int]
) -> Annotation:
    """The annotation of some frames: the first one's mask, in DAVIS's own task.

    Args:
      truths: masks of the frames.
      frames: the video.
      shots: number of annotated frames, the first and others evenly spread.
      points: pixels of each object and of the background in each; -1: whole masks.
      key: the sequence's name and a seed, of the draws of points.

    Raises:
      UserError: a frame has no mask, the first one no object, or there is another
        object later.
    """
    chosen = [n * len(frames) // shots for n in range(min(shots, len(frames)))]
    masks = {frame: truths.read(frame) for frame in chosen}
    missing = [frame for frame, mask in masks.items() if mask is None]
    if missing or not objects_of(masks[0]):
        frame = missing[0] if missing else 0
        raise UserError(
            f"the {'' if frame else 'first '}frame, {frames.paths[frame]}, has no mask "
            "with an object; DAVIS's semi-supervised task begins with it"
        )
    objects = tuple(sorted(set().union(*map(objects_of, masks.values()))))
    if points < 0:
        annotation = Annotation(objects, frames.size, masks, means=truths.means)
    else:
        drawn = {f: _draw(m, objects, points, (*key, f)) for f, m in masks.items()}
        annotation = Annotation(objects, frames.size, points=drawn, means=truths.means)
    truths.check(annotation)
    return annotation


def _draw(
    mask: np.ndarray, objects: Sequence[int], count: int, key: tuple
) -> list[Point]:
    """Draws points of each object of a mask, and of the background."""
    rng = np.random.default_rng(list(repr(key).encode()))
    found = []
    for value in (0, *objects):
        places = np.argwhere(mask == value)
        chosen = rng.permutation(len(places))[:count]
        found += [Point(x, y, value) for y, x in places[chosen].tolist()]
    return found


def _words(shots: int, points: int) -> str:
    """What is annotated, behind a label; nothing for DAVIS's own task."""
    frames = f", {shots} frames" if shots > 1 else ""
    return frames if points < 0 else f"{frames}, {points} points"


if __name__ == "__main__":
    unit_process(measure, sys.argv[1:])
