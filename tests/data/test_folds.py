"""Lists of test pairs: how they are drawn and stored, and the episodes they make."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.data.fold_episodes import fold_episodes
from efficientlab_tf.data.fold_lists import (
    MAX_SHOTS,
    PairRow,
    draw_pairs,
    pairs_filename,
    read_pairs,
    write_pairs,
)
from efficientlab_tf.data.folds import fold_number, plain_name
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.records import write_shard
from efficientlab_tf.data.verify import verify_dataset
from efficientlab_tf.episode import require_disjoint
from efficientlab_tf.errors import UserError
from tests.data.folded_dataset import ROWS, folded_dataset
from tests.data.tiny_dataset import class_number, sources, tiny_examples, tiny_mask
from tools.inspect_dataset import counts_table

SIZE = (32, 48)
PICTURES = {
    "cat": ["c1", "c2", "both"],
    "dog": [f"d{number}" for number in range(8)] + ["both"],
    "elk": ["alone"],
}


@pytest.fixture(scope="module")
def shared_manifest(tmp_path_factory):
    return folded_dataset(tmp_path_factory.mktemp("folded"), SIZE)


@pytest.fixture
def manifest(tmp_path):
    return folded_dataset(tmp_path / "folded", SIZE)


def test_every_pair_keeps_the_rules():
    rows = draw_pairs(PICTURES, 500, seed=3, fold=1)
    assert len(rows) == 500
    for row in rows:
        names = (row.query, *row.support)
        assert set(names) <= set(PICTURES[row.class_name])
        assert len(set(names)) == len(names)
        others = len(PICTURES[row.class_name]) - 1
        assert len(row.support) == min(MAX_SHOTS, others)
    # One picture is no pair.
    assert {row.class_name for row in rows} == {"cat", "dog"}
    assert draw_pairs({"elk": ["alone"]}, 5, seed=0, fold=0) == []


def test_pairs_are_a_function_of_seed_fold_names_and_classes():
    rows = draw_pairs(PICTURES, 50, seed=3, fold=1)
    shuffled = {name: PICTURES[name][::-1] for name in reversed(PICTURES)}
    assert draw_pairs(shuffled, 50, seed=3, fold=1) == rows
    assert draw_pairs(PICTURES, 20, seed=3, fold=1) == rows[:20]
    assert draw_pairs(PICTURES, 50, seed=4, fold=1) != rows
    assert draw_pairs(PICTURES, 50, seed=3, fold=2) != rows
    # On every machine and with every version: as first drawn.
    assert rows[:2] == [
        PairRow("dog", "d0", ("both", "d4", "d1", "d2", "d5")),
        PairRow("cat", "c2", ("c1", "both")),
    ]


def test_pictures_classes_and_support_are_drawn_uniformly():
    count = 6000
    rows = draw_pairs(PICTURES, count, seed=0, fold=0)

    def check(drawn, expected, total):
        """Compares with the probabilities, to five standard deviations."""
        assert set(drawn) == set(expected)
        for key, p in expected.items():
            assert abs(drawn[key] - total * p) < 5 * np.sqrt(total * p * (1 - p))

    # Eleven pictures hold a class that has two; one holds both.
    names = sorted({*PICTURES["cat"], *PICTURES["dog"]})
    assert len(names) == 11
    check(Counter(row.query for row in rows), dict.fromkeys(names, 1 / 11), count)
    both = [row for row in rows if row.query == "both"]
    classes = Counter(row.class_name for row in both)
    check(classes, {"cat": 0.5, "dog": 0.5}, len(both))
    dogs = [row for row in rows if row.query == "d0"]
    others = [name for name in PICTURES["dog"] if name != "d0"]
    for place in range(MAX_SHOTS):
        drawn = Counter(row.support[place] for row in dogs)
        check(drawn, dict.fromkeys(others, 1 / 8), len(dogs))


def test_lists_survive_the_disk(tmp_path):
    rows = [*draw_pairs(PICTURES, 30, seed=0, fold=0), PairRow("a, b", "q", ("s",))]
    write_pairs(tmp_path / "pairs.csv", rows)
    assert read_pairs(tmp_path / "pairs.csv") == rows
    first = (tmp_path / "pairs.csv").read_text().splitlines()[0]
    assert first == "class,query,support_1,support_2,support_3,support_4,support_5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1: expected the columns class,query,support_1"),
        ("class,query\n", ":1: expected the columns"),
        ("class,query,support_2\n", ":1: expected the columns"),
        ("class,query,support_1\nbee,0\n", ":2: expected a class, a query"),
        ("class,query,support_1\nbee,0,\n", ":2: .*at least one support"),
        ("class,query,support_1\nbee,0,1\n,0,1\n", ":3: expected a class"),
        ("class,query,support_1,support_2\nbee,0,,1\n", ":2: expected a class"),
        ("class,query,support_1\n\n", ":2: expected a class"),
    ],
)
def test_malformed_lists_are_refused_by_line(tmp_path, text, expected):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UserError, match=f"pairs.csv{expected}"):
        read_pairs(tmp_path / "pairs.csv")


def test_names_of_entries_and_folds():
    assert plain_name("val-train") == plain_name("train-train") == "train"
    assert plain_name("bus") == "bus"
    assert [fold_number(n) for n in ("fold0", "fold12", "folds", "fold", "fold-1")] == [
        *(0, 12),
        *(None, None, None),
    ]


@pytest.mark.parametrize("shots", [1, 3])
def test_episodes_are_those_of_the_list(shared_manifest, shots):
    result = fold_episodes(shared_manifest, 0, shots=shots, image_size=SIZE)
    rows = [row for row in ROWS if len(row.support) >= shots]
    assert result.total == len(rows)
    assert result.skipped == len(ROWS) - len(rows)
    tasks = list(result.episodes)
    assert len(tasks) == len(rows)
    draws = {"bee": iter(range(3)), "cow": iter(range(2))}
    for (episode, name, draw), row in zip(tasks, rows, strict=True):
        assert name == row.class_name and draw == next(draws[name])
        assert episode.name.numpy().decode() == name
        number = class_number(f"val-{name}")
        support = [(number, int(stem)) for stem in row.support[:shots]]
        assert sources(episode.support_images) == support
        assert sources(episode.query_images) == [(number, int(row.query))]
        for masks in (episode.support_masks, episode.query_masks):
            assert all((mask == tiny_mask(SIZE)).all() for mask in masks.numpy())
        assert episode.query_masks.shape == (1, *SIZE)
        assert episode.support_images.dtype == tf.uint8
        require_disjoint(episode, name)


def test_points_of_pairs_are_a_function_of_seed_fold_class_and_draw(shared_manifest):
    def masks(**options):
        tasks = fold_episodes(shared_manifest, 0, shots=1, image_size=SIZE, **options)
        return [(e.support_masks.numpy(), e.query_masks) for e, _, _ in tasks.episodes]

    dense, sparse = masks(), masks(points=(3, 3))
    for (whole, query), (points, same_query) in zip(dense, sparse, strict=True):
        known = points != 255
        np.testing.assert_array_equal(points[known], whole[known])
        labels, counts = np.unique(points[known], return_counts=True)
        assert labels.tolist() == [0, 1] and counts.max() == 3
        np.testing.assert_array_equal(query, same_query)
    again, other = masks(points=(3, 3), limit=2), masks(points=(3, 3), seed=1)
    for (a, _), (b, _) in zip(again, sparse, strict=False):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for (a, _), (b, _) in zip(other, sparse, strict=True))


def test_the_first_pairs_alone(shared_manifest):
    result = fold_episodes(shared_manifest, 0, shots=3, image_size=16, limit=3)
    tasks = [(name, draw) for _, name, draw in result.episodes]
    assert (result.total, result.skipped) == (2, 1)
    assert tasks == [("bee", 0), ("bee", 1)]


def test_a_pair_keeps_its_number_whatever_the_shots(manifest):
    rows = [PairRow("bee", "0", ("1",)), PairRow("bee", "0", ("1", "2"))]
    write_pairs(manifest.directory / pairs_filename(0), rows)
    result = fold_episodes(manifest, 0, shots=2, image_size=16)
    assert [draw for _, _, draw in result.episodes] == [1]


def test_what_cannot_be_drawn_is_said_before_the_first_episode(manifest):
    path = manifest.directory / pairs_filename(0)

    def fails(match, fold=0, shots=1, dataset=manifest, **options):
        with pytest.raises(UserError, match=match) as info:
            fold_episodes(dataset, fold, shots=shots, image_size=16, **options)
        assert "\n" not in str(info.value)

    fails("none of 5 pairs has 4 support pictures, the most are 3; lower", shots=4)
    fails("none of 0 pairs", fold=1)
    fails("has no fold2; choose one of: fold0, fold1", fold=2)
    fails("has no fold-1", fold=-1)
    fails("`shots` must be at least 1", shots=0)
    fails("`limit` must be at least 1", limit=0)
    plain = dataclasses.replace(manifest, folds=())
    fails("has no folds, so no fold0; its splits are: dev, all", dataset=plain)
    for row, match in (
        (PairRow("bee", "0", ("9",)), "names 9 of bee, which .*val-bee.*lacks"),
        (PairRow("ant", "0", ("1",)), "names class 'ant', but fold0 tests on bee, cow"),
    ):
        write_pairs(path, [*ROWS, row])
        fails(match)
    path.unlink()
    fails("cannot read the list of test pairs .*No such file")


def test_a_picture_that_cannot_be_decoded_is_named(manifest):
    broken = [e._replace(image=b"no image") for e in tiny_examples("val-cow", 2)]
    write_shard(manifest.shard_path("val-cow"), broken)
    result = fold_episodes(manifest, 0, shots=1, image_size=16)
    assert next(result.episodes)[1] == "bee"
    with pytest.raises(UserError, match="val-cow.tfrecord: cannot decode 0 "):
        next(result.episodes)


def test_verify_checks_the_lists(manifest):
    assert verify_dataset(manifest.directory).faults == []
    rows = [
        PairRow("bee", "0", ("1", "7")),
        PairRow("ant", "0", ("1",)),
        PairRow("cow", "1", ("1",)),
        PairRow("bee", "1", ("2",)),
    ]
    write_pairs(manifest.directory / pairs_filename(0), rows)
    (manifest.directory / pairs_filename(1)).unlink()
    faults = verify_dataset(manifest.directory).faults
    for fault, expected in zip(
        faults,
        (
            "pairs-fold0.csv:2: bee has no 7",
            "pairs-fold0.csv:3: ant is no test class",
            "pairs-fold0.csv:4: a picture is named twice",
            "cannot read the list of test pairs",
        ),
        strict=True,
    ):
        assert expected in fault


def test_counts_of_each_fold(manifest):
    lines = [line.split() for line in counts_table(manifest).splitlines()]
    assert lines[1:] == [
        *(["dev", "1", "2", "2", "2"], ["fold0", "train", "1", "3", "3", "3"]),
        *(
            ["fold0", "test", "2", "6", "2", "4"],
            ["fold1", "train", "1", "3", "3", "3"],
        ),
        *(["fold1", "test", "1", "2", "2", "2"], ["all", "5", "14", "2", "4"]),
    ]


def test_a_fold_takes_the_place_of_the_splits(manifest):
    loaded = Manifest.load(manifest.directory)
    assert loaded == manifest
    assert loaded.with_splits("fold1").split("test") == ("val-ant",)
    assert loaded.with_splits("fold1").folds == loaded.folds
    with pytest.raises(
        UserError, match="no split 'test'.*`splits` to one of: fold0, fold1"
    ):
        loaded.split("test")
