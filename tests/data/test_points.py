"""Sparse annotations, one object of many, and augmentation that leaves both alone."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.config import DataConfig
from efficientlab_tf.config.points import parse_points
from efficientlab_tf.data.annotations import resize_annotations
from efficientlab_tf.data.augment import Augmenter
from efficientlab_tf.data.episodes import episode_dataset, fixed_episodes
from efficientlab_tf.data.points import (
    draw_count,
    keep_unknown,
    one_instance,
    sample_points,
)
from efficientlab_tf.episode import require_disjoint
from efficientlab_tf.errors import UserError
from tests.data.tiny_dataset import tiny_dataset, tiny_mask

SIZE = (32, 48)
SEED = tf.constant([3, 4])


def dense_masks() -> np.ndarray:
    """[3, 16, 20]: two classes with 12 unknown pixels; 3 pixels of 1; no class."""
    masks = np.zeros([3, 16, 20], np.uint8)
    masks[0, :5], masks[0, 5:9], masks[0, 15, :12] = 1, 2, 255
    masks[1, 2, 3:6] = 1
    return masks


def test_points_survive_another_size():
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 3, (2, 40, 60)).astype(np.uint8)
    sparse = np.full_like(dense, 255)
    for mask in sparse:
        for label in (0, 1, 2):
            mask[rng.integers(0, 40, 5), rng.integers(0, 60, 5)] = label
    for size in ((8, 6), (20, 60), (90, 70)):
        expected = np.full((2, *size), 255, np.uint8)
        for i, row, column in np.argwhere(sparse != 255):
            place = (
                i,
                int((row + 0.5) * size[0] / 40),
                int((column + 0.5) * size[1] / 60),
            )
            own = sparse[i, row, column]
            best = expected[place]
            expected[place] = own if best == 255 else max(own, best)
        np.testing.assert_array_equal(resize_annotations(sparse, size), expected)
    nearest = tf.image.resize(dense[..., None], (8, 6), method="nearest")[..., 0]
    both = resize_annotations(np.stack([dense[0], sparse[0]]), (8, 6))
    np.testing.assert_array_equal(both[0], nearest[0])
    assert (both[1] == 255).any()


def run_in_dataset(function, masks, seed):
    dataset = tf.data.Dataset.from_tensors((masks, seed)).map(function)
    return next(iter(dataset)).numpy()


@pytest.mark.parametrize("count", [1, 4, 30, 500])
def test_every_label_keeps_its_points(count):
    masks = dense_masks()

    def sample(masks, seed):
        return sample_points(masks, count, 2, seed)

    sparse = sample(masks, SEED).numpy()
    assert sparse.dtype == np.uint8 and sparse.shape == masks.shape
    known = sparse != 255
    np.testing.assert_array_equal(sparse[known], masks[known])
    for given, mask in zip(sparse, masks, strict=True):
        for label in (0, 1, 2):
            assert np.sum(given == label) == min(count, np.sum(mask == label))
    np.testing.assert_array_equal(run_in_dataset(sample, masks, SEED), sparse)
    if count == 4:
        other = sample(masks, SEED + 1).numpy()
        assert np.any(other != sparse)
        assert np.any((sparse[0] != 255) != (sparse[1] != 255))


def test_points_are_uniform():
    mask = np.zeros([1, 4, 4], np.uint8)
    mask[0, :2] = 1
    counts = np.zeros([4, 4])
    for seed in range(400):
        counts += sample_points(mask, 2, 1, tf.constant([seed, 0])).numpy()[0] != 255
    # Each of the eight pixels of a label with probability 1/4: five deviations.
    assert np.abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


def test_the_number_of_points_is_uniform_and_both_ends_count():
    drawn = [int(draw_count(1, 4, tf.constant([s, 9]))) for s in range(200)]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [1, 2, 3, 4]
    assert np.abs(counts - 50).max() < 5 * np.sqrt(200 * 0.25 * 0.75)


def snake() -> np.ndarray:
    """A winding path of one pixel's width, and a speck that it does not touch."""
    mask = np.zeros([13, 12], np.uint8)
    mask[::4] = 1
    mask[:, 0] = 0
    for i, row in enumerate(range(2, 12, 4)):
        mask[row - 1 : row + 2, 11 if i % 2 == 0 else 1] = 1
    mask[2, 2:9] = 1
    return mask


def component_of(mask: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Flood fill with a stack."""
    inside, stack = np.zeros(mask.shape, bool), [start]
    while stack:
        row, column = stack.pop()
        if min(row, column) < 0 or row >= mask.shape[0] or column >= mask.shape[1]:
            continue
        if inside[row, column] or mask[row, column] in (0, 255):
            continue
        inside[row, column] = True
        stack += itertools.product(
            range(row - 1, row + 2), range(column - 1, column + 2)
        )
    return inside


def test_an_instance_is_a_connected_component():
    masks = np.zeros([4, 13, 12], np.uint8)
    masks[0] = snake()
    # Diagonal neighbours belong together, also across the unknown.
    masks[1, 2, 2], masks[1, 3, 3], masks[1, 8, 8], masks[1, 2, 3] = 1, 1, 1, 255
    masks[2, :, :6], masks[2, :, 5] = 1, 255
    seen = [set() for _ in masks]
    for seed in range(25):
        alone = one_instance(masks, tf.constant([seed, 1])).numpy()
        for given, mask, found in zip(alone, masks, seen, strict=True):
            np.testing.assert_array_equal(given == 255, mask == 255)
            places = np.argwhere((given > 0) & (given < 255))
            if not len(places):
                assert not np.any((mask > 0) & (mask < 255))
                continue
            expected = component_of(mask, tuple(places[0]))
            rest = np.where(mask == 255, 255, 0)
            np.testing.assert_array_equal(given, np.where(expected, mask, rest))
            found.add(tuple(places[0]))
    assert [len(found) for found in seen] == [2, 2, 1, 0]
    again = run_in_dataset(one_instance, masks, tf.constant([24, 1]))
    np.testing.assert_array_equal(again, alone)


def test_an_object_with_a_number_is_whole():
    masks = np.zeros([1, 8, 9], np.uint8)
    masks[0, :2], masks[0, 6:], masks[0, 3, 4:] = 2, 2, 3
    masks[0, :, 8] = 255
    found = set()
    for seed in range(20):
        alone = one_instance(masks, tf.constant([seed, 1])).numpy()
        (value,) = set(np.unique(alone)) - {0, 255}
        np.testing.assert_array_equal(alone == value, masks == value)
        found.add(value)
    assert found == {2, 3}


def test_augmentation_adds_no_annotations_to_points():
    dense = np.zeros([4, 32, 32], np.uint8)
    dense[:, 8:20, 10:25] = 1
    points = sample_points(dense, 6, 1, SEED).numpy()
    images = np.random.default_rng(0).integers(0, 256, [4, 32, 32, 3]).astype(np.uint8)
    augment = keep_unknown(Augmenter(1.0))
    changed, masks = augment(images, points, SEED)
    for mask, before in zip(masks.numpy(), points, strict=True):
        assert set(np.unique(mask)) <= {0, 1, 255}
        for label in (0, 1):
            assert np.sum(mask == label) <= np.sum(before == label)
    assert np.sum(masks.numpy() == 1) > 0 and np.sum(masks.numpy() == 0) > 0
    # Points move with the image as dense masks do.
    plain_images, plain = Augmenter(1.0)(images, dense, SEED)
    np.testing.assert_array_equal(changed, plain_images)
    kept = masks.numpy() != 255
    np.testing.assert_array_equal(masks.numpy()[kept], plain.numpy()[kept])
    # Dense ones are as without.
    for given, expected in zip(
        augment(images, dense, SEED), (plain_images, plain), strict=True
    ):
        np.testing.assert_array_equal(given, expected)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return tiny_dataset(
        tmp_path_factory.mktemp("points"), {"bear": 6, "cup": 7, "dog": 5}, size=SIZE
    )


def draw(manifest, count, **options):
    options = {"shots": 2, "queries": 2, "seed": 1, "image_size": SIZE, **options}
    return list(itertools.islice(episode_dataset(manifest, "train", **options), count))


def fixed(manifest, **options):
    options = {"shots": 2, "seed": 1, "image_size": SIZE, **options}
    return list(fixed_episodes(manifest, "train", **options))


@pytest.mark.parametrize("ways", [1, 2])
def test_points_change_nothing_but_the_support_masks(manifest, ways):
    dense = draw(manifest, 6, ways=ways)
    for points in ((5, 5), (1, 100)):
        counts = set()
        for given, plain in zip(
            draw(manifest, 6, ways=ways, points=points), dense, strict=True
        ):
            for name in ("support_images", "query_images", "query_masks", "name"):
                np.testing.assert_array_equal(
                    getattr(given, name), getattr(plain, name)
                )
            masks = given.support_masks.numpy()
            known = masks != 255
            np.testing.assert_array_equal(
                masks[known], plain.support_masks.numpy()[known]
            )
            for shot, mask in enumerate(masks):
                numbers = {np.sum(mask == v) for v in (0, 1 + shot // 2)}
                assert len(numbers) == 1  # P of the class, P of the background.
                counts |= numbers
        assert min(counts) >= points[0] and max(counts) <= points[1]
        assert len(counts) == 1 if points == (5, 5) else len(counts) > 2


def test_points_of_a_task_are_a_function_of_the_task(manifest):
    first = draw(manifest, 6, points=(1, 9))
    resumed = draw(manifest, 2, points=(1, 9), start_step=4)
    batches = draw(manifest, 4, points=(1, 9), meta_batch=3)
    again = draw(manifest, 2, points=(1, 9), meta_batch=3, start_step=2)
    for a, b in ((first[4:], resumed), (batches[2:], again)):
        tf.nest.map_structure(np.testing.assert_array_equal, a, b)
    tests = {(name, n): e for e, name, n in fixed(manifest, points=(3, 3))}
    more = fixed(manifest, points=(3, 3), splits_per_task=2)
    assert len(more) == 2 * len(tests) == 6
    for episode, name, number in more:
        if number == 0:
            tf.nest.map_structure(
                np.testing.assert_array_equal, episode, tests[name, number]
            )
    masks = np.stack([e.support_masks for e, *_ in more])
    assert len(np.unique(masks, axis=0)) == 6


@pytest.mark.parametrize("family", ["interactive", "instance"])
def test_families_that_ask_about_the_support_images(manifest, family):
    options = {"family": family, "points": (4, 4)}
    for episode in [
        *draw(manifest, 3, **options),
        *(e for e, *_ in fixed(manifest, **options)),
    ]:
        np.testing.assert_array_equal(episode.support_images, episode.query_images)
        for mask in episode.query_masks:
            np.testing.assert_array_equal(mask, tiny_mask(SIZE))
        masks = episode.support_masks.numpy()
        assert [np.sum(mask == 1) for mask in masks] == [4, 4]
        with pytest.raises(UserError, match="expected a query set apart"):
            require_disjoint(episode, "x")
    # All of a class's images may be support: there is none apart from them.
    assert draw(manifest, 1, shots=5, queries=5, **options)


def test_instances_of_an_episode(tmp_path, monkeypatch):
    from tests.data import tiny_dataset as tiny

    two = np.zeros(SIZE, np.uint8)
    two[2:9, 3:20], two[20:30, 30:40], two[0] = 1, 1, 255
    monkeypatch.setattr(tiny, "tiny_mask", lambda size: two)
    manifest = tiny_dataset(tmp_path, {"bear": 6}, size=SIZE)
    areas = set()
    for episode in draw(manifest, 12, ways=1, shots=1, queries=1, family="instance"):
        (mask,) = episode.query_masks.numpy()
        np.testing.assert_array_equal(mask, episode.support_masks[0])
        np.testing.assert_array_equal(mask == 255, two == 255)
        areas.add(int(np.sum(mask == 1)))
    assert areas == {7 * 17, 100}


def test_bad_families(manifest):
    for options, message in (
        ({"family": "video"}, "`family` must be one of class, interactive, instance"),
        ({"family": "interactive", "queries": 1}, "`queries` must equal `shots`, 2"),
        (
            {"family": "instance", "shots": 6, "queries": 6},
            "an episode needs `shots` = 6",
        ),
    ):
        with pytest.raises(UserError, match=message):
            draw(manifest, 1, **options)


@pytest.mark.parametrize(
    "text,expected", [("-1", None), ("5", (5, 5)), ("1-100", (1, 100)), ("7-7", (7, 7))]
)
def test_numbers_of_points(text, expected):
    assert parse_points(text) == expected
    assert DataConfig(points=text).point_range == expected


@pytest.mark.parametrize("text", ["", "0", "-2", "5-1", "0-9", "1-", "a", "1,5", "2.5"])
def test_bad_numbers_of_points(text):
    with pytest.raises(UserError, match="points: expected -1 for dense masks"):
        DataConfig(points=text)
