"""PASCAL-5i from VOC's and SBD's layouts, made up and real."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from efficientlab_tf.data.fold_episodes import fold_episodes
from efficientlab_tf.data.fold_lists import read_pairs
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.data.sbd_masks import read_sbd_mask
from efficientlab_tf.data.sources import folded
from efficientlab_tf.data.sources.pascal5i import pascal5i
from efficientlab_tf.data.sources.voc import VOC_CLASSES
from efficientlab_tf.data.verify import verify_dataset
from efficientlab_tf.episode import require_disjoint
from efficientlab_tf.errors import UserError
from tests.data.converting import converter, fill, fss1000, report, stored
from tests.data.tiny_voc import (
    BUS,
    DOG,
    PLANT,
    SBD,
    SIZE,
    VOC_TRAIN,
    VOC_VAL,
    VOID,
    convert,
    mask_of,
    save_mask,
    save_mat,
    sbd_objects,
    voc_objects,
)

SHARED = Path(
    os.environ.get("EFFICIENTLAB_SHARED", Path(__file__).parents[2].parent / "shared")
)
VOC_MINI = SHARED / "data" / "voc-mini" / "VOC2012"

# Shaban et al. (2017), table 1: the test classes of each fold.
TABLE_1 = (
    ("aeroplane", "bicycle", "bird", "boat", "bottle"),
    ("bus", "car", "cat", "chair", "cow"),
    ("diningtable", "dog", "horse", "motorbike", "person"),
    ("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def test_folds_are_those_of_table_1(voc):
    folds = pascal5i(voc).folds
    assert len(folds) == 4
    everything = [name for test in TABLE_1 for name in test]
    assert everything == list(VOC_CLASSES.values())
    for fold, test in zip(folds, TABLE_1, strict=True):
        assert fold["test"] == tuple(f"val-{name}" for name in test)
        rest = [name for name in everything if name not in test]
        assert fold["train"] == tuple(f"train-{name}" for name in rest)
        assert len(rest) == 15


def test_each_class_is_1_and_others_background_and_void_stays(voc, sbd, tmp_path):
    output = tmp_path / "out"
    assert convert(voc, output, "--sbd", sbd) == 0
    sbd_only = {"s1": SBD["train"]["s1"]}
    for entry, index, masks in (
        # t2 is in both sets: VOC's mask is the finer one.
        ("train-bus", BUS, {**sbd_only, "t1": VOC_TRAIN["t1"], "t2": VOC_TRAIN["t2"]}),
        ("train-dog", DOG, {name: VOC_TRAIN[name] for name in ("t1", "t3")}),
        ("train-pottedplant", PLANT, {**sbd_only, "s2": SBD["val"]["s2"]}),
        ("val-bus", BUS, {name: VOC_VAL[name] for name in ("v1", "v2", "v3")}),
        ("val-pottedplant", PLANT, {name: VOC_VAL[name] for name in ("v1", "v3")}),
    ):
        found = stored(output, entry)
        assert list(found) == list(masks)
        for name, mask in masks.items():
            expected = np.where(mask == VOID, VOID, np.where(mask == index, 1, 0))
            np.testing.assert_array_equal(found[name], expected, f"{entry} {name}")
    manifest = Manifest.load(output)
    assert set(manifest.classes) == {
        *("train-bus", "train-dog", "train-pottedplant"),
        *("val-bus", "val-pottedplant"),
    }
    fold = manifest.with_splits("fold1")
    assert fold.split("test") == ("val-bus",)
    assert fold.split("train") == ("train-dog", "train-pottedplant")
    assert verify_dataset(output).faults == []


def test_pictures_of_vocs_val_never_train(voc, sbd, tmp_path, capsys):
    output = tmp_path / "out"
    assert convert(voc, output, "--sbd", sbd) == 0
    for entry in Manifest.load(output).classes:
        if entry.startswith("train-"):
            assert not VOC_VAL.keys() & stored(output, entry).keys()
    reason = "in VOC's val.txt, so not for training"
    for name in ("v1", "v4"):
        assert ["train", f"{name}.jpg", "left out", reason] in report(output)
    out = capsys.readouterr().out
    assert "SBD: 2 of its 5 pictures are in VOC's val.txt and were left out" in out
    assert "training: 5 pictures, 3 of VOC's train.txt and 2 more of SBD" in out
    assert "testing: 4 pictures" in out


def test_without_sbd_it_says_so(voc, tmp_path, capsys):
    assert convert(voc, tmp_path / "out") == 0
    assert "train-pottedplant" not in Manifest.load(tmp_path / "out").classes
    out = capsys.readouterr().out
    assert "training: 3 pictures, all of VOC's train.txt; the paper trains on" in out


def test_masks_of_void_alone_or_without_a_class_are_of_no_class(voc, sbd):
    jobs = pascal5i(voc, sbd).jobs
    files = {image.stem for job in jobs for image, _ in job.files}
    assert not files & {"void", "empty"}


def test_sbd_at_any_level(voc, sbd):
    expected = pascal5i(voc, sbd)
    for folder in (sbd.parent, sbd.parent.parent):
        assert pascal5i(voc, folder) == expected


def test_a_class_with_one_picture_is_left_out_and_named(voc, tmp_path, capsys):
    output = tmp_path / "out"
    assert convert(voc, output) == 0
    assert "left out: val-dog, pictures of the class: 1" in capsys.readouterr().out
    rows = {row[0]: row[2:] for row in report(output)}
    expected = ["left out", "pictures of the class: 1, at least 2 needed"]
    assert rows["val-dog"] == expected
    assert Manifest.load(output).folds[2]["test"] == ()
    assert read_pairs(output / "pairs-fold2.csv") == []


def test_what_is_missing_or_broken_is_in_the_report(voc, sbd, tmp_path, capsys):
    (voc / "JPEGImages" / "t1.jpg").unlink()
    (voc / "SegmentationClass" / "t3.png").unlink()
    (voc / "SegmentationClass" / "v4.png").write_bytes(b"\x89PNG")
    with open(voc / "ImageSets" / "Segmentation" / "train.txt", "a") as file:
        file.write("lost\n")
    (sbd / "cls" / "s2.mat").write_bytes(b"MATLAB" * 40)
    (voc / "JPEGImages" / "v2.jpg").write_bytes(b"\xff\xd8")
    assert convert(voc, tmp_path / "out", "--sbd", sbd) == 0
    rows = {(row[0], row[1]): row[2:] for row in report(tmp_path / "out")}
    for key, reason in (
        (("train-dog", "t1.png"), "mask without image"),
        (("train-bus", "t1.png"), "mask without image"),
        (("train", "t3.jpg"), "image without mask"),
        (("train", "lost"), "no image and no mask"),
        (("val", "v4.png"), "not an image file"),
        (("train", "s2.mat"), "not a .mat file that can be read"),
        (("val-bus", "v2.jpg"), ""),
    ):
        assert rows[key][0] == "refused" and reason in rows[key][1]
    assert "refused: train/s2.mat: not a .mat" in capsys.readouterr().err


def test_no_usable_class_is_no_dataset(voc, tmp_path, capsys):
    for split in ("train", "val"):
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n")
    assert convert(voc, tmp_path / "out") == 1
    assert "no class is usable, so no dataset.json" in capsys.readouterr().out
    assert os.listdir(tmp_path / "out") == ["report.csv"]


def test_broken_files_that_leave_a_class_too_small_are_an_error(voc, tmp_path, capsys):
    (voc / "JPEGImages" / "v1.jpg").write_bytes(b"\xff\xd8")
    assert convert(voc, tmp_path / "out") == 1
    assert "class val-pottedplant left out: 1 usable" in capsys.readouterr().err
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.folds[3]["test"] == ()
    assert manifest.folds[1]["test"] == ("val-bus",)


def test_a_copy_of_a_picture_is_left_out(voc, tmp_path):
    shutil.copy(voc / "JPEGImages" / "v1.jpg", voc / "JPEGImages" / "v3.jpg")
    save_mask(voc / "SegmentationClass" / "v4.png", mask_of(b2=BUS))
    convert(voc, tmp_path / "out")
    assert list(stored(tmp_path / "out", "val-bus")) == ["v1", "v2", "v4"]
    rows = report(tmp_path / "out")
    assert ["val-bus", "v3.jpg", "left out", "a copy of v1.jpg"] in rows


def test_an_object_that_resizing_loses_is_left_out(voc, tmp_path):
    mask = mask_of(b2=BUS)
    mask[0, 0] = PLANT
    for name in ("v2", "v4"):
        save_mask(voc / "SegmentationClass" / f"{name}.png", mask)
    convert(voc, tmp_path / "out", "--image_size", 8)
    assert list(stored(tmp_path / "out", "val-pottedplant")) == ["v1", "v3"]
    row = ["val-pottedplant", "v2.jpg", "left out", "no pixel of the class at 8x8"]
    assert row in report(tmp_path / "out")


def test_bad_input_is_named(voc, sbd, tmp_path):
    sets = voc / "ImageSets" / "Segmentation"

    def fails(match, *arguments):
        with pytest.raises(UserError, match=match) as info:
            pascal5i(*arguments)
        assert "\n" not in str(info.value)

    fails("has no folder JPEGImages", tmp_path)
    fails("no folders img and cls; expected SBD's layout", voc, voc)
    (sbd / "val.txt").unlink()
    fails("cannot read the list .*val.txt: No such file", voc, sbd)
    with open(sets / "val.txt", "a") as file:
        file.write("t2\n")
    fails("1 pictures are in train.txt and in val.txt, first t2", voc)
    (sets / "train.txt").write_bytes(b"\xff\xfe\xff")
    fails("cannot read the list .*train.txt: it is not UTF-8", voc)


def test_sbd_masks_are_read(tmp_path):
    path = tmp_path / "1.mat"
    values = np.random.default_rng(0).integers(0, 21, (5, 7), np.uint8)
    # One row or column must not lose an axis.
    for expected in (values, values[:1], values[:, :1], values[:1, :1]):
        save_mat(path, expected)
        found = read_sbd_mask(path.read_bytes())
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
    save_mat(path, values.astype(np.float64))
    with pytest.raises(Refused, match="Segmentation is float64"):
        read_sbd_mask(path.read_bytes())
    save_mat(path, values.astype(np.int16) - 3)
    with pytest.raises(Refused, match="Segmentation holds -3 to"):
        read_sbd_mask(path.read_bytes())
    for contents in ({"GTinst": {"Segmentation": values}}, {"GTcls": {"x": values}}):
        savemat(path, contents)
        with pytest.raises(Refused, match="without GTcls.Segmentation"):
            read_sbd_mask(path.read_bytes())
    save_mat(path, values)
    intact = path.read_bytes()
    for data in (b"", b"no mat", intact[:150], intact[:-20], b"MATLAB 7.3" + intact):
        with pytest.raises(Refused):
            read_sbd_mask(data)


def test_pairs_follow_the_seed_and_hold_their_class(voc, tmp_path):
    outputs = [tmp_path / str(number) for number in range(3)]
    for output, more in zip(outputs, ([], [], ["--seed", "1"]), strict=True):
        assert convert(voc, output, *more) == 0
    lists = [(output / "pairs-fold1.csv").read_bytes() for output in outputs]
    assert lists[0] == lists[1] != lists[2]
    rows = read_pairs(outputs[0] / "pairs-fold1.csv")
    assert len(rows) == 20
    for row in rows:
        assert row.class_name == "bus" and len(row.support) == 2
        for name in (row.query, *row.support):
            assert (VOC_VAL[name] == BUS).any()
        assert len({row.query, *row.support}) == 3


def test_an_existing_dataset_is_replaced_whole_when_asked(
    voc, sbd, source, tmp_path, capsys
):
    output = tmp_path / "out"
    assert convert(voc, output) == 0
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    (voc / "SegmentationClass").rename(voc / "away")
    with pytest.raises(UserError, match="already holds a dataset.*--overwrite"):
        convert(voc, output)
    with pytest.raises(UserError, match="no folder SegmentationClass"):
        convert(voc, output, "--overwrite")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    (voc / "away").rename(voc / "SegmentationClass")
    assert convert(voc, output, "--overwrite", "--sbd", sbd) == 0
    assert "train-pottedplant" in Manifest.load(output).classes
    assert verify_dataset(output).faults == []
    # What is not of the new dataset goes, the lists of pairs, too.
    assert fss1000(source, output, "--overwrite") == 0
    assert sorted(os.listdir(output)) == [
        *("ant.tfrecord", "bee.tfrecord", "dataset.json", "report.csv")
    ]
    assert "folds" not in json.loads((output / "dataset.json").read_text())


def test_large_classes_are_read_in_parts(voc, tmp_path, monkeypatch):
    convert(voc, tmp_path / "whole")
    monkeypatch.setattr(folded, "PART", 2)
    assert max(len(job.files) for job in pascal5i(voc).jobs) == 2
    convert(voc, tmp_path / "parts", "--workers", 2)
    assert Manifest.load(tmp_path / "parts").classes == (
        Manifest.load(tmp_path / "whole").classes
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not VOC_MINI.is_dir():
        pytest.skip(f"needs real pictures in VOC's layout: {VOC_MINI}")
    output = tmp_path_factory.mktemp("real") / "pascal5i"
    assert convert(VOC_MINI, output) == 0
    return output


def test_real_entries_hold_what_the_masks_show(real):
    sets = VOC_MINI / "ImageSets" / "Segmentation"
    expected = {}
    for prefix, split in (("train-", "train"), ("val-", "val")):
        for name in sorted((sets / f"{split}.txt").read_text().split()):
            picture = Image.open(VOC_MINI / "SegmentationClass" / f"{name}.png")
            values = np.asarray(picture)
            for index, class_name in VOC_CLASSES.items():
                if (values == index).any():
                    expected.setdefault(prefix + class_name, {})[name] = values, index
    expected = {entry: masks for entry, masks in expected.items() if len(masks) > 1}
    manifest = Manifest.load(real)
    assert {n: e.count for n, e in manifest.classes.items()} == {
        entry: len(masks) for entry, masks in expected.items()
    }
    for entry in ("val-tvmonitor", "val-sheep", "train-cow"):
        found = stored(real, entry)
        assert list(found) == list(expected[entry])
        for name, (values, index) in expected[entry].items():
            wanted = np.where(values == VOID, VOID, values == index)
            np.testing.assert_array_equal(found[name], wanted)


def test_real_episodes(real):
    manifest = Manifest.load(real)
    for fold, classes in enumerate(TABLE_1):
        result = fold_episodes(manifest, fold, shots=1, image_size=64, limit=4)
        tasks = list(result.episodes)
        assert result.total == len(tasks) == 4
        for episode, name, _ in tasks:
            assert name in classes
            require_disjoint(episode, name)
    assert Counter(row[2] for row in report(real)) == {"left out": 1}


def test_objects_are_numbers_from_two(voc, sbd, tmp_path):
    voc_objects(voc)
    sbd_objects(sbd)
    out = tmp_path / "out"
    assert convert(voc, out, "--sbd", sbd, "--instances") == 0
    masks = stored(out, "train-bus")
    bus = VOC_TRAIN["t1"] == BUS
    expected = np.where(VOC_TRAIN["t1"] == VOID, VOID, 2 * bus)
    np.testing.assert_array_equal(masks["t1"], expected)
    bus = SBD["train"]["s1"] == BUS
    expected = np.where(bus, 2, 0)
    expected[:, 16:][bus[:, 16:]] = 3
    np.testing.assert_array_equal(masks["s1"], expected)
    # A query of a fold is of the class, whatever its objects.
    episodes = fold_episodes(Manifest.load(out), 1, shots=1, image_size=SIZE).episodes
    episode, _, _ = next(episodes)
    assert set(np.unique(episode.query_masks)) <= {0, 1, VOID}
    (sbd / "inst" / "s1.mat").unlink()
    assert convert(voc, tmp_path / "other", "--sbd", sbd, "--instances") == 1
    assert "s1.mat" in [row[1] for row in report(tmp_path / "other")]


def test_fpk_joins_sbd(voc, sbd, tmp_path):
    fss = tmp_path / "fss"
    for name in ("airliner", "bus", "motorbike", "potted_plant", "television"):
        fill(fss / name, fss / name)
    argv = ["--fss1000", fss, "--voc", voc, "--sbd", sbd, "--workers", 1]
    argv += ["--output_dir", tmp_path / "fpk"]
    assert converter("fpk")([str(item) for item in argv]) == 0
    buses, plants = (stored(tmp_path / "fpk", n) for n in ("bus", "potted_plant"))
    assert {"t1", "t2", "v1", "v2", "v3", "s1"} < set(buses)
    assert {"v1", "v3", "s1", "s2"} < set(plants)
    # t2 and v1 are in both; VOC's mask is taken.
    np.testing.assert_array_equal(buses["t2"] == 1, VOC_TRAIN["t2"] == BUS)
    assert len(buses) == 3 + 6
