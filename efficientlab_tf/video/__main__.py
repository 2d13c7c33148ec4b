"""Segments the objects of a video, annotated in its first frame or by points.

    python -m efficientlab_tf.video --model=icons_fomaml_lite0 --sequence=FRAMES \\
        --annotation=first.png --output=results
    python -m efficientlab_tf.video --model=icons_fomaml_lite0 --davis=DAVIS \\
        --split=2017/val --steps=0,5,20,100 --output=results

Adapts to the annotation once, then predicts each frame. The first form writes masks/,
an overlay video, contact_sheet.png and summary.json into --output. The second runs over
the sequences of a folder in DAVIS's layout, each method in a process of its own, and
writes table.md, results.csv, per_frame.csv, accuracy_time.png, with several --shots or
--points annotations.png, and units/.
"""

import dataclasses
import json
from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.config import BUT_STEPS, OWN, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import make_writable, write_text
from efficientlab_tf.inference.segmenting import MASKS
from efficientlab_tf.pictures import contact_sheet
from efficientlab_tf.video.annotation import Truths, read_annotation
from efficientlab_tf.video.benchmark import benchmark
from efficientlab_tf.video.clip import open_clip
from efficientlab_tf.video.config import VideoConfig
from efficientlab_tf.video.frames import Frames
from efficientlab_tf.video.methods import methods_of
from efficientlab_tf.video.metrics import PROTOCOL
from efficientlab_tf.video.report import statistics
from efficientlab_tf.video.sequence import Options, SequenceResult, run_sequence

SUMMARY, SHEET = "summary.json", "contact_sheet.png"
_CELL = 240


def run(config: VideoConfig, settings: Settings = OWN) -> None:
    """Runs the command; `settings.steps` is not looked at.

    Raises:
      UserError: bad input.
    """
    output = _prepare(config)
    options = Options(
        config.online, config.threshold, config.video, config.fps, config.seed
    )
    open_clip(config.video, output / "x", 1, config.fps)  # Raises if it cannot be.
    methods = methods_of(config, settings)
    if config.davis:
        benchmark(config, methods, options, output)
        return
    frames = Frames(config.sequence)
    annotation = read_annotation(config.annotation, frames)
    truths = Truths(config.annotations, frames) if config.annotations else None
    if truths:
        truths.check(annotation)
    method = methods[0].load(image_size=config.baseline_size)
    name = Path(config.sequence).resolve().name
    kind = "mask" if annotation.drawn else "points"
    print(
        f"{name}: {len(frames)} frames; {kind} of {len(annotation.frames)} of them, "
        f"{len(annotation.objects)} object(s)"
    )
    done = run_sequence(method, name, frames, annotation, truths, output, options)
    result = done.result
    document = {
        "sequence": config.sequence,
        "annotation": {
            "path": config.annotation,
            "kind": kind,
            "frames": [frames.paths[i].name for i in annotation.frames],
            "objects": list(annotation.objects),
        },
        "frames": len(frames),
        "frame_size": list(frames.size),
        "settings": dataclasses.asdict(method.model.resolve(method.settings))
        | {"model": config.model, "image_size": list(method.model.size)}
        | {name: getattr(config, name) for name in ("online", "threshold", "seed")},
        "seconds": {
            name: getattr(result, name)
            for name in ("compilation", "adaptation", "prediction")
        },
        "online_updates": result.updates,
        "frames_per_second": {
            "prediction": result.frames / result.prediction,
            "with_adaptation": result.frames / result.seconds,
        },
        "protocol": PROTOCOL,
        "scores": statistics([result]),
        "objects": {str(index): statistics([result], index) for index in result.scores},
        "per_frame": [
            {"frame": path.name, "mask": f"{MASKS}/{name}.png"} | _measures(result, i)
            for i, (path, name) in enumerate(
                zip(frames.paths, frames.names, strict=True)
            )
        ],
        "overlay": done.clip and done.clip.name,
    }
    write_text(output / SUMMARY, json.dumps(document, indent=2))
    captions, aspect = done.captions, frames.size[0] / frames.size[1]
    sheet = contact_sheet(
        [done.pictures], column_captions=captions, cell=_CELL, aspect=aspect
    )
    sheet.save(output / SHEET)
    _tell(result)
    video = f"{done.clip.name}, " if done.clip else ""
    print(f"written: {output}/{MASKS}, {video}{SHEET}, {SUMMARY}")


def _measures(result: SequenceResult, frame: int) -> dict[str, dict[int, float]]:
    """J and F of each object in a frame; nothing where they are not known."""
    of_frame = result.per_frame.get(frame, {})
    j = {index: pair[0] for index, pair in of_frame.items()}
    f = {index: pair[1] for index, pair in of_frame.items()}
    return {"J": j, "F": f} if of_frame else {}


def _tell(result: SequenceResult) -> None:
    updates = f"; {result.updates} online updates" if result.updates else ""
    print(
        f"adaptation {result.adaptation:.2f} s, prediction {result.prediction:.2f} s: "
        f"{result.frames / result.prediction:.1f} frames/s, "
        f"{result.frames / result.seconds:.1f} with adaptation "
        f"(compiling took {result.compilation:.1f} s more){updates}"
    )
    for index, scores in result.scores.items():
        j, f, both = (100 * v for v in (scores.j.mean, scores.f.mean, scores.mean))
        print(
            f"object {index}: J {j:.1f} %, F {f:.1f} %, J&F {both:.1f} % ({PROTOCOL})"
        )


def _prepare(config: VideoConfig) -> Path:
    """Checks and makes the output folder."""
    output = Path(config.output)
    taken = [config.sequence, config.annotations]
    taken += [Path(config.annotation).parent] if config.annotation else []
    taken = [Path(path).resolve() for path in taken if path]
    if (output / MASKS).resolve() in taken or output.resolve() in taken:
        raise UserError(
            f"`output` {output} would write into the input; choose another folder"
        )
    make_writable(output)
    return output


def main() -> None:
    """Runs as the flags say."""
    run(flags.read(VideoConfig), flags.read(Settings, only=BUT_STEPS))


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(VideoConfig)
    flags.define(Settings, only=BUT_STEPS)


if __name__ == "__main__":
    define_flags()
    flags.run(main)
