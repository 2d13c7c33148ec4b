"""Conversion from end to end, with sound and with bad input, and killed half-way."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.convert import convert
from efficientlab_tf.data.example import ClassData
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import (
    decode_example,
    read_shard,
)
from efficientlab_tf.data.verify import verify_dataset
from efficientlab_tf.errors import UserError
from tests.data.converting import (
    SIDE,
    TOOLS,
    arguments,
    converter,
    fill,
    fss1000,
    lists,
    make_arrays,
    report,
    stored_example,
)
from tests.data.test_sources import bright_half, write_mliis


def test_fss1000_end_to_end(source, tmp_path, capsys):
    output = tmp_path / "deep" / "out"
    splits = lists(tmp_path, train=["ant"], test=["bee"])
    assert fss1000(source, output, "--splits", splits) == 0
    assert "2 classes, 6 examples" in capsys.readouterr().out
    assert report(output) == []
    assert sorted(os.listdir(output)) == [
        "ant.tfrecord",
        "bee.tfrecord",
        "dataset.json",
        "report.csv",
    ]
    manifest = Manifest.load(output)
    assert manifest.name == "out"
    assert manifest.splits == {"train": ("ant",), "test": ("bee",)}
    for index, record in enumerate(read_shard(manifest.shard_path("bee")), start=1):
        _, mask = decode_example(record, None)
        np.testing.assert_array_equal(mask, make_arrays(index)[1] // 255)
    assert index == manifest.classes["bee"].count == 3


def test_every_bad_example_is_reported_and_the_rest_is_written(
    source, tmp_path, capsys
):
    ant = source / "ant"
    fill(ant, ant, count=6, first=4)
    (ant / "4.png").unlink()
    (ant / "5.jpg").unlink()
    (ant / "6.jpg").write_bytes((ant / "6.jpg").read_bytes()[:400])
    Image.new("L", (SIDE, SIDE // 2), 255).save(ant / "7.png")
    grey = make_arrays(8)[1]
    grey[0, :5] = 77
    Image.fromarray(grey).save(ant / "8.png")
    output = tmp_path / "out"
    assert fss1000(source, output) == 0
    rows = {row[1]: row for row in report(output)}
    expected = {
        "4.jpg": ("refused", "image without mask"),
        "5.png": ("refused", "mask without image"),
        "6.jpg": ("refused", "truncated or corrupt"),
        "7.png": ("refused", "mask is 24x12, image 24x24"),
        "8.png": ("changed", "stray grey levels in 5 of 576 pixels"),
    }
    assert set(rows) == set(expected)
    for file, (action, reason) in expected.items():
        assert rows[file][0] == "ant" and rows[file][2] == action
        assert reason in rows[file][3]
    manifest = Manifest.load(output)
    assert manifest.classes["ant"].count == 5
    assert manifest.classes["bee"].count == 3
    assert verify_dataset(output).faults == []
    captured = capsys.readouterr()
    assert "refused: ant/4.jpg: image without mask" in captured.err
    assert "1 files changed, 4 refused" in captured.out


def test_classes_with_too_few_examples_are_named_and_left_out(source, tmp_path, capsys):
    (source / "empty").mkdir()
    fill(source / "cat", source / "cat", count=1)
    output = tmp_path / "out"
    splits = lists(tmp_path, train=["ant", "cat", "empty"], test=["bee"])
    assert fss1000(source, output, "--splits", splits) == 1
    errors = capsys.readouterr().err
    assert "class empty left out: 0 usable examples" in errors
    assert "class cat left out: 1 usable examples" in errors
    manifest = Manifest.load(output)
    assert set(manifest.classes) == {"ant", "bee"}
    assert manifest.splits == {"train": ("ant",), "test": ("bee",)}
    assert fss1000(source, output, "--min_examples", "1", "--overwrite") == 1
    assert set(Manifest.load(output).classes) == {"ant", "bee", "cat"}


def test_no_usable_class_writes_the_report_alone(tmp_path, capsys):
    fill(tmp_path / "in" / "ant", tmp_path / "in" / "ant", count=1)
    (tmp_path / "in" / "ant" / "1.png").unlink()
    output = tmp_path / "out"
    assert fss1000(tmp_path / "in", output) == 1
    assert os.listdir(output) == ["report.csv"]
    assert report(output) == [["ant", "1.jpg", "refused", "image without mask"]]
    assert "no dataset.json was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    "splits, expected",
    [
        ({"train": ["ant", "yak"]}, "'yak' (train)"),
        ({"train": ["ant"], "test": ["ant"]}, "'ant' is in the splits"),
    ],
)
def test_bad_splits_are_found_before_anything_is_written(
    source, tmp_path, splits, expected
):
    with pytest.raises(UserError) as info:
        fss1000(source, tmp_path / "out", "--splits", lists(tmp_path, **splits))
    assert expected in str(info.value)
    assert not (tmp_path / "out").exists()


def test_an_existing_dataset_is_replaced_only_when_asked(source, tmp_path):
    output = tmp_path / "out"
    fss1000(source, output)
    with pytest.raises(UserError, match="already holds a dataset.*--overwrite"):
        fss1000(source, output)
    (source / "bee").rename(source / "cow")
    assert fss1000(source, output, "--overwrite", "--image_size", "16") == 0
    assert sorted(path.name for path in output.glob("*.tfrecord")) == [
        "ant.tfrecord",
        "cow.tfrecord",
    ]
    assert report(output)[0] == [
        "ant",
        "1.jpg",
        "changed",
        "resized from 24x24 to 16x16",
    ]
    assert verify_dataset(output).faults == []


def test_output_where_nothing_can_be_written(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write into .*file/out"):
        fss1000(source, tmp_path / "file" / "out")


def test_a_failed_conversion_leaves_the_older_dataset(source, tmp_path):
    output = tmp_path / "out"
    fss1000(source, output)
    before = Manifest.load(output)

    def classes():
        yield ClassData("ant", [stored_example(), stored_example()], [])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(classes(), ["ant", "bee"], output, overwrite=True)
    assert Manifest.load(output) == before
    assert verify_dataset(output).faults == []
    assert not (output / ".partial").exists()


def test_a_killed_conversion_leaves_nothing_half_written(tmp_path):
    source = tmp_path / "source"
    fill(source / "class_0", source / "class_0", count=2)
    for index in range(1, 300):
        # Links make many classes in little time.
        (source / f"class_{index}").symlink_to(source / "class_0")
    output = tmp_path / "out"
    command = [sys.executable, str(TOOLS / "convert_fss1000.py")]
    process = subprocess.Popen(
        [*command, *arguments(source, output, "--workers", "2")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(output.glob(".partial/*.tfrecord")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [name for name in os.listdir(output) if not name.startswith(".")] == []
    with pytest.raises(UserError, match="has no dataset.json"):
        Manifest.load(output)
    assert fss1000(source, output) == 0
    assert len(Manifest.load(output).classes) == 300
    assert not (output / ".partial").exists()


def test_mliis_end_to_end(tmp_path):
    image = np.zeros((224, 224, 3), np.uint8)
    record = {"image": image.tobytes(), "mask": bright_half(224, 224).tobytes()}
    write_mliis(tmp_path / "bear.tfrecord.gzip", [record] * 2)
    argv = arguments(tmp_path, tmp_path / "out")
    assert converter("mliis")(argv) == 0
    assert verify_dataset(tmp_path / "out").examples == 2
