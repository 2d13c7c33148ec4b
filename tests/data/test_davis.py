"""DAVIS's layout: sequences as classes, objects as classes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import decode_example, read_shard
from efficientlab_tf.data.sources.davis import davis_jobs, find_sequences
from efficientlab_tf.errors import UserError
from efficientlab_tf.pictures import palette_image
from tests.data.converting import converter, report

SHARED = Path(
    os.environ.get("EFFICIENTLAB_SHARED", Path(__file__).parents[2].parent / "shared")
)


def davis_mini():
    """The real sequences, or a visible skip."""
    root = SHARED / "data" / "davis-mini"
    if not root.is_dir():
        pytest.skip(f"needs {root}")
    return root


def write_frames(folder, count, size=(24, 40)):
    """Frames of one grey each: frame i has the level 10 i."""
    folder.mkdir(parents=True)
    for i in range(count):
        image = np.full((*size, 3), 10 * i, np.uint8)
        Image.fromarray(image).save(folder / f"{i:05d}.jpg")


@pytest.fixture
def davis(tmp_path):
    """bear as DAVIS 2016 has it (gone in its last frame), and dogs as 2017 does."""
    root = tmp_path / "DAVIS"
    images, masks = (root / n / "480p" for n in ("JPEGImages", "Annotations"))
    for name, count in (("bear", 12), ("dogs", 4)):
        write_frames(images / name, count)
        (masks / name).mkdir(parents=True)
    mask = np.zeros((24, 40), np.uint8)
    for i in range(12):
        mask[:] = 0
        if i < 11:
            mask[4:12, i : i + 10] = 255
        Image.fromarray(mask).save(masks / "bear" / f"{i:05d}.png")
    for i in range(4):
        mask[:] = 0
        mask[2:8, 2:12], mask[20:] = 1, 255
        if i != 1:
            mask[10:16, 20:30] = 2
        palette_image(mask).save(masks / "dogs" / f"{i:05d}.png")
    for name, text in (
        ("2017/val", "dogs\n"),
        (
            "480p/train",
            "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png\n"
            "/JPEGImages/480p/bear/00001.jpg /Annotations/480p/bear/00001.png\n",
        ),
        ("2017/test", "cows\n"),
    ):
        path = root / "ImageSets" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def convert(davis, output, *more):
    return converter("davis")(
        ["--davis", str(davis), "--output_dir", str(output), "--workers", "1", *more]
    )


def stored(output, name):
    """Decoded examples of a class."""
    manifest = Manifest.load(output)
    return [
        tuple(np.squeeze(x.numpy()) for x in decode_example(record, None)[:2])
        for record in read_shard(manifest.shard_path(name))
    ]


def test_sequences_of_a_folder_a_list_or_by_name(davis):
    def names(**options):
        return [s.name for s in find_sequences(davis, **options)]

    assert names() == ["bear", "dogs"]
    assert names(split="2017/val") == names(names=["dogs"]) == ["dogs"]
    assert names(split="480p/train") == ["bear"]


def test_every_object_is_a_class(davis):
    jobs = {job.class_name: job for job in davis_jobs(find_sequences(davis))}
    assert {name: (len(j.files), j.index) for name, j in jobs.items()} == {
        "bear": (11, None),
        "dogs_1": (4, 1),
        "dogs_2": (3, 2),
    }
    (row,) = jobs["bear"].rows
    assert row.file == "00011.jpg" and row.reason == "the object is not in the frame"


def test_a_dataset_in_the_order_of_time(davis, tmp_path):
    assert convert(davis, tmp_path / "out") == 0
    assert sorted(Manifest.load(tmp_path / "out").classes) == [
        *("bear", "dogs_1", "dogs_2")
    ]
    examples = stored(tmp_path / "out", "bear")
    levels = [float(image.mean()) for image, _ in examples]
    np.testing.assert_allclose(levels, [10 * i for i in range(11)], atol=1)
    for i, (_, mask) in enumerate(examples):
        expected = np.zeros((24, 40))
        expected[4:12, i : i + 10] = 1
        np.testing.assert_array_equal(mask, expected)
    examples = stored(tmp_path / "out", "dogs_2")
    np.testing.assert_allclose(
        [float(p[0].mean()) for p in examples], [0, 20, 30], atol=1
    )
    expected = np.zeros((24, 40))
    expected[10:16, 20:30], expected[20:] = 1, 255
    np.testing.assert_array_equal(examples[0][1], expected)
    assert [row[1] for row in report(tmp_path / "out")] == ["00011.jpg"]
    assert convert(davis, tmp_path / "one", "--sequences", "dogs") == 0
    assert len(Manifest.load(tmp_path / "one").classes) == 2


def test_bad_input_is_named(davis, tmp_path):
    for call, message in (
        (lambda: find_sequences(tmp_path), "has no folder JPEGImages/480p"),
        (lambda: find_sequences(davis, resolution="1080p"), "no folder JPEGImages/108"),
        (lambda: find_sequences(davis, split="val"), "there are 2017/test, 2017/val"),
        (lambda: find_sequences(davis, split="2017/test"), "no sequence 'cows'"),
        (lambda: find_sequences(davis, names=["bears"]), "there are bear, dogs"),
        (
            lambda: find_sequences(davis, split="2017/val", names=["bear"]),
            "no sequence 'bear' in `split` 2017/val",
        ),
    ):
        with pytest.raises(UserError, match=message):
            call()
    (davis / "Annotations/480p/dogs/00000.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="dogs/00000.png"):
        davis_jobs(find_sequences(davis))


def test_the_real_sequences():
    sequences = find_sequences(davis_mini())
    assert len(sequences) == 13
    jobs = davis_jobs(sequences[:2])
    assert [(j.class_name, len(j.files), j.index) for j in jobs] == [
        ("blackswan", 25, None),
        ("breakdance", 42, None),
    ]
    stems = [image.stem for image, _ in jobs[0].files]
    assert stems == [f"{2 * i:05d}" for i in range(25)]
