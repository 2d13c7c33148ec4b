"""DAVIS's measures against loops over pixels and cases that can be worked out."""

import math

import numpy as np
import pytest

from efficientlab_tf.data.sources.davis import find_sequences
from efficientlab_tf.video.annotation import Truths
from efficientlab_tf.video.frames import Frames
from efficientlab_tf.video.metrics import (
    Statistics,
    boundary,
    contour_accuracy,
    evaluated,
    measure_frame,
    region_similarity,
    summarize,
)
from tests.data.test_davis import davis_mini


def slow_boundary(mask):
    """Pixels with a differing neighbour to the right, below or diagonally below."""
    height, width = mask.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if any(
            mask[y, x] != mask[min(y + dy, height - 1), min(x + dx, width - 1)]
            for dy, dx in ((0, 1), (1, 0), (1, 1))
        )
    ]


def slow_f(truth, predicted, bound=0.008):
    """F by the distance of each boundary pixel to every pixel of the other one."""
    radius = math.ceil(bound * math.hypot(*truth.shape))
    g, m = slow_boundary(truth), slow_boundary(predicted)
    if not g or not m:
        return float(not g and not m)

    def share(these, others):
        near = [any(math.dist(a, b) <= radius for b in others) for a in these]
        return sum(near) / len(near)

    p, r = share(m, g), share(g, m)
    return 2 * p * r / (p + r) if p + r else 0.0


def blob(rng, shape=(30, 41)):
    """A random patch of smooth outline, which may touch the image's edge."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    center, radii = rng.uniform(0, shape), rng.uniform(3, 14, 2)
    angle = np.arctan2(y - center[0], x - center[1])
    reach = 1 + 0.3 * np.sin(3 * angle + rng.uniform(0, 6))
    distance = np.hypot((y - center[0]) / radii[0], (x - center[1]) / radii[1])
    return distance < reach


@pytest.mark.parametrize("bound", [0.008, 0.05])
def test_f_is_what_distances_of_all_pixels_give(bound):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(12):
        truth, predicted = blob(rng), blob(rng)
        if rng.random() < 0.6:
            predicted = np.roll(truth, rng.integers(-3, 4, 2), (0, 1))
        np.testing.assert_array_equal(
            np.argwhere(boundary(truth)), np.array(slow_boundary(truth)).reshape(-1, 2)
        )
        f = contour_accuracy(truth, predicted, bound)
        assert f == pytest.approx(slow_f(truth, predicted, bound), abs=1e-12)
        seen.add(round(f, 2))
    assert len(seen) > 5


def test_f_of_a_real_mask():
    sequence = find_sequences(davis_mini(), names=["kite-surf"])[0]
    truths = Truths(sequence.masks, Frames(sequence.frames))
    first, second = truths.read(0) > 0, truths.read(1) > 0
    f = contour_accuracy(first, second)
    assert 0.1 < f < 1
    assert f == pytest.approx(slow_f(first, second), abs=1e-12)


def test_a_shift_within_the_bound_costs_nothing_and_one_beyond_it_all():
    truth = np.zeros((240, 427), bool)
    truth[:, 100:200] = True  # Boundaries are two lines; the bound is 4 pixels.
    shifted = {d: contour_accuracy(truth, np.roll(truth, d, 1)) for d in (0, 4, 5)}
    assert shifted == {0: 1.0, 4: 1.0, 5: 0.0}
    assert region_similarity(truth, np.roll(truth, 50, 1)) == pytest.approx(1 / 3)


def test_empty_masks_and_full_ones():
    empty, full = np.zeros((20, 20), bool), np.ones((20, 20), bool)
    square = empty.copy()
    square[5:9, 5:9] = True
    assert region_similarity(empty, empty) == contour_accuracy(empty, empty) == 1
    assert region_similarity(square, empty) == contour_accuracy(square, empty) == 0
    assert contour_accuracy(empty, square) == 0
    assert contour_accuracy(full, full) == 1 and not boundary(full).any()


def test_half_of_a_boundary_that_is_missed():
    truth = np.zeros((40, 40), bool)
    truth[:, :10] = True
    both = truth.copy()
    both[:, 30:] = True
    # One line of the two is right: precision 1/2, recall 1.
    assert contour_accuracy(truth, both) == pytest.approx(2 / 3)
    assert contour_accuracy(both, truth) == pytest.approx(2 / 3)


def test_objects_are_measured_one_by_one_and_unknown_pixels_do_not_count():
    truth = np.zeros((20, 20), np.uint8)
    truth[:5], truth[5:10], truth[10:12] = 1, 2, 255
    predicted = truth.copy()
    predicted[10:12] = 2
    predicted[:5, 10:] = 2
    measures = measure_frame(truth, predicted, (1, 2))
    assert measures[1][0] == 0.5
    assert measures[2][0] == pytest.approx(100 / 150)
    perfect = np.where(truth == 255, 1, truth)
    assert measure_frame(truth, perfect, (1, 2)) == {1: (1, 1), 2: (1, 1)}


def test_statistics_of_frames():
    values = [0.9, 0.8, 0.5, 0.6, 0.4, 0.2, 0.1, 0.1]
    statistics = Statistics.of(values)
    assert statistics.mean == pytest.approx(0.45)
    assert statistics.recall == 3 / 8  # 0.5 itself is not above.
    # Quarters of 8 frames end at frames 1, 3, 5, 6 (2.75, 4.5, 6.25 rounded) and 8.
    assert statistics.decay == pytest.approx(np.mean(values[:3]) - np.mean(values[5:]))
    assert Statistics.of([0.7]) == Statistics(0.7, 1.0, 0.0)
    with pytest.raises(ValueError, match="at least one frame"):
        Statistics.of([])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 40, 68, 301])
def test_decay_takes_the_bins_of_the_published_evaluation(count):
    """Its definition: bin ends round(linspace(1, n, 5) + 1e-10), both included."""
    values = np.random.default_rng(count).random(count)
    ends = [round(1 + (count - 1) * i / 4 + 1e-10) - 1 for i in range(5)]
    bins = [values[a : b + 1] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    expected = bins[0].mean() - bins[3].mean()
    assert Statistics.of(values).decay == pytest.approx(expected, abs=1e-12)


def test_first_and_last_frame_do_not_count():
    assert evaluated([0, 1, 3, 4], 5) == [1, 3]
    per_frame = {i: {1: (j, j / 2)} for i, j in enumerate([1.0, 0.6, 0.2, 1.0])}
    scores = summarize(per_frame, 4)[1]
    assert scores.j.mean == pytest.approx(0.4) and scores.f.mean == pytest.approx(0.2)
    assert scores.mean == pytest.approx(0.3) and scores.j.recall == 0.5
    assert summarize({0: {1: (1, 1)}, 3: {1: (1, 1)}}, 4) == {}
