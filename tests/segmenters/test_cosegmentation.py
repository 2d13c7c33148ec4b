"""Co-segmentation: its rules against brute force, and that it reads no mask."""

import numpy as np
import pytest

from efficientlab_tf.segmenters.baselines import (
    CoSegmentation,
    FeatureExtractor,
)
from efficientlab_tf.segmenters.baselines.cosegmentation import (
    cluster_scores,
    foreground_clusters,
    otsu,
)
from tests.segmenters.extractors import SIZE, colours


def _variance_within(values, weights, low):
    parts = [(values[part], weights[part]) for part in (low, ~low)]
    return sum(w @ (v - np.average(v, weights=w)) ** 2 for v, w in parts)


def test_otsu_is_the_best_of_all_splits():
    rng = np.random.default_rng(2)
    for _ in range(20):
        values, weights = rng.normal(size=6), rng.random(6)
        splits = [values < t for t in np.sort(values)[1:]]
        within = [_variance_within(values, weights, low) for low in splits]
        best = splits[int(np.argmin(within))]
        np.testing.assert_array_equal(values < otsu(values, weights), best)
    assert otsu(np.ones(3), np.ones(3)) == np.inf
    # What has no weight has no say.
    assert otsu(np.array([0.0, 1.0, 9.0]), np.array([1.0, 1.0, 0.0])) == 0.5


def test_foreground_is_what_recurs_in_the_middle():
    cells = np.zeros((3, 16, 16), np.int64)
    cells[:, :, 8:] = 1  # Two backgrounds, ...
    cells[:, 5:11, 5:11] = 2  # ... an object in the middle of all ...
    cells[:, 0] = 4  # ... and something at every border.
    assert np.flatnonzero(foreground_clusters(cells, 6)).tolist() == [2]
    assert not foreground_clusters(np.zeros((2, 4, 4), np.int64), 3).any()


@pytest.mark.parametrize(("height", "width"), [(20, 28), (4, 6), (1, 2)])
def test_scores_of_clusters_are_those_of_the_rule(height, width):
    rng = np.random.default_rng(4)
    cells = rng.choice(5, (3, height, width), p=[0.5, 0.2, 0.2, 0.095, 0.005])
    scores, sizes = cluster_scores(cells, 6)
    top, side = max(1, height // 8), max(1, width // 8)
    for cluster in range(6):
        differences, appearances = [], 0
        for image in cells:
            centre, border = [], []
            for (i, j), label in np.ndenumerate(image):
                if height // 4 <= i < height - height // 4:
                    if width // 4 <= j < width - width // 4:
                        centre.append(label == cluster)
                if not (top <= i < height - top and side <= j < width - side):
                    border.append(label == cluster)
            differences.append(np.mean(centre) - np.mean(border))
            appearances += (image == cluster).sum() >= 0.01 * image.size
        expected = np.mean(differences) * appearances / 3
        np.testing.assert_allclose(scores[cluster], expected, atol=1e-12)
        np.testing.assert_allclose(sizes[cluster], (cells == cluster).mean())


@pytest.mark.learned
def test_cosegmentation_finds_the_common_object_and_reads_no_mask(task):
    images, masks, queries, query_masks = task
    method = CoSegmentation(FeatureExtractor(colours()), clusters=4)
    adapted = method.adapt(images, masks, seed=1)
    probabilities = adapted.predict(queries)
    for p, truth in zip(probabilities[..., 1] > 0.5, query_masks, strict=True):
        assert (p & (truth == 1)).sum() / (p | (truth == 1)).sum() > 0.6
    for other in (np.full_like(masks, 255), np.zeros_like(masks), 1 - masks):
        blind = method.adapt(images, other, seed=1)
        np.testing.assert_array_equal(blind.predict(queries), probabilities)
    two = method.adapt(images, 2 * masks, seed=1).predict(queries)
    np.testing.assert_array_equal(two[..., :2], probabilities)
    assert not two[..., 2].any()


@pytest.mark.filterwarnings("error")
def test_cosegmentation_of_blank_pictures_is_background(tiny):
    images = np.full((2, SIZE, SIZE, 3), 128, np.uint8)
    adapted = CoSegmentation(FeatureExtractor(colours())).adapt(
        images, np.zeros(images.shape[:3], np.uint8)
    )
    np.testing.assert_array_equal(adapted.predict(images)[..., 0], 1)
