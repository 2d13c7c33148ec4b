"""Damage to a dataset is named with its shard and its record."""

import struct
from dataclasses import replace

import pytest
import tensorflow as tf

from efficientlab_tf.data.convert import convert
from efficientlab_tf.data.example import ClassData
from efficientlab_tf.data.manifest import ClassEntry, Manifest
from efficientlab_tf.data.records import (
    encode_example,
    file_sha256,
    read_shard,
)
from efficientlab_tf.data.verify import masked_crc32c, read_frames, verify_dataset
from tests.data.converting import fss1000, stored_example
from tools import verify


def damage(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 16
    path.write_bytes(content)


def test_verify_accepts_a_sound_dataset(source, tmp_path, capsys):
    fss1000(source, tmp_path / "out")
    assert verify.main([str(tmp_path / "out")]) == 0
    assert "OK: " in capsys.readouterr().out


def test_verify_names_shard_and_record_of_each_fault(source, tmp_path, capsys):
    output = tmp_path / "out"
    fss1000(source, output)
    ant, bee = output / "ant.tfrecord", output / "bee.tfrecord"
    first = len(next(read_shard(ant))) + 16
    # A flipped bit in the first record and one in the third; a cut in the second.
    damage(ant, 200)
    damage(ant, ant.stat().st_size - 50)
    bee.write_bytes(bee.read_bytes()[: first + 300])
    assert verify.main([str(output)]) == 1
    captured = capsys.readouterr()
    faults = [line for line in captured.err.splitlines() if line.startswith("fault: ")]
    assert len(faults) == 6
    for expected in (
        "ant.tfrecord: sha256 differs",
        "ant.tfrecord, record 0: corrupt",
        "ant.tfrecord, record 2: corrupt",
        "bee.tfrecord: sha256 differs",
        "bee.tfrecord, record 1: truncated",
        "bee.tfrecord: 2 records, the manifest says 3",
    ):
        assert any(expected in fault for fault in faults), expected
    assert "6 faults" in captured.out and "2 examples" in captured.out


def test_verify_sees_a_damaged_record_length(source, tmp_path):
    fss1000(source, tmp_path / "out")
    damage(tmp_path / "out" / "ant.tfrecord", 1)
    faults = verify_dataset(tmp_path / "out").faults
    assert any("record 0: corrupt length" in fault for fault in faults)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"image": b"no image"}, "1.png: cannot be decoded"),
        (
            {"image_format": "jpeg", "image": b"\xff\xd8\xff"},
            "1.png: cannot be decoded",
        ),
        ({"height": 3}, "image is 2x2, mask 2x2, the record says 3x2"),
    ],
)
def test_verify_decodes_every_example(tmp_path, change, expected):
    examples = [stored_example(), stored_example()._replace(**change)]
    convert([ClassData("ant", examples, [])], ["ant"], tmp_path)
    (fault,) = verify_dataset(tmp_path).faults
    assert "ant.tfrecord, record 1: " in fault and expected in fault


def test_verify_sees_a_foreign_record(tmp_path):
    convert([ClassData("ant", [stored_example()] * 2, [])], ["ant"], tmp_path)
    with tf.io.TFRecordWriter(str(tmp_path / "ant.tfrecord")) as writer:
        writer.write(encode_example(stored_example()))
        writer.write(b"something else")
    faults = verify_dataset(tmp_path).faults
    assert any("record 1: not an example with DeepLab's" in fault for fault in faults)


def test_verify_goes_on_after_records_that_nobody_can_parse(tmp_path):
    convert([ClassData("ant", [stored_example()] * 2, [])], ["ant"], tmp_path)
    shard = tmp_path / "ant.tfrecord"
    good = encode_example(stored_example())
    with tf.io.TFRecordWriter(str(shard)) as writer:
        # TensorFlow's message quotes the first and so is not UTF-8 itself.
        for record in (b"\xff" * 9, good, good):
            writer.write(record)
    # A checksum in the middle one that does not match, in a file whose digest does.
    damage(shard, 9 + 16 + 100)
    manifest = Manifest.load(tmp_path)
    entry = ClassEntry("ant.tfrecord", 3, file_sha256(shard))
    replace(manifest, classes={"ant": entry}).save()
    result = verify_dataset(tmp_path)
    assert [fault.partition("record ")[2][:10] for fault in result.faults] == [
        "0: not an ",
        "1: corrupt",
    ]
    assert result.examples == 1


def test_verify_survives_a_length_that_no_memory_holds(tmp_path):
    path = tmp_path / "a.tfrecord"
    header = struct.pack("<Q", 2**62)
    path.write_bytes(header + struct.pack("<I", masked_crc32c(header)) + b"rest")
    ((_, record, fault),) = read_frames(path)
    assert record is None and fault == f"truncated: 4 of {2**62 + 4} bytes are there"
