"""Methods over the sequences of a folder in DAVIS's layout, a process for each."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from efficientlab_tf.video.annotation import Annotation, Truths, objects_of
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
        first_mask(Truths(sequence.masks, frames), frames)
    folder = units_folder(output)
    files = [p for s in sequences for d in (s.frames, s.masks) for p in d.iterdir()]
    rows: list[Row] = []
    for method in methods:
        print(f"{method.label}: {len(sequences)} sequences")
        unit = {
            "method": dataclasses.asdict(method),
            "sequences": [(s.name, str(s.frames), str(s.masks)) for s in sequences],
            "baseline_size": config.baseline_size,
            "options": dataclasses.asdict(options),
            "stamp": stamp_of(method.model, files),
        }
        name = file_name(method.label)
        measured = run_unit(__name__, unit, folder, name, method.label)
        results = tuple(map(SequenceResult.from_dict, measured["sequences"]))
        rows.append(Row(method.label, method.model, results))
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
        annotation = first_mask(truths, frames)
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


def first_mask(truths: Truths, frames: Frames) -> Annotation:
    """The annotation of DAVIS's semi-supervised task: the first frame's mask.

    Raises:
      UserError: there is none, or no object in it, or another object later.
    """
    mask = truths.read(0)
    objects = () if mask is None else objects_of(mask)
    if not objects:
        raise UserError(
            f"the first frame, {frames.paths[0]}, has no mask with an object; DAVIS's "
            "semi-supervised task begins with it"
        )
    annotation = Annotation(objects, frames.size, {0: mask}, means=truths.means)
    truths.check(annotation)
    return annotation


if __name__ == "__main__":
    unit_process(measure, sys.argv[1:])
