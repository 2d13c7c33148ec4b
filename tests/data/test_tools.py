"""The tools from end to end on small folders, with sound and with bad input."""

import csv
import importlib.util
import io
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.data.convert import convert
from efficientlab_tf.data.example import ClassData, Example
from efficientlab_tf.data.manifest import ClassEntry, Manifest
from efficientlab_tf.data.records import (
    decode_example,
    encode_example,
    file_sha256,
    read_shard,
)
from efficientlab_tf.data.split_lists import load_splits
from efficientlab_tf.data.verify import masked_crc32c, read_frames, verify_dataset
from efficientlab_tf.errors import UserError, run_command
from tests.data.test_sources import bright_half, write_mliis
from tools import convert as converting
from tools import inspect_dataset, verify

TOOLS = Path(__file__).parents[2] / "tools"
SIDE = 24


def tool(name):
    """Imports tools/NAME.py, which is not part of the package."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def converter(source):
    """The command that converts a source, as a function of its options."""
    return lambda argv: converting.main([source, *argv])


def make_arrays(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4 : 8 + seed % 8, 6:20] = 255
    return image, mask


def fill(images, masks, count=3, first=1):
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        image, mask = make_arrays(index)
        Image.fromarray(image).save(images / f"{index}.jpg", quality=95)
        Image.fromarray(mask).save(masks / f"{index}.png")


@pytest.fixture
def source(tmp_path):
    """Two sound classes in FSS-1000's layout."""
    source = tmp_path / "source"
    for name in ("ant", "bee"):
        fill(source / name, source / name)
    return source


def arguments(source, output, *more):
    return ["--input_dir", str(source), "--output_dir", str(output), *more]


def fss1000(source, output, *more):
    argv = arguments(source, output, "--workers", "1", *more)
    return converter("fss1000")(argv)


def report(output):
    with open(output / "report.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", "file", "action", "reason"]
    return rows


def lists(tmp_path, **splits):
    parts = []
    for split, names in splits.items():
        path = tmp_path / f"{split}.txt"
        path.write_text("\n".join(names))
        parts.append(f"{split}={path}")
    return ",".join(parts)


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


def stored_example():
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG")
    return Example("1.png", buffer.getvalue(), "png", buffer.getvalue(), 2, 2)


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


def test_folder_end_to_end(tmp_path):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks")
    output = tmp_path / "out"
    argv = arguments(mugs, output, "--class_name", "mug", "--workers", "1")
    assert converter("folder")(argv) == 0
    manifest = Manifest.load(output)
    assert manifest.split("all") == ("mug",)
    assert manifest.classes["mug"].count == 3


def test_folder_with_a_refused_file_says_so_by_its_status(tmp_path, capsys):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks")
    (mugs / "masks" / "2.png").unlink()
    argv = arguments(mugs, tmp_path / "out", "--workers", "1")
    assert converter("folder")(argv) == 1
    assert "refused: mugs/2.jpg: image without mask" in capsys.readouterr().err
    assert Manifest.load(tmp_path / "out").classes["mugs"].count == 2


def test_folder_of_index_masks(tmp_path):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks", count=2)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[:4], values[4:6], values[6] = 1, 7, 255
    for index in (1, 2):
        Image.fromarray(values).save(mugs / "masks" / f"{index}.png")
    argv = arguments(mugs, tmp_path / "out", "--index_masks", "--workers", "1")
    assert converter("folder")(argv) == 0
    record = next(read_shard(tmp_path / "out" / "mugs.tfrecord"))
    np.testing.assert_array_equal(decode_example(record, None)[1], values)


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_folder_of_16_bit_masks(tmp_path, top):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks", count=2)
    for index in (1, 2):
        mask = (make_arrays(index)[1] > 0).astype(np.uint16) * top
        Image.fromarray(mask).save(mugs / "masks" / f"{index}.png")
    argv = arguments(mugs, tmp_path / "out", "--workers", "1")
    assert converter("folder")(argv) == 0
    for index, record in enumerate(read_shard(tmp_path / "out/mugs.tfrecord"), 1):
        mask = make_arrays(index)[1] > 0
        np.testing.assert_array_equal(decode_example(record, None)[1], mask)


def test_folders_of_masks_that_mean_several_things(tmp_path):
    mugs = tmp_path / "mugs"
    fill(mugs / "images", mugs / "masks", count=2)
    masks = [mugs / f"masks/{i}.png" for i in (1, 2)]
    Image.fromarray(make_arrays(1)[1] // 255).save(masks[0])
    argv = arguments(mugs, tmp_path / "out", "--workers", "1")
    with pytest.raises(UserError, match=r"1\.png holds the levels 0, 1, but .*2\.png"):
        converter("folder")(argv)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[:4], values[8:14] = 1, 2
    for path in masks:
        Image.fromarray(values).save(path)
    with pytest.raises(
        UserError, match="hold several classes .*--mask_values to index"
    ):
        converter("folder")(argv)
    assert converter("folder")([*argv, "--mask_values", "instances"]) == 0
    record = next(read_shard(tmp_path / "out" / "mugs.tfrecord"))
    np.testing.assert_array_equal(decode_example(record, None)[1], values > 0)
    masks[0].write_bytes(b"no")
    assert converter("folder")([*argv, "--index_masks", "--overwrite"]) == 1
    row = next(row for row in report(tmp_path / "out") if row[1] == "1.png")
    assert row[2:] == [
        "refused",
        "not an image file that can be read; save it as PNG or JPEG",
    ]


def test_mliis_end_to_end(tmp_path):
    image = np.zeros((224, 224, 3), np.uint8)
    record = {"image": image.tobytes(), "mask": bright_half(224, 224).tobytes()}
    write_mliis(tmp_path / "bear.tfrecord.gzip", [record] * 2)
    argv = arguments(tmp_path, tmp_path / "out")
    assert converter("mliis")(argv) == 0
    assert verify_dataset(tmp_path / "out").examples == 2


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


def test_inspect_prints_counts_and_draws_a_sheet(source, tmp_path, capsys):
    output = tmp_path / "out"
    fss1000(source, output, "--splits", lists(tmp_path, train=["ant"]))
    sheet = tmp_path / "sheet.png"
    assert inspect_dataset.main([str(output), "--output", str(sheet)]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["train", "1", "3", "3", "3"] in lines
    assert ["no", "split", "1", "3", "3", "3"] in lines
    assert ["all", "2", "6", "3", "3"] in lines
    picture = Image.open(sheet)
    # Two rows of three examples.
    assert picture.width > 3 * 128 and picture.height > 2 * 128
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 1000
    with pytest.raises(UserError, match="no split 'dev'"):
        inspect_dataset.main([str(output), "--output", str(sheet), "--split", "dev"])
    with pytest.raises(UserError, match="cannot write .*none/sheet.png"):
        inspect_dataset.main([str(output), "--output", f"{tmp_path}/none/sheet.png"])


def sample_arguments(tmp_path):
    """Makes what tools/make_sample.py reads; returns its command line."""
    ant = tmp_path / "ant"
    fill(ant, ant)
    icons = tmp_path / "icons"
    for names in load_splits("icons").values():
        for name in names:
            (icons / name).parent.mkdir(exist_ok=True)
            (icons / name).symlink_to(ant)
    nuclei = tmp_path / "nuclei"
    for name in ("nucleus", "stained_nucleus"):
        fill(nuclei / name, nuclei / name)
    (tmp_path / "LICENSES.md").write_text("By the artists.\n")
    (tmp_path / "icons.csv").write_text("class,index\nbear,1\nnone,1\n")
    (tmp_path / "nuclei.csv").write_text("class,index\nnucleus,1\n")
    return f"""--icons {icons} --icons_licences {tmp_path}/LICENSES.md
        --icons_provenance {tmp_path}/icons.csv --nuclei {nuclei}
        --nuclei_provenance {tmp_path}/nuclei.csv --output_dir {tmp_path}/sample
        --train 3 --val 1 --test 2""".split()


def test_make_sample(tmp_path):
    output = tmp_path / "sample"
    assert tool("make_sample")(sample_arguments(tmp_path)) == 0
    sample = Manifest.load(output / "icons")
    assert {split: len(names) for split, names in sample.splits.items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }
    record = next(read_shard(sample.shard_path(sample.split("test")[0])))
    assert decode_example(record, None)[0].shape == (96, 96, 3)
    assert Manifest.load(output / "nuclei").split("test")[0] == "nucleus"
    licences = (output / "LICENSES.md").read_text()
    assert "> By the artists." in licences and "Changes made" in licences
    assert (output / "nuclei" / "provenance.csv").read_text().count("\n") == 2


@pytest.mark.parametrize(
    "main, argv",
    [
        (converter("fss1000"), ["--input_dir", "nowhere", "--output_dir", "out"]),
        (converter("folder"), ["--input_dir", "nowhere", "--output_dir", "out"]),
        (converter("mliis"), ["--input_dir", "nowhere", "--output_dir", "out"]),
        (verify.main, ["nowhere"]),
        (inspect_dataset.main, ["nowhere"]),
    ],
)
def test_no_such_folder_is_one_line_and_status_2(
    main, argv, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as info:
        run_command(lambda: main(argv))
    assert info.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: no") and "nowhere" in line
    assert os.listdir(tmp_path) == []
