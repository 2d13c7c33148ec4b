"""Published class lists, lists from files, and what is wrong with them."""

import os
import zlib
from pathlib import Path

import pytest

from efficientlab_tf.data.split_lists import (
    NAMED_SPLITS,
    check_splits,
    load_splits,
    resolve_splits,
)
from efficientlab_tf.errors import UserError

SHARED = Path(
    os.environ.get("EFFICIENTLAB_SHARED", Path(__file__).parents[2].parent / "shared")
)


@pytest.mark.parametrize(
    "spec, sizes",
    [
        ("fss1000", {"train": 760, "test": 240}),
        ("fss1000_520", {"train": 520, "val": 240, "test": 240}),
        ("fss1000_700", {"train": 700, "val": 60, "test": 240}),
        ("fpk", {"test": 5}),
        ("icons", {"train": 435, "val": 60, "test": 100}),
    ],
)
def test_published_sizes_and_no_class_twice(spec, sizes):
    splits = load_splits(spec)
    assert {split: len(names) for split, names in splits.items()} == sizes
    check_splits(splits, {name for names in splits.values() for name in names})


def test_700_60_is_drawn_from_the_760_by_crc32():
    splits = load_splits("fss1000_700")
    classes = load_splits("fss1000")["train"]
    by_crc = sorted(classes, key=lambda name: zlib.crc32(name.encode()))
    assert set(splits["val"]) == set(by_crc[:60])
    assert set(splits["train"]) == set(by_crc[60:])
    assert splits["test"] == load_splits("fss1000")["test"]


def test_both_fss1000_protocols_split_the_same_classes():
    two = load_splits("fss1000")
    three = load_splits("fss1000_520")
    assert three["test"] == two["test"]
    assert set(three["train"]) | set(three["val"]) == set(two["train"])


@pytest.mark.parametrize("spec", NAMED_SPLITS)
def test_lists_are_the_published_ones(spec):
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}")
    for split, stem in NAMED_SPLITS[spec].items():
        if stem.startswith("fss1000_700"):
            continue  # drawn by us: test_700_60_is_drawn_from_the_760_by_crc32
        if spec == "icons":
            source = SHARED / "data" / "icons-fss-splits" / f"{split}.txt"
        else:
            source = SHARED / "splits" / f"{stem}.txt"
        published = source.read_text().replace('"thors_hammer"', "thor's_hammer")
        assert load_splits(spec)[split] == tuple(published.split())


def test_files(tmp_path):
    (tmp_path / "a.txt").write_text("# mine\nant\n\n  bee  \n")
    (tmp_path / "b.txt").write_text("cow")
    splits = load_splits(f"val={tmp_path}/b.txt, train={tmp_path}/a.txt")
    assert splits == {"val": ("cow",), "train": ("ant", "bee")}


def test_errors_name_the_trouble(tmp_path):
    (tmp_path / "twice.txt").write_text("ant\nbee\nant\n")
    (tmp_path / "empty.txt").write_text("\n# none\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for spec, expected in [
        ("fss2000", "unknown splits 'fss2000'; choose one of fss1000, fss1000_520"),
        (f"dev={tmp_path}/twice.txt", "cannot use 'dev="),
        ("train=", "cannot use 'train='"),
        (f"test={tmp_path}/none.txt", "none.txt: No such file"),
        (f"test={tmp_path}/twice.txt", "names class 'ant' twice"),
        (f"test={tmp_path}/empty.txt", "names no class"),
        (f"test={tmp_path}/binary.txt", "not UTF-8"),
    ]:
        with pytest.raises(UserError) as info:
            load_splits(spec)
        assert expected in str(info.value)
        assert "\n" not in str(info.value)


def test_class_in_two_splits():
    splits = {"train": ("ant", "bee"), "test": ("bee",)}
    with pytest.raises(UserError, match="'bee' is in the splits 'train' and 'test'"):
        check_splits(splits, {"ant", "bee"})


def test_class_that_the_data_lacks():
    names = tuple("abcdefg")
    with pytest.raises(UserError, match=r"7 classes .* 'a' \(train\).*and 2 more"):
        check_splits({"train": names}, {"ant"})


@pytest.mark.parametrize(
    "spelling", ["thor's_hammer", "thors_hammer", '"thors_hammer"']
)
def test_quote_marks_do_not_part_a_class_from_its_data(spelling):
    splits = {"train": ("thor's_hammer", "ant")}
    assert resolve_splits(splits, {spelling, "ant"}) == {"train": (spelling, "ant")}
    with pytest.raises(UserError, match="thor's_hammer"):
        resolve_splits(splits, {"hammer", "ant"})
