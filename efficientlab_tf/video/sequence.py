"""One method on one video: masks, an overlay video, measures and times.

OUTPUT/masks/NAME.png       palette PNGs of the frames' size, values of the annotation
OUTPUT/overlay.gif          or .mp4
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from efficientlab_tf.evaluation.meta_test import task_seed
from efficientlab_tf.evaluation.methods import LoadedMethod
from efficientlab_tf.files import writing
from efficientlab_tf.inference.segmenting import MASKS
from efficientlab_tf.pictures import dots, marked, palette_image
from efficientlab_tf.video.annotation import Annotation, Truths
from efficientlab_tf.video.clip import open_clip
from efficientlab_tf.video.frames import Frames
from efficientlab_tf.video.metrics import Scores, measure_frame, summarize
from efficientlab_tf.video.segment import Clock, follow, warm_up

PICTURES = 6
OVERLAY = "overlay"


@dataclasses.dataclass(frozen=True)
class Options:
    """How a video is done: what `VideoConfig` has by the same names."""

    online: int = 0
    threshold: float = 0.5
    video: str = "gif"
    fps: float = 12.0
    seed: int = 0


@dataclasses.dataclass(kw_only=True)
class SequenceResult(Clock):
    """What came out, and what it took.

    Attributes:
      name: of the sequence.
      frames: their number.
      objects: indices of the objects.
      compilation: seconds of compiling, which are in no other.
      per_frame: frame to object to (J, F), of all frames with a ground truth but
        the annotated ones.
    """

    name: str
    frames: int
    objects: tuple[int, ...]
    compilation: float
    per_frame: dict[int, dict[int, tuple[float, float]]]

    @property
    def seconds(self) -> float:
        """Adaptation and prediction."""
        return self.adaptation + self.prediction

    @property
    def scores(self) -> dict[int, Scores]:
        """Each object's, see `metrics.summarize`; {} without ground truth."""
        return summarize(self.per_frame, self.frames)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SequenceResult":
        """The inverse of `dataclasses.asdict`, also by way of JSON."""
        per_frame = {
            int(frame): {int(index): tuple(pair) for index, pair in of_frame.items()}
            for frame, of_frame in values["per_frame"].items()
        }
        changed = {"per_frame": per_frame, "objects": tuple(values["objects"])}
        return cls(**values | changed)


class Done(NamedTuple):
    """The numbers and what there is to look at.

    `pictures` are some frames with their masks drawn over them, uint8 [H, W, 3], with
    `captions`; `clip` is the overlay video, or None.
    """

    result: SequenceResult
    pictures: list[np.ndarray]
    captions: list[str]
    clip: Path | None


def run_sequence(
    method: LoadedMethod,
    name: str,
    frames: Frames,
    annotation: Annotation,
    truths: Truths | None,
    output: Path,
    options: Options,
) -> Done:
    """Labels a video, with progress, and measures it by `truths`, if there are any.

    Results go to `output`, a folder that is made if it does not exist.

    Raises:
      UserError: a frame or mask cannot be read, or the output not be written.
    """
    clip = open_clip(options.video, output / OVERLAY, len(frames), options.fps)
    task = method.segmenter(len(annotation.objects)), frames, annotation
    how = {"size": method.model.size, "online": options.online}
    compilation, clock = warm_up(*task, **how), Clock()
    how |= {"threshold": options.threshold, "seed": task_seed(name, 0, options.seed)}
    labelled = tqdm(
        follow(*task, **how, clock=clock),
        desc=name,
        total=len(frames),
        unit="frame",
        dynamic_ncols=True,
    )
    wanted = set(np.linspace(0, len(frames) - 1, PICTURES).round().astype(int))
    points = annotation.point_masks()
    per_frame, pictures, captions = {}, [], []
    with writing(f"to {output}"):
        (output / MASKS).mkdir(parents=True, exist_ok=True)
        for index, image, mask in labelled:
            palette_image(mask).save(output / MASKS / f"{frames.names[index]}.png")
            picture = marked(image, mask)
            if index in points:
                picture = dots(picture, points[index])
            clip.add(picture)
            truth = truths and truths.read(index)
            if truth is not None and index not in annotation.frames:
                per_frame[index] = measure_frame(truth, mask, annotation.objects)
            if index in wanted:
                pictures.append(picture)
                caption = ": annotated"
                if index not in annotation.frames:
                    caption = _caption(per_frame.get(index, {}))
                captions.append(frames.paths[index].stem + caption)
        written = clip.close()
    result = SequenceResult(
        name=name,
        frames=len(frames),
        objects=annotation.objects,
        compilation=compilation,
        per_frame=per_frame,
        **dataclasses.asdict(clock),
    )
    return Done(result, pictures, captions, written)


def _caption(measures: dict[int, tuple[float, float]]) -> str:
    values = ", ".join(f"{100 * j:.0f}" for j, _ in measures.values())
    return f": J {values}" if values else ""
