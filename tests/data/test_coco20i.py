"""COCO-20i from a COCO that is made up: eight classes, a few pictures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.fold_episodes import fold_episodes
from efficientlab_tf.data.fold_lists import read_pairs
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.sources import folded
from efficientlab_tf.data.sources.coco20i import coco20i
from efficientlab_tf.data.sources.coco_transfer import balanced_half, coco_transfer
from efficientlab_tf.data.verify import verify_dataset
from efficientlab_tf.errors import UserError
from tests.data.converting import report
from tests.data.tiny_coco import (
    CAR,
    CAT,
    CROWD,
    CUP,
    NAMES,
    PERSON,
    SIZE,
    TRAFFIC_LIGHT,
    VAL_PICTURES,
    box,
    convert,
    edit,
    filled,
    stored,
    write,
)


@pytest.fixture
def coco(tmp_path):
    write(tmp_path / "coco", 2014)
    return tmp_path / "coco"


def test_every_fourth_class_in_the_order_of_the_ids(coco):
    folds = coco20i(coco).folds
    assert len(folds) == 4
    for number, fold in enumerate(folds):
        test = [NAMES[number], NAMES[number + 4]]
        assert fold["test"] == tuple(f"val-{name}" for name in test)
        train = tuple(f"train-{name}" for name in NAMES if name not in test)
        assert fold["train"] == train


def test_masks_are_unions_with_crowds_unknown(coco, tmp_path, capsys):
    output = tmp_path / "out"
    assert convert(coco, output) == 0
    triangle = np.zeros(SIZE, np.uint8)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            triangle[y, x] = min(x, y) >= 4 and (x + 0.5) + (y + 0.5) < 17
    crowd = np.where(CROWD == 1, 255, 0)
    crowd[4:8, 0:12] = 1
    expected = {
        "train-cat": {
            "a": filled((2, 2, 10, 8)),
            "b": filled((2, 2, 10, 8), (12, 2, 14, 4), (6, 6, 16, 12)),
        },
        "train-car": {"a": filled((20, 10, 30, 20)), "b": filled((0, 0, 5, 5))},
        "train-train": {"c": triangle, "d": filled((3, 4, 9, 20))},
        # v3 shows no person but a crowd.
        "val-person": {"v1": crowd, "v2": filled((4, 4, 8, 8))},
        "val-car": {
            "v1": filled((25, 5, 30, 9)),
            "v2": filled((25, 5, 30, 9)),
            "v3": filled((0, 0, 32, 24)),
        },
    }
    assert set(Manifest.load(output).classes) == set(expected)
    for entry, masks in expected.items():
        found = stored(output, entry)
        assert list(found) == list(masks)
        for name, mask in masks.items():
            np.testing.assert_array_equal(found[name], mask, f"{entry} {name}")
    out = capsys.readouterr().out
    assert "COCO 2014: 4 pictures in train2014" in out
    assert "8 categories; COCO has 80" in out
    assert "left out: val-cup, pictures of the class: 0" in out
    rows = [row for row in report(output) if row[2] != "left out"]
    assert rows == []


def test_folds_pairs_and_episodes(coco, tmp_path):
    output = tmp_path / "out"
    assert convert(coco, output) == 0
    assert verify_dataset(output).faults == []
    manifest = Manifest.load(output)
    fold = manifest.with_splits("fold1")
    assert fold.split("test") == ("val-car",)
    assert fold.split("train") == ("train-cat", "train-train")
    rows = read_pairs(output / "pairs-fold1.csv")
    assert len(rows) == 10 and {row.class_name for row in rows} == {"car"}
    result = fold_episodes(manifest, 1, shots=2, image_size=SIZE)
    stems = {f"COCO_val2014_{name}": name for name in ("v1", "v2", "v3")}
    masks = stored(output, "val-car")
    for (episode, name, _), row in zip(result.episodes, rows, strict=True):
        assert name == "car"
        for mask, picture in zip(
            [*episode.support_masks.numpy(), *episode.query_masks.numpy()],
            [*row.support, row.query],
            strict=True,
        ):
            np.testing.assert_array_equal(mask, masks[stems[picture]])


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        ([[1, 2, 3, 4]], "a polygon of 2 points"),
        ([[1, 2, 3, 4, 5]], "cannot reshape"),
        ([[1, 2, 3, 4, 5, None]], "not pairs of finite numbers"),
        ([[1, 2, 3, 4, 5, "x"]], "could not convert string"),
        ([box(0, 0, 4, 4), {"a": 1}], "must be"),
        ([], "has no outline"),
        (None, "has no outline"),
        (7, "iterable"),
        ("abc", "could not convert string"),
        ({"counts": [4, 4], "size": list(SIZE)}, "do not make 32x24 pixels"),
        ({"counts": [768], "size": [1, 768]}, "run lengths of size"),
        ({"counts": ["a", 4], "size": list(SIZE)}, "do not make"),
        ({"counts": "~~~", "size": list(SIZE)}, "stray character"),
        ({"counts": None, "size": list(SIZE)}, "do not make"),
        ({"size": list(SIZE)}, "'counts' is missing"),
        ({"counts": [768], "size": 5}, "iterable"),
    ],
)
def test_a_malformed_outline_costs_its_picture_and_is_reported(
    coco, tmp_path, outline, reason
):
    def spoil(content):
        cats = [a for a in content["annotations"] if a["category_id"] == CAT]
        for annotation in cats:
            if annotation["image_id"] == 2:
                annotation["segmentation"] = outline
        content["annotations"] += [
            {**cats[0], "id": 900 + i, "image_id": i, "segmentation": [box(0, 0, 9, 9)]}
            for i in (3, 4)
        ]

    edit(coco, spoil)
    assert convert(coco, tmp_path / "out") == 0
    assert list(stored(tmp_path / "out", "train-cat")) == ["a", "c", "d"]
    # The other class of the same picture is as it was.
    assert list(stored(tmp_path / "out", "train-car")) == ["a", "b"]
    (row,) = (row for row in report(tmp_path / "out") if row[2] == "refused")
    assert row[:2] == ["train-cat", "COCO_train2014_b.jpg"]
    assert row[3].startswith("annotation 20") and reason in row[3]


def test_what_does_not_belong_together_is_in_the_report(coco, tmp_path):
    def spoil(content):
        first = content["annotations"][0]
        content["annotations"] += [
            {**first, "id": 901, "image_id": 77, "category_id": CAT},
            {**first, "id": 902, "category_id": 2},
            {**first, "id": 903, "image_id": [1]},
            {"id": 904, "segmentation": []},
        ]
        for image in content["images"]:
            if image["file_name"].endswith("c.jpg"):
                image["height"] = None

    edit(coco, spoil)
    train = coco / "train2014"
    (train / "COCO_train2014_a.jpg").unlink()
    (train / "COCO_train2014_d.jpg").write_bytes(b"\xff\xd8")
    Image.new("RGB", (8, 8)).save(train / "other.png")
    assert convert(coco, tmp_path / "out") == 1
    rows = {(row[0], row[1]): row[3] for row in report(tmp_path / "out")}
    for key, reason in (
        (("train-cat", "annotation 901"), "image_id 77 is not among the images"),
        (("train", "annotation 902"), "category_id 2 is not among the categories"),
        (("train", "annotation"), "no image_id or no category_id"),
        (("train-cat", "COCO_train2014_a.jpg"), "mask without image"),
        (("train", "other.png"), "image without mask"),
        (("train-train", "COCO_train2014_c.jpg"), "its size: height and width"),
        (("train-train", "COCO_train2014_d.jpg"), "image file"),
    ):
        assert reason in rows[key]


def test_an_outline_without_a_pixel_is_no_picture_of_the_class(coco, tmp_path):
    def shrink(content):
        for annotation in content["annotations"]:
            if annotation["category_id"] == CAR and annotation["image_id"] == 1:
                annotation["segmentation"] = [[5.6, 5.6, 5.9, 5.6, 5.7, 5.9]]

    edit(coco, shrink, "val2014")
    convert(coco, tmp_path / "out")
    assert list(stored(tmp_path / "out", "val-car")) == ["v2", "v3"]
    row = ["val-car", "COCO_val2014_v1.jpg", "left out"]
    assert [*row, "no pixel of the class at 32x24"] in report(tmp_path / "out")


def test_pictures_of_another_size_than_annotated(tmp_path):
    write(tmp_path / "coco", 2014, size=(48, 64))
    assert convert(tmp_path / "coco", tmp_path / "out") == 0
    twice = stored(tmp_path / "out", "val-car")["v1"]
    np.testing.assert_array_equal(twice[::2, ::2], filled((25, 5, 30, 9)))
    assert twice.shape == (48, 64)


def test_the_year_is_the_one_that_is_there(coco, tmp_path):
    write(coco, 2017, train=VAL_PICTURES)
    with pytest.raises(UserError, match="several years; `year` must be"):
        coco20i(coco)
    with pytest.raises(UserError, match="of year 2015; there is 2014, 2017"):
        coco20i(coco, "2015")
    assert convert(coco, tmp_path / "out", "--year", "2017") == 0
    assert list(stored(tmp_path / "out", "train-person")) == ["v1", "v2"]


def test_large_classes_are_read_in_parts_by_workers(coco, tmp_path, monkeypatch):
    convert(coco, tmp_path / "whole")
    monkeypatch.setattr(folded, "PART", 2)
    assert [len(job.pictures) for job in coco20i(coco).jobs] == [2, 2, 2, 2, 2, 1]
    convert(coco, tmp_path / "parts", "--workers", 2)
    assert Manifest.load(tmp_path / "parts").classes == (
        Manifest.load(tmp_path / "whole").classes
    )


def test_worker_processes_load_no_tensorflow():
    code = """
import sys
import tools.convert
sys.exit("tensorflow" in sys.modules)
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_bad_sets_are_named(coco, tmp_path):
    def fails(match, root=coco):
        with pytest.raises(UserError, match=match) as info:
            coco20i(root)
        assert "\n" not in str(info.value)

    def spoiled(match, change):
        path = coco / "annotations" / "instances_val2014.json"
        intact = path.read_bytes()
        edit(coco, change, "val2014")
        fails(match)
        path.write_bytes(intact)

    fails("has no annotations/instances_trainYEAR.json", tmp_path)
    spoiled("name different categories", lambda c: c["categories"][0].update(name="x"))
    spoiled("is listed twice", lambda c: c["categories"].append(c["categories"][0]))
    spoiled(
        "received id 5, name '../x'",
        lambda c: c["categories"][0].update(id=5, name="../x"),
    )
    spoiled("name ''", lambda c: c["categories"][0].update(name=""))
    spoiled("received id None", lambda c: c["categories"].append({}))
    spoiled("received id None", lambda c: c["categories"].append(5))
    spoiled(
        "3 categories; 4 folds need", lambda c: c.update(categories=c["categories"][:3])
    )
    spoiled("no list 'images'", lambda c: c.pop("images"))
    spoiled("an id and a file_name", lambda c: c["images"].append({"id": 9}))
    spoiled("two images have the id 4", lambda c: c["images"][1].update(id=4))
    spoiled(
        "two images have the same name",
        lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"]),
    )
    spoiled(
        "1 pictures are in train and in val, first COCO_train2014_a",
        lambda c: c["images"][1].update(file_name="COCO_train2014_a.jpg"),
    )
    path = coco / "annotations" / "instances_val2014.json"
    path.write_text(path.read_text()[:-5])
    fails("instances_val2014.json is not JSON that can be read")
    path.write_text("[]")
    fails("no list 'categories'")
    (coco / "val2014").rename(coco / "val")
    fails("no folder .*val2014; expected the pictures of")


def test_halves_of_the_classes_that_voc_lacks(tmp_path, capsys):
    both = [(TRAFFIC_LIGHT, [box(0, 0, 9, 9)], 0), (CUP, [box(9, 9, 19, 19)], 0)]
    one = [(CUP, [box(4, 4, 12, 12)], 0), (PERSON, [box(20, 4, 30, 12)], 0)]
    pictures = {f"{i}": both if i % 2 else one for i in range(8)}
    pictures["v"] = [(PERSON, [box(4, 4, 12, 12)], 0)]
    write(tmp_path, 2017, val=pictures)
    output = tmp_path / "out"
    assert convert(tmp_path, output, "--transfer") == 0
    out = capsys.readouterr().out
    assert "4 pictures to learn from, 4 to test on" in out
    # Classes without two pictures in a half are left out.
    splits = Manifest.load(output).splits
    assert splits == {
        "all_train": ("train-traffic light", "train-cup"),
        "all_val": ("val-traffic light", "val-cup"),
    }
    names = {
        (half, name): set(stored(output, f"{half}-{name}"))
        for half in ("train", "val")
        for name in ("traffic light", "cup")
    }
    for half in ("train", "val"):
        assert len(names[half, "traffic light"]) == 2
        assert names[half, "traffic light"] < names[half, "cup"]
    assert not names["train", "cup"] & names["val", "cup"]


def test_each_class_is_halved_where_pictures_show_several():
    rng = np.random.default_rng(0)
    rates = np.linspace(0.02, 0.5, 20)
    shown = {i: np.flatnonzero(rng.random(20) < rates) for i in range(1000)}
    shown = {i: names for i, names in shown.items() if len(names)}
    first = balanced_half(shown)
    for name in range(20):
        own = {i for i, names in shown.items() if name in names}
        assert abs(len(own & first) - len(own - first)) <= 0.1 * len(own)


def test_a_coco_of_vocs_classes_alone_has_nothing_to_transfer_to(coco):
    def change(content):
        known = {"person", "car", "cat", "train"}
        content["categories"] = [c for c in content["categories"] if c["name"] in known]

    edit(coco, change, "val2014")
    with pytest.raises(UserError, match="no class that is not PASCAL VOC's"):
        coco_transfer(coco)
