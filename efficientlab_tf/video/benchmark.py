"""Methods over the sequences of a folder in DAVIS's layout.

Each method is measured in a process of its own, as what it compiles belongs to it; it
is given a `Unit` as JSON and writes a list of results. What was measured is not
measured again.
"""

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.data.sources.davis import DavisSequence, find_sequences
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.methods import Method
from efficientlab_tf.files import write_text
from efficientlab_tf.pictures import contact_sheet
from efficientlab_tf.video.annotation import Annotation, Truths, objects_of
from efficientlab_tf.video.config import VideoConfig
from efficientlab_tf.video.frames import Frames
from efficientlab_tf.video.methods import VideoMethod
from efficientlab_tf.video.report import Row, write_report
from efficientlab_tf.video.sequence import Options, SequenceResult, run_sequence

UNITS = "units"
_CELL = 160


@dataclasses.dataclass(frozen=True)
class Unit:
    """What a process measures.

    Attributes:
      method: the method.
      sequences: (name, folder of frames, folder of masks).
      baseline_size: see `VideoMethod`.
      options: how each video is done.
      stamp: of the files that the result depends on.
    """

    method: Method
    sequences: tuple[tuple[str, str, str], ...]
    baseline_size: int
    options: Options
    stamp: str

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(
            Method.from_dict(values["method"]),
            tuple(map(tuple, values["sequences"])),
            values["baseline_size"],
            Options(**values["options"]),
            values["stamp"],
        )


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
    units = output / UNITS
    units.mkdir(exist_ok=True)
    named = tuple((s.name, str(s.frames), str(s.masks)) for s in sequences)
    rows: list[Row] = []
    for method in methods:
        unit = Unit(
            method, named, config.baseline_size, options, _stamp(method, sequences)
        )
        rows.append(Row(method.label, method.model, _run(unit, units)))
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
    method = VideoMethod(unit.method, unit.baseline_size)
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


def _run(unit: Unit, units: Path) -> tuple[SequenceResult, ...]:
    """Measures in a process of its own, or reads what one has already written."""
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in unit.method.label)
    path, request = units / f"{name}.json", units / f"{name}.unit.json"
    text = unit.to_json()
    if not (path.is_file() and request.is_file() and request.read_text() == text):
        path.unlink(missing_ok=True)
        write_text(request, text)
        print(f"{unit.method.label}: {len(unit.sequences)} sequences")
        ended = subprocess.run(
            [sys.executable, "-m", __name__, str(request), str(path)], check=False
        )
        if not path.is_file():
            reason = "its error is above"
            if ended.returncode < 0:
                reason = f"it was killed by signal {-ended.returncode}"
            raise UserError(
                f"{unit.method.label} could not be measured: {reason}; what was "
                "measured before is kept: run the same command again"
            )
    return tuple(map(SequenceResult.from_dict, json.loads(path.read_text())))


def _stamp(method: Method, sequences: Sequence[DavisSequence]) -> str:
    """A digest of the model's files and of the sequences'.

    Raises:
      UserError: no such model.
    """
    paths = [p for s in sequences for d in (s.frames, s.masks) for p in d.iterdir()]
    if method.model:
        model = Path(method.model)
        if not model.exists():
            raise UserError(f"no such run folder or .keras file: {model}")
        paths += [model] if model.is_file() else model.glob("**/*")
    digest = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file() and "logs" not in path.parts:
            status = path.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def main(argv: list[str]) -> None:
    """The measuring process: paths of a `Unit` and of the results to write."""
    request, path = map(Path, argv)
    results = measure(Unit.from_json(request.read_text()), path.with_suffix(""))
    write_text(path, json.dumps([result.to_dict() for result in results]))


if __name__ == "__main__":
    from efficientlab_tf.errors import run_command

    run_command(lambda: main(sys.argv[1:]))
