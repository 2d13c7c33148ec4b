import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.data import image_store
from efficientlab_tf.data.episodes import episode_dataset, fixed_episodes
from efficientlab_tf.data.image_store import ImageStore
from efficientlab_tf.data.records import FRAME_BYTES, read_shard, write_shard
from efficientlab_tf.errors import UserError
from tests.data.tiny_dataset import class_number, sources, tiny_dataset, tiny_examples

SIZE = (32, 48)
PAIR_BYTES = 32 * 48 * 4
COUNTS = {"bear": 3, "cup": 5, "dog": 2, "elk": 4}


@pytest.fixture
def manifest(tmp_path):
    return tiny_dataset(tmp_path / "tiny", COUNTS, size=SIZE)


def check_all(store):
    for index, (name, count) in enumerate(COUNTS.items()):
        for examples in ([0], list(range(count))[::-1]):
            images, masks = store.images(tf.constant(index), tf.constant(examples))
            assert images.dtype == masks.dtype == tf.uint8
            expected = [(class_number(name), example) for example in examples]
            assert sources(images) == expected
            assert masks.shape == [len(examples), *SIZE]
            assert set(np.unique(masks)) == {0, 1, 255}


@pytest.mark.parametrize(
    ("budget", "cached"), [(0, 0), (3, 1), (6, 2), (8, 2), (13, 3), (14, 4)]
)
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_serves_every_pair_at_any_budget(manifest, monkeypatch, budget, cached, chunk):
    monkeypatch.setattr(image_store, "_CHUNK_BYTES", chunk * PAIR_BYTES)
    store = ImageStore(manifest, tuple(COUNTS), SIZE, budget * PAIR_BYTES)
    assert store.cached_classes == cached
    check_all(store)


def test_serves_inside_tf_data(manifest):
    for budget in (0, 9, 14):
        store = ImageStore(manifest, tuple(COUNTS), SIZE, budget * PAIR_BYTES)
        dataset = tf.data.Dataset.range(4).map(
            lambda index, store=store: store.images(
                tf.cast(index, tf.int32), tf.constant([1, 0])
            )
        )
        assert dataset.element_spec[0].shape == [2, *SIZE, 3]
        for name, (images, _) in zip(COUNTS, dataset, strict=True):
            assert sources(images) == [(class_number(name), 1), (class_number(name), 0)]


def test_outside_the_memory_only_what_is_drawn_is_read(manifest):
    store = ImageStore(manifest, tuple(COUNTS), SIZE, 0)
    path = manifest.shard_path("cup")
    size = len(next(read_shard(path)))
    content = path.read_bytes()
    path.write_bytes(b"\0" * (size + FRAME_BYTES) + content[size + FRAME_BYTES :])
    images, _ = store.images(tf.constant(1), tf.constant([4, 1]))
    assert sources(images) == [(class_number("cup"), 4), (class_number("cup"), 1)]
    with pytest.raises(tf.errors.OpError):
        store.images(tf.constant(1), tf.constant([1, 0]))


def test_without_a_budget_takes_half_of_the_free_memory(manifest, monkeypatch):
    class Memory:
        available = 2 * 8 * PAIR_BYTES

    monkeypatch.setattr(image_store.psutil, "virtual_memory", Memory)
    assert ImageStore(manifest, tuple(COUNTS), SIZE).cached_classes == 2


def damage_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def drop_all(path):
    path.write_bytes(b"")


def drop_record(path):
    write_shard(path, tiny_examples("dog", 1, SIZE))


def add_records(path):
    write_shard(path, tiny_examples("dog", 5, SIZE))


def break_image(path):
    first, second = tiny_examples("dog", 2, SIZE)
    write_shard(path, [first, second._replace(image=second.image[:40])])


def break_mask(path):
    first, second = tiny_examples("dog", 2, SIZE)
    write_shard(path, [first, second._replace(mask=b"not a picture")])


def store_foreign_records(path):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(2):
            writer.write(b"not an example")


def store_binary_records(path):
    # TensorFlow's message quotes them and so is not UTF-8 itself.
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(2):
            writer.write(b"\xff" * 9)


def remove(path):
    path.unlink()


DAMAGE = [
    (damage_bit, "record 1: truncated or corrupt"),
    (truncate, "record 1: truncated or corrupt"),
    (drop_all, "0 records, but the manifest says 2"),
    (drop_record, "1 records, but the manifest says 2"),
    (add_records, "5 records, but the manifest says 2"),
    (break_image, "record 1: cannot decode it (Invalid PNG"),
    (break_mask, "record 1: cannot decode it (Unknown image file format"),
    (store_foreign_records, "record 0: cannot decode it (Could not parse"),
    (store_binary_records, "record 0: cannot decode it"),
    (remove, "no shard"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
@pytest.mark.parametrize("cache_bytes", [0, None])
def test_damaged_shards_are_named_at_the_start(manifest, damage, message, cache_bytes):
    path = manifest.shard_path("dog")
    damage(path)
    options = {"seed": 0, "image_size": SIZE, "cache_bytes": cache_bytes}
    for make in (
        lambda: episode_dataset(manifest, "train", shots=1, queries=1, **options),
        lambda: fixed_episodes(manifest, "train", shots=1, **options),
    ):
        with pytest.raises(UserError) as caught:
            make()
        text = str(caught.value)
        assert str(path) in text and message in text and "\n" not in text
