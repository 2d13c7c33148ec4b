"""Learning from the annotated frames, then labelling all frames in batches.

    adapted = segmenter.adapt(annotated frames)          once, or every N frames
    mask    = adapted.predict(frame)                     each frame on its own

Nothing is carried from one frame to the next but through online updates: fine-tuning
on the first frame is then what OSVOS does (Caelles et al. 2017), and a network without
an inner loop is guided as in Rakelly et al. (2018), section 5.1.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import distance_transform_edt

from efficientlab_tf.data.annotations.resizing import resize_image
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.pictures import decide
from efficientlab_tf.segmenters.gradient import GradientSegmenter
from efficientlab_tf.segmenters.segmenter import Adapted, Segmenter
from efficientlab_tf.video.annotation import Annotation
from efficientlab_tf.video.frames import Frames

BATCH = 8
CERTAIN = 0.97
FAR = 0.22
"""As a part of the frame's diagonal: 220 pixels of 854x480 (Voigtlaender and Leibe)."""
REMEMBERED = 8


@dataclasses.dataclass
class Clock:
    """Seconds of what was done, without reading and writing files.

    Attributes:
      adaptation: learning from support sets, all of them together.
      prediction: from frames at the network's size to masks at their own.
      updates: online updates.
    """

    adaptation: float = 0.0
    prediction: float = 0.0
    updates: int = 0


def follow(
    segmenter: Segmenter,
    frames: Frames,
    annotation: Annotation,
    *,
    size: tuple[int, int],
    online: int = 0,
    threshold: float = 0.5,
    seed: int = 0,
    clock: Clock,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Labels all frames of a video, in their order, a few in memory at a time.

    Online updates are made after OnAVOS (Voigtlaender and Leibe 2017), which goes on
    from the weights it has, with more steps on the first frame than on the others.
    Here, after every `online`-th frame, its pixels that are certain (see
    `certain_pixels`) join the support set, and the segmenter adapts again, from its
    initialization, to the annotated frames and the latest `REMEMBERED` that joined. A
    frame with an object of which no pixel is certain does not join: it may be lost.

    Args:
      segmenter: of pictures of `size`, for as many classes as there are objects.
      frames: the video.
      annotation: what is known of some frames.
      size: (height, width) in pixels.
      online: frames from one update to the next; 0 for no updates.
      threshold: of the foreground probability of one object.
      seed: of adaptation.
      clock: counts the time.

    Yields:
      The frame's number; the frame, uint8 [H, W, 3]; and its mask, uint8 [H, W]: 0 and
      values of `Annotation.objects`. The known pixels of an annotated mask are as they
      were annotated.

    Raises:
      UserError: a frame cannot be read, or an object has no pixel at `size`.
    """
    images, masks = support_set(frames, annotation, size)
    values = np.array([0, *annotation.objects], np.uint8)
    joined: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=REMEMBERED)

    def adapt() -> Adapted:
        start = time.perf_counter()
        pairs = [*zip(images, masks, strict=True), *joined]
        support = zip(*pairs, strict=True)
        adapted = segmenter.adapt(*map(np.stack, support), seed=seed)
        # Values come when they are asked for: this waits for the inner loop.
        adapted.predict(images[:1])
        clock.adaptation += time.perf_counter() - start
        return adapted

    adapted = adapt()
    first = 0
    while first < len(frames):
        last = min(first + BATCH, len(frames))
        if online:
            last = min(last, (first // online + 1) * online)
        pictures = [frames.read(index) for index in range(first, last)]
        small = np.stack([resize_image(picture, size) for picture in pictures])
        start = time.perf_counter()
        probabilities = adapted.predict(small)
        found = [decide(p, frames.size, threshold) for p in probabilities]
        clock.prediction += time.perf_counter() - start
        for index, picture, mask in zip(
            range(first, last), pictures, found, strict=True
        ):
            mask = values[mask]
            if index in annotation.drawn:
                known = annotation.drawn[index] != IGNORE
                mask[known] = annotation.drawn[index][known]
            yield index, picture, mask
        first = last
        is_turn = online and first % online == 0 and first < len(frames)
        if is_turn and first - 1 not in annotation.frames:
            start = time.perf_counter()
            certain = certain_pixels(probabilities[-1], frames.size)
            clock.adaptation += time.perf_counter() - start
            if certain is not None:
                joined.append((small[-1], certain))
                adapted = adapt()
                clock.updates += 1


def support_set(
    frames: Frames, annotation: Annotation, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the annotated frames, uint8 [k, *size, 3], and masks [k, *size]."""
    images = np.stack([resize_image(frames.read(i), size) for i in annotation.frames])
    return images, annotation.masks(size)


def certain_pixels(
    probabilities: np.ndarray, size: tuple[int, int]
) -> np.ndarray | None:
    """Labels the pixels that a prediction, float32 [h, w, K+1], is certain of.

    An object where its probability is at least `CERTAIN`; background where that is as
    probable and all objects are farther than `FAR` of the diagonal of the frame, of
    (height, width) `size`.

    Returns:
      uint8 [h, w]; 0..K, 255 unknown. None if of some object no pixel is certain.
    """
    best = probabilities.argmax(-1)
    certain = probabilities.max(-1) >= CERTAIN
    mask = np.where(certain, best, IGNORE).astype(np.uint8)
    if any(not (mask == c).any() for c in range(1, probabilities.shape[-1])):
        return None
    scale = np.divide(size, mask.shape)
    distance = distance_transform_edt(best == 0, sampling=scale)
    mask[(mask == 0) & (distance <= FAR * np.linalg.norm(size))] = IGNORE
    return mask


def warm_up(
    segmenter: Segmenter,
    frames: Frames,
    annotation: Annotation,
    size: tuple[int, int],
    online: int = 0,
) -> float:
    """Compiles what `follow` is going to run; returns the seconds it took.

    A step is enough for any number of steps; a second number of frames makes the
    functions that predict, and with `online` those that adapt, good for any number.
    """
    start = time.perf_counter()
    if isinstance(segmenter, GradientSegmenter):
        segmenter = dataclasses.replace(segmenter, steps=min(segmenter.steps, 1))
    images, masks = support_set(frames, annotation, size)
    adapted = segmenter.adapt(images, masks, seed=0)
    for count in (1, 2, 3):
        adapted.predict(images[:1].repeat(count, 0))
    for more in (1, 2) if online else ():
        larger = [np.r_[part, part[:1].repeat(more, 0)] for part in (images, masks)]
        segmenter.adapt(*larger, seed=0)
    return time.perf_counter() - start
