"""PASCAL VOC's layout, and FP-k made of it and of FSS-1000's."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import decode_example, read_shard
from efficientlab_tf.data.sources.voc import VOC_CLASSES, read_labels, voc_jobs
from efficientlab_tf.errors import UserError
from tests.data.converting import converter, fill, report
from tests.data.tiny_voc import BUS, DOG, PLANT, save_mask


@pytest.fixture
def voc(tmp_path):
    """Three pictures: a bus with a dog, a bus with void around, a plant."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    masks = np.zeros([3, 24, 32], np.uint8)
    masks[0, 4:12, 4:12], masks[0, 14:20, 4:30] = BUS, DOG
    masks[1, 4:20, 4:20], masks[1, :2] = BUS, 255
    masks[2, 6:20, 6:20] = PLANT
    for name, mask in zip(("2007_1", "2007_2", "2008_1"), masks, strict=True):
        image = random.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
        save_mask(root / "SegmentationClass" / f"{name}.png", mask)
    sets = root / "ImageSets" / "Segmentation"
    (sets / "val.txt").write_text("2007_2\n2008_1\n")
    return root


def convert(voc, output, *more):
    return converter("voc")(
        ["--input_dir", str(voc), "--output_dir", str(output), "--workers", "1", *more]
    )


def stored(output, name):
    """Decoded masks of a class."""
    manifest = Manifest.load(output)
    return [
        decode_example(record, None)[1].numpy()
        for record in read_shard(manifest.shard_path(name))
    ]


def test_each_class_gets_its_pictures(voc):
    jobs = {job.class_name: job for job in voc_jobs(voc)}
    assert {name: len(job.files) for name, job in jobs.items()} == {
        "bus": 2,
        "dog": 1,
        "pottedplant": 1,
    }
    assert [job.index for job in jobs.values()] == [BUS, DOG, PLANT]
    assert len(VOC_CLASSES) == 20 and VOC_CLASSES[20] == "tvmonitor"


def test_a_set_and_classes_to_keep_to(voc):
    jobs = voc_jobs(voc, image_set="val", classes=["bus", "cat"])
    assert [(job.class_name, len(job.files)) for job in jobs] == [("bus", 1)]


def test_other_classes_become_background_and_void_stays(voc, tmp_path):
    assert convert(voc, tmp_path / "out", "--min_examples", "1") == 0
    first, second = (np.squeeze(mask) for mask in stored(tmp_path / "out", "bus"))
    expected = np.zeros([24, 32])
    expected[4:12, 4:12] = 1
    np.testing.assert_array_equal(first, expected)
    assert set(np.unique(second)) == {0, 1, 255} and (second[:2] == 255).all()


def test_rare_classes_are_left_out_unless_asked_for(voc, tmp_path, capsys):
    assert convert(voc, tmp_path / "out") == 0
    assert list(Manifest.load(tmp_path / "out").classes) == ["bus"]
    assert "left out: dog, pottedplant" in capsys.readouterr().out
    assert convert(voc, tmp_path / "more", "--classes", "bus,dog") == 1
    assert "class dog left out: 1 usable examples" in capsys.readouterr().err


def test_labels_of_ones_own(voc, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("0 null\n6 coach\n\n16 flower pot\n")
    assert read_labels(labels) == {6: "coach", 16: "flower pot"}
    assert convert(voc, tmp_path / "out", "--labels", str(labels)) == 0
    assert list(Manifest.load(tmp_path / "out").classes) == ["coach"]


def test_bad_input_is_named(voc, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("6 bus\ndog\n")
    for call, message in (
        (lambda: read_labels(labels), "labels.txt:2: expected an index"),
        (lambda: read_labels(tmp_path / "none"), "cannot read `labels`"),
        (lambda: voc_jobs(tmp_path), "no folder JPEGImages"),
        (lambda: voc_jobs(voc, image_set="train"), "no such image set.*there are val"),
        (lambda: voc_jobs(voc, classes=["buss"]), "unknown class 'buss'"),
        (lambda: convert(voc, tmp_path / "o", "--min_pairs", "9"), "no class of"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    (voc / "JPEGImages" / "2008_1.jpg").unlink()
    plant = voc_jobs(voc, classes=["pottedplant"])[0]
    assert plant.files == [] and plant.rows[0].reason == "mask without image"
    sets = voc / "ImageSets" / "Segmentation" / "val.txt"
    sets.write_text("2007_2\n2010_7\n")
    with pytest.raises(UserError, match="lists 2010_7, which has no mask"):
        voc_jobs(voc, image_set="val")
    (voc / "SegmentationClass" / "2007_2.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="cannot read mask .*2007_2.png"):
        voc_jobs(voc)


def test_fpk_joins_both_sets(voc, tmp_path):
    fss = tmp_path / "fss"
    names = ("airliner", "bus", "motorbike", "potted_plant", "television")
    for name in names:
        fill(fss / name, fss / name)
    argv = ["--fss1000", str(fss), "--voc", str(voc), "--workers", "1"]
    build = converter("fpk")
    assert build([*argv, "--output_dir", str(tmp_path / "fpk")]) == 0
    manifest = Manifest.load(tmp_path / "fpk")
    counts = {name: entry.count for name, entry in manifest.classes.items()}
    assert counts == dict.fromkeys(names, 3) | {"bus": 5, "potted_plant": 4}
    assert sorted(manifest.split("test")) == sorted(names)
    masks = stored(tmp_path / "fpk", "bus")
    assert [set(np.unique(mask)) for mask in masks[:3]] == [{0, 1}] * 3
    assert report(tmp_path / "fpk") == []
    (fss / "television").rename(fss / "tv")
    with pytest.raises(UserError, match="has no class folder television"):
        build([*argv, "--output_dir", str(tmp_path / "other")])
