"""dataset.json: round trip, splits, the shipped samples, and each way to be broken."""

import json
from dataclasses import replace

import pytest

from efficientlab_tf.data.manifest import ClassEntry, Manifest
from efficientlab_tf.data.split_lists import load_splits
from efficientlab_tf.errors import UserError


@pytest.fixture
def manifest(tmp_path):
    names = ["ant", "bee", "cow"]
    for name in names:
        (tmp_path / f"{name}.tfrecord").write_bytes(b"")
    manifest = Manifest(
        name="animals",
        classes={name: ClassEntry(f"{name}.tfrecord", 4, "00") for name in names},
        splits={"train": ("cow", "ant"), "test": ("bee",), "val": ()},
        directory=tmp_path,
    )
    manifest.save()
    return manifest


def edit(manifest, **changes):
    path = manifest.directory / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def entry(**changes):
    return {"shard": "ant.tfrecord", "count": 4, "sha256": "00", **changes}


def fails(what, *arguments):
    """Calls `what` and returns the message of its one-line UserError."""
    with pytest.raises(UserError) as info:
        what(*arguments)
    assert "\n" not in str(info.value)
    return str(info.value)


def test_roundtrip(manifest):
    assert Manifest.load(manifest.directory) == manifest
    assert Manifest.load(str(manifest.directory)) == manifest
    assert manifest.shard_path("bee") == manifest.directory / "bee.tfrecord"


def test_splits_keep_their_order(manifest):
    assert manifest.split("train") == ("cow", "ant")
    assert manifest.split("all") == ("ant", "bee", "cow")


def test_unknown_split_lists_the_others(manifest):
    message = fails(manifest.split, "dev")
    assert "'dev'" in message and "train, test, val, all" in message


def test_empty_split(manifest):
    assert "'val'" in fails(manifest.split, "val")


def test_unknown_class(manifest):
    assert "'dog'" in fails(manifest.shard_path, "dog")


def test_with_splits_from_files(manifest, tmp_path):
    (tmp_path / "train.txt").write_text("bee\n")
    (tmp_path / "test.txt").write_text("ant\ncow\n")
    spec = f"train={tmp_path}/train.txt,test={tmp_path}/test.txt"
    changed = manifest.with_splits(spec)
    assert changed.splits == {"train": ("bee",), "test": ("ant", "cow")}
    (tmp_path / "test.txt").write_text("ant\nyak\n")
    assert "'yak'" in fails(manifest.with_splits, spec)
    (tmp_path / "test.txt").write_text("bee\n")
    assert "'bee'" in fails(manifest.with_splits, spec)


def test_folds(manifest):
    folds = (
        {"train": ("ant", "bee"), "test": ("cow",)},
        {"train": ("cow",), "test": ("bee", "ant")},
    )
    manifest = replace(manifest, folds=folds)
    manifest.save()
    loaded = Manifest.load(manifest.directory)
    assert loaded == manifest
    assert loaded.with_splits("fold1").splits == folds[1]
    assert loaded.split("train") == ("cow", "ant")
    message = fails(manifest.with_splits, "fold2")
    assert "no fold2" in message and "fold0, fold1" in message
    for bad, expected in (
        ({"train": ["ant"], "test": ["ant"]}, "'ant' is in the splits"),
        ({"train": ["yak"]}, "'yak' (train)"),
        (["ant"], "cannot be read"),
    ):
        edit(manifest, folds=[bad])
        assert expected in fails(Manifest.load, manifest.directory)


def test_no_folds(manifest):
    content = json.loads((manifest.directory / "dataset.json").read_text())
    assert "folds" not in content
    message = fails(manifest.with_splits, "fold0")
    assert "has no folds" in message and "train, test, val, all" in message
    assert "--splits" not in fails(manifest.split, "dev")


@pytest.mark.parametrize("name, classes", [("icons", 204), ("nuclei", 2)])
def test_shipped_samples(name, classes):
    sample = Manifest.load(f"sample:{name}")
    assert sample.name == name
    assert len(sample.classes) == classes
    assert len(sample.split("test")) >= 2
    assert (sample.directory.parent / "LICENSES.md").is_file()


def test_sample_classes_follow_the_published_splits():
    sample = Manifest.load("sample:icons")
    for split, published in load_splits("icons").items():
        assert set(sample.split(split)) < set(published)


def test_unknown_sample_lists_the_others():
    message = fails(Manifest.load, "sample:trees")
    assert "sample:icons, sample:nuclei" in message


def test_no_such_folder(tmp_path):
    assert str(tmp_path / "none") in fails(Manifest.load, tmp_path / "none")


def test_folder_without_manifest(tmp_path):
    message = fails(Manifest.load, tmp_path)
    assert "has no dataset.json" in message and "with efficientlab convert" in message


def test_not_json(manifest):
    (manifest.directory / "dataset.json").write_text('{"classes": ')
    assert "cannot be read" in fails(Manifest.load, manifest.directory)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"format": None}, "format None, expected 1"),
        (
            {"classes": {"ant": {"shard": "a", "count": 4}}},
            "'ant': `sha256` is missing",
        ),
        ({"classes": {"ant": entry(count=-1)}}, "`count` must not be negative"),
        ({"classes": {"ant": entry(count=2.5)}}, "`count` must be a whole number"),
        ({"classes": {"ant": entry(count=float("inf"))}}, "out of range"),
        ({"classes": {"ant": entry(shard="../ant")}}, "'../ant' is outside"),
        ({"classes": {"ant": entry(shard="/etc/passwd")}}, "passwd' is outside"),
        ({"classes": {"ant": entry(shard="a" * 1000)}}, "more than 250 characters"),
        ({"classes": ["ant"]}, "cannot be read"),
        ({"splits": {"train": None}}, "'train' is not a list of names"),
        ({"splits": {"train": "ant"}}, "'train' is not a list of names"),
        ({"splits": {"train": ["ant"], "test": ["ant"]}}, "'ant' is in the splits"),
        ({"splits": {"train": ["yak"]}}, "'yak' (train)"),
    ],
)
def test_inconsistent_contents(manifest, changes, expected):
    edit(manifest, **changes)
    assert expected in fails(Manifest.load, manifest.directory)


def test_missing_shard(manifest):
    manifest.shard_path("bee").unlink()
    message = fails(Manifest.load, manifest.directory)
    assert "lacks 1 of 3 shards" in message and "bee.tfrecord" in message


def test_save_where_nothing_can_be_written(manifest, tmp_path):
    moved = replace(manifest, directory=tmp_path / "none")
    assert "cannot write" in fails(moved.save)


def test_save_checks_splits_and_keeps_the_old_file(manifest):
    bad = replace(manifest, splits={"train": ("ant",), "val": ("ant",)})
    assert "'ant'" in fails(bad.save)
    assert Manifest.load(manifest.directory) == manifest
