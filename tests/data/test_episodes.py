import gc
import itertools

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.data.episodes import episode_dataset, fixed_episodes
from efficientlab_tf.data.manifest import ClassEntry, Manifest
from efficientlab_tf.data.records import write_shard
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from tests.data.tiny_dataset import (
    class_number,
    sources,
    tiny_dataset,
    tiny_examples,
    tiny_mask,
)

SIZE = (32, 48)
COUNTS = {"bear": 6, "cup": 7, "dog": 5, "elk": 9, "fox": 6}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return tiny_dataset(
        tmp_path_factory.mktemp("tiny"),
        COUNTS,
        {"train": ("fox", "bear", "dog", "cup"), "test": ("elk",)},
        SIZE,
    )


def draw(manifest, count, **options):
    options = {"shots": 2, "queries": 3, "seed": 1, "image_size": SIZE, **options}
    dataset = episode_dataset(manifest, options.pop("split", "train"), **options)
    return list(itertools.islice(dataset, count))


def fixed(manifest, classes, **options):
    options = {"shots": 2, "seed": 1, "image_size": SIZE, **options}
    return list(fixed_episodes(manifest, classes, **options))


def assert_equal(episodes, others):
    assert len(episodes) == len(others)
    tf.nest.map_structure(np.testing.assert_array_equal, episodes, others)


def test_shapes_and_types(manifest):
    dataset = episode_dataset(
        str(manifest.directory), "train", shots=2, queries=3, seed=0, image_size=64
    )
    expected = Episode(
        tf.TensorSpec([2, 64, 64, 3], tf.uint8),
        tf.TensorSpec([2, 64, 64], tf.uint8),
        tf.TensorSpec([3, 64, 64, 3], tf.uint8),
        tf.TensorSpec([3, 64, 64], tf.uint8),
        tf.TensorSpec([], tf.string),
    )
    assert dataset.element_spec == expected
    batched = episode_dataset(
        manifest,
        "train",
        shots=2,
        queries=3,
        seed=0,
        image_size=64,
        meta_batch=3,
    ).element_spec
    assert [spec.shape for spec in batched] == [[3, *spec.shape] for spec in expected]


@pytest.mark.parametrize("ways", [1, 3])
@pytest.mark.parametrize("seed", [0, 12345678901, -5])
def test_support_and_query_never_share_an_example(manifest, ways, seed):
    for episode in draw(manifest, 60, ways=ways, seed=seed):
        names = episode.name.numpy().decode().split("+")
        assert len(set(names)) == ways and set(names) <= set(manifest.split("train"))
        support = sources(episode.support_images)
        query = sources(episode.query_images)
        assert len(set(support + query)) == 5 * ways
        # Way by way, and each of the class that the name says.
        expected = [class_number(name) for name in names]
        assert [source[0] for source in support] == np.repeat(expected, 2).tolist()
        assert [source[0] for source in query] == np.repeat(expected, 3).tolist()


@pytest.mark.parametrize("meta_batch", [None, 1, 3])
def test_resumed_at_a_step_gives_the_same(manifest, meta_batch):
    episodes = draw(manifest, 12, meta_batch=meta_batch)
    resumed = draw(manifest, 5, meta_batch=meta_batch, start_step=7)
    assert_equal(episodes[7:], resumed)


def test_steps_and_seeds_differ(manifest):
    drawn = [
        tuple(sources(e.support_images) + sources(e.query_images))
        for seed in (1, 2)
        for e in draw(manifest, 20, seed=seed)
    ]
    # Chance repeats one of the 4 * 6! and more orders with probability below 1/4.
    assert len(set(drawn)) >= 38


def test_order_of_the_split_list_does_not_matter(manifest, tmp_path):
    list_file = tmp_path / "train.txt"
    list_file.write_text("dog\ncup\nbear\nfox\n")
    others = draw(manifest, 8, splits=f"train={list_file}")
    assert_equal(draw(manifest, 8), others)


# A budget for none, for one class of six and for all classes.
@pytest.mark.parametrize("meta_batch", [None, 2])
@pytest.mark.parametrize("cache_bytes", [0, 7 * 32 * 48 * 4, None])
def test_memory_does_not_change_the_episodes(manifest, cache_bytes, meta_batch):
    expected = draw(manifest, 12, cache_bytes=2**30, meta_batch=meta_batch)
    given = draw(manifest, 12, cache_bytes=cache_bytes, meta_batch=meta_batch)
    assert_equal(expected, given)


def test_classes_and_examples_are_drawn_uniformly(manifest):
    episodes = draw(manifest, 400, shots=1, queries=1)
    names, counts = np.unique([e.name.numpy() for e in episodes], return_counts=True)
    assert len(names) == 4
    # Five standard deviations of a binomial.
    assert np.abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)
    of_fox = [s for e in episodes for s in sources(e.support_images)]
    of_fox = [example for number, example in of_fox if number == class_number("fox")]
    assert set(of_fox) == set(range(6))


def test_meta_batch_draws_classes_without_replacement(manifest):
    for episode in draw(manifest, 30, meta_batch=4):
        assert len(set(episode.name.numpy())) == 4
    for episode in draw(manifest, 30, meta_batch=2, ways=2):
        names = b"+".join(episode.name.numpy()).split(b"+")
        assert len(set(names)) == 4


def test_meta_batch_may_be_larger_than_the_split(manifest):
    seen = set()
    for episode in draw(manifest, 20, meta_batch=3, ways=2):
        for name in episode.name.numpy():
            first, second = name.split(b"+")
            assert first != second
            seen |= {first, second}
    assert len(seen) == 4


def test_ways_are_the_values_of_the_masks(manifest):
    (episode,) = draw(manifest, 1, ways=2)
    mask = tiny_mask(SIZE)
    for way in (1, 2):
        expected = np.where(mask == 1, way, mask)
        for masks, count in ((episode.support_masks, 2), (episode.query_masks, 3)):
            for given in masks[(way - 1) * count : way * count]:
                np.testing.assert_array_equal(given, expected)


def shared_dataset(directory):
    """Six pictures, four of which are there under both classes, in other halves."""
    classes = {}
    for name, numbers, rows in ("a", range(5), 0), ("b", range(1, 6), 1):
        mask = np.zeros(SIZE, np.uint8)
        mask[16 * rows :][:16, :10] = 1
        mask[:, 40:] = 255
        examples = [
            list(tiny_examples("both", 6, SIZE))[number]._replace(
                mask=tf.io.encode_png(mask[..., None]).numpy()
            )
            for number in numbers
        ]
        info = write_shard(directory / f"{name}.tfrecord", examples)
        classes[name] = ClassEntry(f"{name}.tfrecord", info.count, info.sha256)
    manifest = Manifest("shared", classes, {"train": ("a", "b")}, directory)
    manifest.save()
    return manifest


@pytest.mark.parametrize("cache_bytes", [0, None])
def test_a_picture_of_several_classes_shows_those_of_the_episode(tmp_path, cache_bytes):
    manifest = shared_dataset(tmp_path)
    options = {"ways": 2, "queries": 1, "shots": 1, "cache_bytes": cache_bytes}
    for episode in draw(manifest, 6, **options):
        names = episode.name.numpy().decode().split("+")
        pictures = [n for _, n in sources(episode.support_images)]
        pictures += [n for _, n in sources(episode.query_images)]
        assert len(set(pictures)) == 4
        masks = np.concatenate([episode.support_masks, episode.query_masks])
        for picture, mask in zip(pictures, masks, strict=True):
            a, b = (names.index(name) + 1 for name in "ab")
            assert (mask[:16, :10] == (a if picture < 5 else 0)).all()
            assert (mask[16:, :10] == (b if picture > 0 else 0)).all()
            assert (mask[:, 40:] == 255).all()


@pytest.mark.parametrize("cache_bytes", [0, None])
def test_pictures_may_be_drawn_before_their_class(tmp_path, cache_bytes):
    manifest = shared_dataset(tmp_path)
    options = {"shots": 2, "queries": 2, "draw": "image", "cache_bytes": cache_bytes}
    seen = []
    for episode in draw(manifest, 300, **options):
        (_, first), (_, second) = sources(episode.query_images)
        support = [n for _, n in sources(episode.support_images)]
        assert len({first, second, *support}) == 4
        seen.append((first, episode.name.numpy().decode()))
    # Six pictures, each as often as any other; the first and last have one class.
    for picture, classes in enumerate(["a", "ab", "ab", "ab", "ab", "b"]):
        for name in classes:
            expected = 300 / 6 / len(classes)
            assert abs(seen.count((picture, name)) - expected) < 4 * expected**0.5
    (again,) = draw(manifest, 1, start_step=7, **options)
    assert_equal([again], draw(manifest, 8, **options)[7:])


def test_labels_of_the_dataset(tmp_path):
    manifest = shared_dataset(tmp_path)
    options = {"shots": 1, "queries": 1, "labels": "dataset"}
    for episode in draw(manifest, 6, **options):
        for image, mask in (
            (episode.support_images[0], episode.support_masks[0]),
            (episode.query_images[0], episode.query_masks[0]),
        ):
            ((_, picture),) = sources(image[tf.newaxis])
            assert (mask[:16, :10] == (1 if picture < 5 else 0)).numpy().all()
            assert (mask[16:, :10] == (2 if picture > 0 else 0)).numpy().all()
            assert (mask[:, 40:] == 255).numpy().all()


def test_fixed_episodes_of_several_ways(manifest):
    episodes = fixed(manifest, "train", ways=3, queries=1, splits_per_task=2)
    assert len(episodes) == 8
    for (episode, name, _), own in zip(
        episodes, np.repeat(sorted(manifest.split("train")), 2), strict=True
    ):
        names = name.split("+")
        assert names[0] == own
        assert len(set(names)) == 3
        seen = [class_number(n) for n in names for _ in range(2)]
        assert [c for c, _ in sources(episode.support_images)] == seen
    assert_equal(
        [e for e, _, _ in episodes],
        [
            e
            for e, _, _ in fixed(
                manifest, "train", ways=3, queries=1, splits_per_task=2
            )
        ],
    )
    with pytest.raises(UserError, match="needs `ways`=5 classes, and there are 4"):
        fixed(manifest, "train", ways=5, queries=1)


@pytest.mark.parametrize("cache_bytes", [0, None])
def test_ignored_pixels_travel_through_resizing(manifest, cache_bytes):
    (episode,) = draw(manifest, 1, image_size=(16, 96), cache_bytes=cache_bytes)
    expected = np.repeat(tiny_mask(SIZE)[::2], 2, axis=1)
    assert set(np.unique(expected)) == {0, 1, 255}
    for masks in (episode.support_masks, episode.query_masks):
        for mask in masks:
            np.testing.assert_array_equal(mask, expected)


def test_dataset_outlives_everything_but_itself(manifest):
    episodes = iter(
        episode_dataset(
            manifest, "train", shots=2, queries=3, seed=1, image_size=SIZE
        ).prefetch(1)
    )
    gc.collect()
    given = [next(episodes) for _ in range(3)]
    assert_equal(draw(manifest, 3), given)


def test_fixed_episodes_visit_classes_in_order_of_names(manifest):
    tasks = fixed(manifest, "train", queries=3, splits_per_task=2)
    expected = [(n, d) for n in ("bear", "cup", "dog", "fox") for d in (0, 1)]
    assert [(name, number) for _, name, number in tasks] == expected
    for episode, name, _ in tasks:
        assert episode.name.numpy().decode() == name
        drawn = sources(episode.support_images) + sources(episode.query_images)
        assert len(set(drawn)) == 5
        assert {number for number, _ in drawn} == {class_number(name)}


def test_fixed_episodes_take_all_remaining_queries(manifest):
    for episode, name, _ in fixed(manifest, "all"):
        drawn = sources(episode.support_images) + sources(episode.query_images)
        assert episode.support_images.shape[0] == 2
        assert sorted(e for _, e in drawn) == list(range(COUNTS[name]))


@pytest.mark.parametrize("queries", [None, 3])
def test_fixed_episodes_do_not_depend_on_the_other_classes(manifest, queries):
    every = fixed(manifest, "all", queries=queries, splits_per_task=3)
    by_key = {(name, number): episode for episode, name, number in every}
    for classes in (["fox", "cup"], ["elk"], ["dog", "bear", "fox", "elk"]):
        some = fixed(
            manifest, classes, queries=queries, splits_per_task=2, cache_bytes=0
        )
        assert len(some) == 2 * len(classes)
        for episode, name, number in some:
            assert_equal(episode, by_key[name, number])


def test_fixed_episodes_differ_by_class_draw_and_seed(manifest):
    drawn = {
        tuple(example for _, example in sources(episode.query_images))
        for seed in (1, 2)
        for episode, _, _ in fixed(
            manifest, ["bear", "fox"], seed=seed, splits_per_task=3
        )
    }
    # 12 draws of one of 6 * 5 * 4 * 3 orders.
    assert len(drawn) >= 10


BAD = [
    ({"split": "trian"}, "has no split 'trian'; choose one of: train, test, all"),
    ({"shots": 3}, "class 'dog' of dataset tiny has 5 examples"),
    ({"shots": 3}, "`shots` + `queries` = 3 + 3; lower them or add examples"),
    ({"shots": 4}, "class 'bear' (and 2 other classes)"),
    ({"ways": 5}, "has 4 classes, but `ways` is 5"),
    ({"ways": 0}, "`ways` must be at least 1, received 0"),
    ({"ways": 255}, "`ways` must be below 255, received 255"),
    ({"shots": 0}, "`shots` must be at least 1, received 0"),
    ({"queries": 0}, "`queries` must be at least 1, received 0"),
    ({"meta_batch": 0}, "`meta_batch` must be at least 1, received 0"),
    ({"start_step": -1}, "`start_step` must be at least 0, received -1"),
    ({"image_size": 0}, "`image_size` must be positive, received 0x0"),
    ({"splits": "nonsense"}, "unknown splits 'nonsense'"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_one_clear_line(manifest, options, message):
    with pytest.raises(UserError) as caught:
        draw(manifest, 1, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ("val", {}, "has no split 'val'"),
        (["bear", "bee"], {}, "has no class 'bee'"),
        ("train", {"shots": 5}, "class 'dog' of dataset tiny has 5 examples"),
        ("train", {"queries": 4}, "`shots` + `queries` = 2 + 4"),
        ("train", {"queries": 0}, "`queries` must be at least 1, received 0"),
        ("train", {"splits_per_task": 0}, "`splits_per_task` must be at least 1"),
    ],
)
def test_bad_meta_tests_fail_before_the_first_episode(
    manifest, classes, options, message
):
    options = {"shots": 2, "seed": 1, "image_size": SIZE, **options}
    with pytest.raises(UserError) as caught:
        fixed_episodes(manifest, classes, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)
