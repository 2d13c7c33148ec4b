"""Methods over the sequences of a folder in DAVIS's layout, a process for each."""

import dataclasses
import sys
from collections.abc import Sequence
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


@dataclasses.dataclass(frozen=True)
class Unit:
    """What a process measures.

    Attributes:
      method: the method.
      sequences: (name, folder of frames, folder of masks).
      baseline_size: side of the pictures of a baseline without a model.
      options: how each video is done.
      stamp: of the files that the result depends on.
    """

    method: Method
    sequences: tuple[tuple[str, str, str], ...]
    baseline_size: int
    options: Options
    stamp: str

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Unit":
        """The inverse of `dataclasses.asdict`, also by way of JSON."""
        own = {
            "method": Method.from_dict(values["method"]),
            "sequences": tuple(map(tuple, values["sequences"])),
            "options": Options(**values["options"]),
        }
        return cls(**values | own)


def benchmark(
    config: VideoConfig, methods: Sequence[Method], options: Options, output: Path
) -> list[Row]:
    """Measures all that is not there yet; prints the table each time it grows.

    Args:
      config: the command line.
      methods: what to measure.
      options: how each video is done.
      output: where results go, and are gone on with.

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
    named = tuple((s.name, str(s.frames), str(s.masks)) for s in sequences)
    files = [p for s in sequences for d in (s.frames, s.masks) for p in d.iterdir()]
    rows: list[Row] = []
    for method in methods:
        stamp = stamp_of(method.model, files)
        unit = Unit(method, named, config.baseline_size, options, stamp)
        print(f"{method.label}: {len(named)} sequences")
        measured = run_unit(
            __name__,
            dataclasses.asdict(unit),
            folder,
            file_name(method.label),
            method.label,
        )
        results = tuple(map(SequenceResult.from_dict, measured["sequences"]))
        rows.append(Row(method.label, method.model, results))
        table = write_report(output, rows)
        print(f"\n{table}")
    print(
        f"written: {output}/table.md, results.csv, per_frame.csv, accuracy_time.png, "
        f"{UNITS}/"
    )
    return rows


def measure(unit: Unit, folder: Path) -> list[SequenceResult]:
    """Runs a method over its sequences; writes masks, videos and a contact sheet.

    Args:
      unit: what to measure.
      folder: SEQ/masks and SEQ/overlay.gif go there.

    Raises:
      UserError: bad input.
    """
    method = unit.method.load(image_size=unit.baseline_size)
    results, rows, captions = [], [], []
    for name, frame_folder, mask_folder in unit.sequences:
        frames = Frames(frame_folder)
        truths = Truths(mask_folder, frames)
        annotation = first_mask(truths, frames)
        done = run_sequence(
            method, name, frames, annotation, truths, folder / name, unit.options
        )
        results.append(done.result)
        rows.append(done.pictures)
        scores = done.result.scores.values()
        captions.append(
            f"{name}: J "
            + ", ".join(f"{100 * s.j.mean:.0f}" for s in scores)
            + "; F "
            + ", ".join(f"{100 * s.f.mean:.0f}" for s in scores)
        )
    aspect = max(row[0].shape[0] / row[0].shape[1] for row in rows)
    sheet = contact_sheet(rows, row_captions=captions, cell=_CELL, aspect=aspect)
    sheet.save(folder.with_suffix(".png"))
    return results


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
    annotation = Annotation(objects, frames.size, (0, mask))
    truths.check(annotation)
    return annotation


def _measure(values: dict[str, Any], path: Path) -> dict[str, Any]:
    results = measure(Unit.from_dict(values), path.with_suffix(""))
    return {"sequences": [result.to_dict() for result in results]}


if __name__ == "__main__":
    unit_process(_measure, sys.argv[1:])
