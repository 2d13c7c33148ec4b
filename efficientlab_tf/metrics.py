"""Measures of a segmentation, each under the name of the papers that use it.

The numbers of different papers are not comparable; every table of this package
says which one it shows:

- per_image_iou: IoU of each image, averaged over a task's images, then over tasks,
  with a 95% confidence interval over tasks (Hendryx et al., table 2; an image with
  neither truth nor prediction counts as 1). With several classes that of an image is
  the mean over those that its truth or prediction holds.
- class_iou: per class, summed intersections over summed unions of all its images; then
  the mean over classes (Shaban et al., HSNet).
- fb_iou: mean of the foreground's and the background's IoU, both summed over
  everything, classes ignored.
- positive_iou: summed intersections over summed unions of all masks; several classes
  are a binary task each (Rakelly et al., section 7.3, "IU of the positives"). With one
  class the foreground part of fb_iou.
- soft_iou: as per_image_iou, with probabilities in the place of a mask: not thresholded
  (Banerjee 2020, equation 9). With several classes the mean over those that an image's
  truth holds, all if none.

All but the last are computed from confusion counts of single images, and none
depends on the order of tasks or on how they are batched. Pixels labelled 255 count
nowhere.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from efficientlab_tf.episode import IGNORE

EPSILON = 1e-7


def predicted_masks(probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Turns probabilities [n, H, W, K+1] into masks uint8 [n, H, W].

    For one foreground class a pixel is foreground if its probability exceeds
    `threshold`; for more classes the likeliest one wins.
    """
    if probabilities.shape[-1] == 2:
        return (probabilities[..., 1] > threshold).astype(np.uint8)
    return np.argmax(probabilities, axis=-1).astype(np.uint8)


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts pixels of each image by true and predicted class.

    Args:
      truth: uint8 [n, H, W]; 0..K, 255 unknown.
      predicted: uint8 [n, H, W]; 0..K.
      classes: K, the number of foreground classes.

    Returns:
      int64 [n, K+1, K+1]; [i, t, p] counts pixels of class t predicted as p.
    """
    size = classes + 1
    counts = np.zeros((len(truth), size, size), np.int64)
    for i, (t, p) in enumerate(zip(truth, predicted, strict=True)):
        known = t != IGNORE
        joint = t[known].astype(np.int64) * size + p[known]
        counts[i] = np.bincount(joint, minlength=size * size).reshape(size, size)
    return counts


def _intersection_union(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns intersections and unions [..., K+1] of counts [..., K+1, K+1]."""
    intersection = np.diagonal(counts, axis1=-2, axis2=-1)
    return intersection, counts.sum(-1) + counts.sum(-2) - intersection


def image_iou(counts: np.ndarray) -> np.ndarray:
    """IoU of each image [n], averaged over the classes of its truth or prediction."""
    intersection, union = (part[:, 1:] for part in _intersection_union(counts))
    iou = (intersection + EPSILON) / (union + EPSILON)
    return _mean_over(union > 0, iou)


def _mean_over(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means of values [n, K] over the chosen ones of each row, over all if none is."""
    chosen = chosen | ~chosen.any(-1, keepdims=True)
    return (values * chosen).sum(-1) / chosen.sum(-1)


def soft_image_iou(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """IoU of each image [n] without a threshold, see the top of the module.

    For each class sum(p t) / sum(p + t - p t) over the known pixels (Banerjee 2020,
    equation 9).

    Args:
      truth: uint8 [n, H, W]; 0..K, 255 unknown.
      probabilities: float [n, H, W, K+1].
    """
    known = (truth != IGNORE)[..., np.newaxis]
    classes = np.arange(1, probabilities.shape[-1])
    target = (truth[..., np.newaxis] == classes) & known
    p = probabilities[..., 1:] * known
    both = np.sum(p * target, axis=(1, 2), dtype=np.float64)
    there = np.sum(target, axis=(1, 2))
    total = np.sum(p, axis=(1, 2), dtype=np.float64) + there
    return _mean_over(there > 0, (both + EPSILON) / (total - both + EPSILON))


def present_iou(counts: np.ndarray) -> dict[int, float]:
    """Foreground class to IoU, for the classes that truth or prediction hold.

    Args:
      counts: int [K+1, K+1] of one picture, see `confusion`.
    """
    intersection, union = _intersection_union(counts)
    return {
        c: float(intersection[c] / union[c]) for c in range(1, len(counts)) if union[c]
    }


def mean_iou(counts: np.ndarray) -> float:
    """Mean of `present_iou`; 1 if neither truth nor prediction hold any class."""
    return float(np.mean(list(present_iou(counts).values()) or [1.0]))


def confidence(probabilities: np.ndarray, threshold: float = 0.5) -> float:
    """The IoU that a predicted mask would have if its probabilities were true.

    For each class that it shows, sum(p in the mask) / (pixels of the mask + sum(p
    outside of it)), and the mean over them. Of a mask that shows none, how improbable
    the likeliest foreground pixel is.

    Args:
      probabilities: [H, W, K+1].
      threshold: see `predicted_masks`.
    """
    mask = predicted_masks(probabilities[np.newaxis], threshold)[0]
    shown = np.setdiff1d(mask, [0])
    if not len(shown):
        return float(probabilities[..., 0].min())
    p = probabilities.astype(np.float64)
    inside = {c: p[mask == c, c].sum() for c in shown}
    union = {c: (mask == c).sum() + p[mask != c, c].sum() for c in shown}
    return float(np.mean([inside[c] / union[c] for c in shown]))


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with the half-width of its 95% confidence interval.

    Not a number, if a method diverged on any of what it is the mean of.
    """

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Normal approximation, 1.96 standard errors; half-width 0 for one value."""
        values = np.asarray(values, np.float64)
        if len(values) < 2:
            return cls(float(values.mean()), 0.0)
        error = values.std(ddof=1) / np.sqrt(len(values))
        return cls(float(values.mean()), float(1.96 * error))

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "diverged"
        return f"{100 * self.mean:.2f} ± {100 * self.half_width:.2f}"


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """What one task (a class and one draw of its examples) came to.

    Attributes:
      name: the class; for K > 1 the classes' names joined by "+".
      draw: which of the class's random support/query splits.
      counts: int64 [queries, K+1, K+1] at the first threshold, see `confusion`.
      iou_at: the task's mean per-image IoU at each threshold.
      soft_iou: the task's mean `soft_image_iou`.
    """

    name: str
    draw: int
    counts: np.ndarray
    iou_at: dict[float, float]
    soft_iou: float

    @classmethod
    def of(
        cls,
        name: str,
        draw: int,
        truth: np.ndarray,
        probabilities: np.ndarray,
        thresholds: Sequence[float] = (0.5,),
    ) -> "TaskResult":
        """Measures probabilities [n, H, W, K+1] against truth, uint8 [n, H, W]."""
        classes = probabilities.shape[-1] - 1
        counts = {
            t: confusion(truth, predicted_masks(probabilities, t), classes)
            for t in thresholds
        }
        return cls(
            name,
            draw,
            counts[thresholds[0]],
            {t: float(image_iou(c).mean()) for t, c in counts.items()},
            float(soft_image_iou(truth, probabilities).mean()),
        )

    @property
    def iou(self) -> float:
        """The task's mean per-image IoU."""
        return float(image_iou(self.counts).mean())

    def of_classes(self) -> dict[str, np.ndarray]:
        """Each class against all else: its name to int64 [queries, 2, 2]."""
        own, total = {}, self.counts.sum((1, 2))
        for index, name in enumerate(self.name.split("+"), start=1):
            both = self.counts[:, index, index]
            truth, predicted = (self.counts.sum(a)[:, index] for a in (2, 1))
            neither = total - truth - predicted + both
            cells = [neither, predicted - both, truth - both, both]
            own[name] = np.stack(cells, axis=-1).reshape(-1, 2, 2)
        return own


@dataclasses.dataclass(frozen=True)
class Summary:
    """All measures over a set of tasks, at the first threshold of those asked for.

    `per_image_iou_at` has all thresholds; the module's docstring explains the measures.
    """

    per_image_iou: Interval
    per_image_iou_at: dict[float, Interval]
    soft_iou: Interval
    class_iou: Interval
    fb_iou: float
    positive_iou: float
    tasks: int

    @classmethod
    def of(cls, results: Sequence[TaskResult]) -> "Summary":
        """Sums up task results, in any order.

        Raises:
          ValueError: there are no results.
        """
        if not results:
            raise ValueError("a summary needs at least one task result, received none")
        by_class: dict[str, np.ndarray] = {}
        # Sorted, so that the sums and so the last digits do not depend on order.
        ordered = sorted(results, key=lambda r: (r.name, r.draw))
        for result in ordered:
            for name, counts in result.of_classes().items():
                by_class[name] = by_class.get(name, 0) + counts.sum(0)
        binary = sum(foreground_background(r.counts.sum(0)) for r in ordered)
        return cls(
            per_image_iou=Interval.of([r.iou for r in ordered]),
            per_image_iou_at={
                threshold: Interval.of([r.iou_at[threshold] for r in ordered])
                for threshold in ordered[0].iou_at
            },
            soft_iou=Interval.of([r.soft_iou for r in ordered]),
            class_iou=Interval.of([both_iou(c)[1] for c in by_class.values()]),
            fb_iou=float(both_iou(binary).mean()),
            positive_iou=float(both_iou(sum(by_class.values()))[1]),
            tasks=len(results),
        )

    def to_dict(self) -> dict:
        """Plain numbers in 0..1, for JSON."""
        return dataclasses.asdict(self)

    def table(self) -> str:
        """A few lines of text, percentages, one measure a line."""
        rows = [
            *(
                (f"per-image IoU (Hendryx et al.) at {threshold:g}", str(interval))
                for threshold, interval in self.per_image_iou_at.items()
            ),
            ("the same, not thresholded (Banerjee)", str(self.soft_iou)),
            ("class-wise IoU (Shaban et al., HSNet)", str(self.class_iou)),
            ("FB-IoU", f"{100 * self.fb_iou:.2f}"),
            ("positive IoU (Rakelly et al.)", f"{100 * self.positive_iou:.2f}"),
        ]
        return "\n".join(f"  {label:<40}{value} %" for label, value in rows)


def both_iou(counts: np.ndarray) -> np.ndarray:
    """IoU [..., 2] of background and foreground, of counts [..., 2, 2]."""
    intersection, union = _intersection_union(counts)
    return (intersection + EPSILON) / (union + EPSILON)


def foreground_background(counts: np.ndarray) -> np.ndarray:
    """Merges all foreground classes: [K+1, K+1] to [2, 2]."""
    return np.add.reduceat(np.add.reduceat(counts, [0, 1], axis=0), [0, 1], axis=1)
