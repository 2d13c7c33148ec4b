"""The measures of DAVIS (Perazzi et al. 2016, section 4; Pont-Tuset et al. 2017).

    J = |M and G| / |M or G|                               region similarity
    F = 2 P R / (P + R)                                    contour accuracy
    P = share of M's boundary within r of G's boundary, R the other way round,
    r = ceil(0.008 * diagonal), Euclidean: a dilation by a disk of that radius

Of a measure over a sequence's frames: the mean; recall, the share of frames above 0.5;
and decay, the mean of the first quarter of frames less that of the last. As in the
semi-supervised task of DAVIS 2016 and 2017 the first frame, whose mask is given, and
the last one do not count. Several objects are measured one by one; the mean over a
data set is one over objects.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from efficientlab_tf.episode import IGNORE

BOUND = 0.008
"""Tolerance of a boundary, as a part of the image's diagonal."""
RECALL_ABOVE = 0.5
PROTOCOL = "DAVIS, semi-supervised: first and last frame excluded"


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean, recall and decay of a measure over the frames of a sequence."""

    mean: float
    recall: float
    decay: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistics":
        """Sums up the values of frames in their order; quarters share an end.

        Raises:
          ValueError: there are none.
        """
        if not len(values):
            raise ValueError("a measure needs at least one frame")
        values = np.asarray(values, np.float64)
        # Halves are rounded up, as MATLAB's round did in the first evaluation code.
        ends = np.floor(np.linspace(1, len(values), 5) + 0.5).astype(int)
        first, last = values[: ends[1]], values[ends[-2] - 1 :]
        return cls(
            float(values.mean()),
            float((values > RECALL_ABOVE).mean()),
            float(first.mean() - last.mean()),
        )


@dataclasses.dataclass(frozen=True)
class Scores:
    """Region similarity and contour accuracy of one object's predicted masks."""

    j: Statistics
    f: Statistics

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.j.mean + self.f.mean) / 2


def region_similarity(truth: np.ndarray, predicted: np.ndarray) -> float:
    """J of two masks, bool [H, W]; 1 if both are empty."""
    union = np.count_nonzero(truth | predicted)
    both = np.count_nonzero(truth & predicted)
    return float(both / union) if union else 1.0


def contour_accuracy(
    truth: np.ndarray, predicted: np.ndarray, bound: float = BOUND
) -> float:
    """F of two masks, bool [H, W]; `bound` is a part of the diagonal.

    1 if neither mask has a boundary, 0 if one of them alone has.
    """
    radius = np.ceil(bound * np.linalg.norm(truth.shape))
    of_truth, of_predicted = boundary(truth), boundary(predicted)
    if not of_truth.any() or not of_predicted.any():
        return float(of_truth.any() == of_predicted.any())
    precision = _share_near(of_predicted, of_truth, radius)
    recall = _share_near(of_truth, of_predicted, radius)
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Marks pixels that differ from the one to the right, below or diagonally below.

    The image's own edge is no boundary. bool [H, W] to bool [H, W].
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != diagonal)


def _share_near(these: np.ndarray, others: np.ndarray, radius: float) -> float:
    near = distance_transform_edt(~others) <= radius
    return float(np.count_nonzero(these & near) / np.count_nonzero(these))


def measure_frame(
    truth: np.ndarray, predicted: np.ndarray, objects: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """Returns J and F of each object in one frame.

    Masks are uint8 [H, W]; 0, objects' indices, and 255 in the truth for pixels that do
    not count.
    """
    known = truth != IGNORE
    result = {}
    for index in objects:
        masks = (truth == index) & known, (predicted == index) & known
        result[index] = region_similarity(*masks), contour_accuracy(*masks)
    return result


def evaluated(frames: Sequence[int], count: int) -> list[int]:
    """Returns those of some frames that count: not a sequence's first and last."""
    return [frame for frame in frames if 0 < frame < count - 1]


def summarize(
    per_frame: dict[int, dict[int, tuple[float, float]]], count: int
) -> dict[int, Scores]:
    """Sums up a sequence of `count` frames of which some were measured.

    Returns each object's scores; {} if no frame counts.
    """
    pairs = [per_frame[frame] for frame in evaluated(sorted(per_frame), count)]
    objects = pairs[0] if pairs else ()
    return {
        index: Scores(
            *map(Statistics.of, zip(*(own[index] for own in pairs), strict=True))
        )
        for index in objects
    }
