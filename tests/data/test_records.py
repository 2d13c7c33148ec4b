"""Shards: what is stored comes back, and damage is named."""

import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.data.cleaning import encode_mask
from efficientlab_tf.data.records import (
    Example,
    decode_example,
    encode_example,
    parse_record,
    read_shard,
    write_shard,
)
from efficientlab_tf.errors import UserError

HEIGHT, WIDTH = 24, 32


def make_arrays(seed=0):
    rng = np.random.default_rng(seed)
    # Smooth, so that JPEG keeps it nearly as it is.
    coarse = rng.integers(0, 256, (3, 4, 3), np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (HEIGHT, WIDTH))
    return np.asarray(image), mask


def make_example(image_format="png", seed=0):
    image, mask = make_arrays(seed)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, image_format, quality=95)
    return Example(
        filename=f"{seed}.{image_format}",
        image=buffer.getvalue(),
        image_format=image_format,
        mask=encode_mask(mask),
        height=HEIGHT,
        width=WIDTH,
    )


def test_features_bear_deeplabs_names():
    example = make_example("jpeg")
    record = tf.train.Example.FromString(encode_example(example))
    feature = record.features.feature
    assert set(feature) == {
        "image/encoded",
        "image/format",
        "image/filename",
        "image/height",
        "image/width",
        "image/segmentation/class/encoded",
        "image/segmentation/class/format",
    }
    assert feature["image/encoded"].bytes_list.value == [example.image]
    assert feature["image/segmentation/class/format"].bytes_list.value == [b"png"]
    assert feature["image/height"].int64_list.value == [HEIGHT]


def test_parse_record_returns_what_was_encoded():
    example = make_example("jpeg", seed=3)
    record = parse_record(encode_example(example))
    assert record["image"].numpy() == example.image
    assert record["mask"].numpy() == example.mask
    assert record["image_format"].numpy() == b"jpeg"
    assert record["filename"].numpy() == b"3.jpeg"
    assert (int(record["height"]), int(record["width"])) == (HEIGHT, WIDTH)


def test_png_and_mask_come_back_exactly():
    image, mask = make_arrays()
    decoded_image, decoded_mask = decode_example(
        encode_example(make_example("png")), None
    )
    assert decoded_image.dtype == decoded_mask.dtype == tf.uint8
    np.testing.assert_array_equal(decoded_image, image)
    np.testing.assert_array_equal(decoded_mask, mask)


def test_jpeg_comes_back_as_another_decoder_reads_it():
    example = make_example("jpeg")
    decoded, _ = decode_example(encode_example(example), None)
    expected = np.asarray(Image.open(io.BytesIO(example.image))).astype(int)
    assert np.abs(decoded.numpy().astype(int) - expected).max() <= 2


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_resize_is_the_same_eagerly_and_in_tf_data(image_format):
    serialized = encode_example(make_example(image_format))
    image, mask = decode_example(serialized, (16, 48))
    assert image.shape == (16, 48, 3) and mask.shape == (16, 48)
    # Nearest: no new labels, so no mixture of a class and "unknown".
    assert set(np.unique(mask)) <= {0, 1, 2, 255}
    dataset = tf.data.Dataset.from_tensors(serialized).map(
        lambda record: decode_example(record, (16, 48))
    )
    assert dataset.element_spec[0].shape == (16, 48, 3)
    in_pipeline = next(iter(dataset))
    np.testing.assert_array_equal(in_pipeline[0], image)
    np.testing.assert_array_equal(in_pipeline[1], mask)


def test_size_as_stored_is_not_resampled():
    image, mask = make_arrays()
    decoded_image, decoded_mask = decode_example(
        encode_example(make_example("png")), (HEIGHT, WIDTH)
    )
    np.testing.assert_array_equal(decoded_image, image)
    np.testing.assert_array_equal(decoded_mask, mask)


def test_image_and_mask_are_resized_alike():
    mask = np.zeros((40, 40), np.uint8)
    mask[8:24, 16:32] = 1
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(mask[..., None] * 255, 3, -1)).save(buffer, "png")
    example = Example("a.png", buffer.getvalue(), "png", encode_mask(mask), 40, 40)
    image, resized = decode_example(encode_example(example), 20)
    np.testing.assert_array_equal(image[..., 0].numpy() >= 128, resized.numpy() == 1)


def test_unknown_image_format_is_refused():
    with pytest.raises(UserError, match="image format is 'gif', expected one of jpeg"):
        encode_example(make_example()._replace(image_format="gif"))


def test_shard_roundtrip_in_order(tmp_path):
    examples = [make_example(seed=seed) for seed in range(5)]
    path = tmp_path / "a.tfrecord"
    info = write_shard(path, examples)
    assert info.count == 5
    assert list(read_shard(path)) == [encode_example(example) for example in examples]
    assert write_shard(tmp_path / "b.tfrecord", examples).sha256 == info.sha256
    assert sorted(os.listdir(tmp_path)) == ["a.tfrecord", "b.tfrecord"]


def test_failed_write_leaves_the_old_shard(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_shard(path, [make_example()])
    before = path.read_bytes()

    def examples():
        yield make_example(seed=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(path, examples())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.tfrecord"]


def test_write_into_no_folder(tmp_path):
    with pytest.raises(UserError, match="cannot write shard .*none/a.tfrecord") as info:
        write_shard(tmp_path / "none" / "a.tfrecord", [make_example()])
    assert "\n" not in str(info.value)


def test_damaged_shard_is_named_with_its_record(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_shard(path, [make_example(seed=seed) for seed in range(3)])
    content = path.read_bytes()
    # 12 bytes of header and 4 of checksum enclose each record.
    third = sum(len(encode_example(make_example(seed=seed))) + 16 for seed in range(2))

    path.write_bytes(content[: third + 100])
    with pytest.raises(UserError, match="a.tfrecord, record 2: truncated or corrupt"):
        list(read_shard(path))

    flipped = bytearray(content)
    flipped[third - 100] ^= 1
    path.write_bytes(flipped)
    records = read_shard(path)
    assert next(records) == encode_example(make_example(seed=0))
    with pytest.raises(UserError, match="a.tfrecord, record 1: truncated or corrupt"):
        next(records)


def test_missing_shard(tmp_path):
    with pytest.raises(UserError, match="no shard .*gone.tfrecord"):
        list(read_shard(tmp_path / "gone.tfrecord"))
