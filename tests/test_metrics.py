"""Each measure against its definition, computed by hand."""

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.metrics import (
    Interval,
    Summary,
    TaskResult,
    confusion,
    image_iou,
    mean_iou,
    predicted_masks,
    present_iou,
    soft_image_iou,
)
from efficientlab_tf.pictures import decide
from efficientlab_tf.segmenters.segmenter import spread


def _task(name, truth, predicted, draw=0, classes=1):
    truth, predicted = (np.array(a, np.uint8) for a in (truth, predicted))
    probabilities = np.eye(classes + 1)[predicted]
    return TaskResult.of(name, draw, truth, probabilities)


def test_iou_of_simple_masks():
    truth = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]], np.uint8)
    predicted = np.array([[[1, 0, 1, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]]], np.uint8)
    np.testing.assert_allclose(
        image_iou(confusion(truth, predicted, 1)), [1 / 3, 1, 0], atol=1e-6
    )


def test_unknown_pixels_are_not_counted():
    truth = np.array([[[1, 255, 0, 255]]], np.uint8)
    predicted = np.array([[[1, 1, 0, 0]]], np.uint8)
    counts = confusion(truth, predicted, 1)
    assert counts.sum() == 2
    np.testing.assert_allclose(image_iou(counts), [1.0])


def test_all_measures_of_two_classes():
    cat = _task(
        "cat", [[[1, 1, 1, 0]], [[1, 0, 0, 0]]], [[[1, 1, 0, 0]], [[0, 1, 0, 0]]]
    )
    dog = _task("dog", [[[1, 1, 0, 0]]], [[[1, 1, 0, 0]]])
    summary = Summary.of([cat, dog])
    # Per image 2/3 and 0 -> the cat's task 1/3; the dog's 1.
    np.testing.assert_allclose(summary.per_image_iou.mean, (1 / 3 + 1) / 2, atol=1e-6)
    # The cat's sums: 2 over 3 + 2; the dog's: 2 over 2.
    np.testing.assert_allclose(summary.class_iou.mean, (2 / 5 + 1) / 2, atol=1e-6)
    # Foreground 4 over 7; background 5 of 8, union 8.
    np.testing.assert_allclose(summary.positive_iou, 4 / 7, atol=1e-6)
    np.testing.assert_allclose(summary.fb_iou, (4 / 7 + 5 / 8) / 2, atol=1e-6)


def test_draws_of_one_class_are_summed_before_dividing():
    first = _task("cat", [[[1, 0, 0]]], [[[1, 0, 0]]], draw=0)
    second = _task("cat", [[[1, 1, 1]]], [[[0, 0, 0]]], draw=1)
    summary = Summary.of([first, second])
    np.testing.assert_allclose(summary.class_iou.mean, 1 / 4, atol=1e-6)
    np.testing.assert_allclose(summary.per_image_iou.mean, 1 / 2, atol=1e-6)
    assert summary.tasks == 2


def test_order_of_tasks_changes_no_digit():
    rng = np.random.default_rng(0)
    tasks = [
        _task(
            f"c{i % 7}",
            rng.integers(0, 2, (3, 5, 5)),
            rng.integers(0, 2, (3, 5, 5)),
            draw=i // 7,
        )
        for i in range(21)
    ]
    assert Summary.of(tasks) == Summary.of(tasks[::-1])


def test_interval_is_the_normal_approximation():
    values = [0.1, 0.4, 0.4, 0.7]
    interval = Interval.of(values)
    assert interval.mean == pytest.approx(0.4)
    assert interval.half_width == pytest.approx(1.96 * np.std(values, ddof=1) / 2)
    assert str(interval) == "40.00 ± 24.00"
    assert Interval.of([0.3]).half_width == 0.0


def test_several_classes():
    task = _task("cat+dog", [[[1, 2, 2, 0]]], [[[1, 2, 1, 0]]], classes=2)
    np.testing.assert_allclose(image_iou(task.counts), [1 / 2], atol=1e-6)
    own = Summary.of([task])
    np.testing.assert_allclose(own.class_iou.mean, (1 / 2 + 1 / 2) / 2, atol=1e-6)
    # Confusing one foreground class with another is no error of FB-IoU, but one of
    # positive IoU: both classes' intersections, 1 + 1, over their unions, 2 + 2.
    np.testing.assert_allclose(own.fb_iou, 1.0)
    np.testing.assert_allclose(own.positive_iou, 2 / 4, atol=1e-6)
    np.testing.assert_array_equal(task.of_classes()["cat"], [[[2, 1], [0, 1]]])


def test_a_class_that_an_image_does_not_show_counts_only_if_predicted():
    truth = np.array([[[1, 0, 0]], [[1, 0, 0]]], np.uint8)
    predicted = np.array([[[1, 0, 0]], [[1, 2, 0]]], np.uint8)
    found = image_iou(confusion(truth, predicted, 2))
    np.testing.assert_allclose(found, [1, 1 / 2], atol=1e-6)
    # Not thresholded only the classes of the truth count, as no probability is 0.
    soft = soft_image_iou(truth, np.eye(3)[predicted])
    np.testing.assert_allclose(soft, [1, 1], atol=1e-6)


def test_predicted_masks():
    probabilities = np.array([[[[0.6, 0.4], [0.3, 0.7]]]])
    assert predicted_masks(probabilities).tolist() == [[[0, 1]]]
    assert predicted_masks(probabilities, 0.35).tolist() == [[[1, 1]]]
    three = np.array([[[[0.2, 0.5, 0.3], [0.5, 0.1, 0.4]]]])
    assert predicted_masks(three).tolist() == [[[1, 0]]]


def test_no_results_is_an_error():
    with pytest.raises(ValueError, match="at least one task"):
        Summary.of([])


def test_soft_iou_is_that_of_the_mask_where_probabilities_are_certain():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (4, 5, 6)).astype(np.uint8)
    truth[:, 0] = 255
    predicted = random.integers(0, 3, (4, 5, 6))
    np.testing.assert_allclose(
        soft_image_iou(truth, np.eye(3)[predicted]),
        image_iou(confusion(truth, predicted, 2)),
        atol=1e-6,
    )


def test_soft_iou_by_hand():
    truth = np.array([[[1, 0, 255]]], np.uint8)
    foreground = np.array([0.6, 0.2, 0.9])
    probabilities = np.stack([1 - foreground, foreground], -1)[None, None]
    # 0.6 * 1 over 0.6 + 0.2 + 1 - 0.6; the unknown pixel counts nowhere.
    np.testing.assert_allclose(soft_image_iou(truth, probabilities), 0.5, atol=1e-6)


def test_each_threshold_is_reported():
    truth = np.array([[[1, 1, 0, 0]]], np.uint8)
    foreground = np.array([0.9, 0.4, 0.4, 0.1])
    probabilities = np.stack([1 - foreground, foreground], -1)[None, None]
    result = TaskResult.of("a", 0, truth, probabilities, (0.5, 0.35))
    assert result.iou == pytest.approx(1 / 2)
    summary = Summary.of([result])
    assert summary.per_image_iou_at[0.5].mean == pytest.approx(1 / 2)
    assert summary.per_image_iou_at[0.35].mean == pytest.approx(2 / 3)
    assert summary.soft_iou.mean == pytest.approx(1.3 / (1.8 + 2 - 1.3))
    assert "at 0.35" in summary.table() and "not thresholded" in summary.table()


@pytest.mark.parametrize("classes", [1, 3])
def test_deciding_is_what_the_metrics_do(classes):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(classes + 1), (8, 10)).astype(np.float32)
    expected = predicted_masks(p[np.newaxis], 0.4)[0]
    np.testing.assert_array_equal(decide(p, (8, 10), 0.4), expected)
    up = tf.image.resize(p, (40, 25)).numpy()
    expected = predicted_masks(up[np.newaxis], 0.4)[0]
    assert np.mean(decide(p, (40, 25), 0.4) != expected) < 0.01


def test_iou_of_the_classes_that_are_there():
    counts = np.array([[5, 1, 0], [1, 3, 0], [0, 0, 0]])
    assert present_iou(counts) == {1: 3 / 5} and mean_iou(counts) == 3 / 5
    counts = np.array([[9, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert present_iou(counts) == {2: 0.0}
    assert mean_iou(np.diag([9, 0, 0])) == 1.0
    assert spread(3, 8).tolist() == [0, 1, 2] and spread(9, 3).tolist() == [0, 4, 8]
