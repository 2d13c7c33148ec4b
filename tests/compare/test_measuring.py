"""The comparison: which tasks are measured, and what its command writes of them."""

import csv
import dataclasses

import numpy as np
import pytest

from efficientlab_tf.compare import compare
from efficientlab_tf.config import CompareConfig
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import measure as measuring
from efficientlab_tf.evaluation.measure import Unit
from efficientlab_tf.evaluation.methods import Method
from efficientlab_tf.evaluation.report import Row, markdown
from efficientlab_tf.metrics import Interval, Summary
from tests.data.tiny_dataset import class_number, sources, tiny_dataset


def test_the_floors_have_the_numbers_that_they_must(config, tmp_path):
    rows = compare(config, tmp_path / "out")
    assert [row.method for row in rows] == ["all_foreground", "all_background"]
    foreground, background = rows
    # Counted from the same tasks, without any method.
    unit = Unit(Method("all_foreground"), 1, DENSE, None, config)
    fractions, pixels = [], []
    for episode, _, _ in measuring.tasks_of(unit).episodes:
        masks = np.asarray(episode.query_masks)
        fractions.append(np.mean([(mask == 1).mean() for mask in masks]))
        pixels.append((masks == 1).mean())
    expected = Interval.of(fractions)
    assert foreground.per_image_iou.mean == pytest.approx(expected.mean, abs=1e-6)
    assert foreground.per_image_iou.half_width == pytest.approx(expected.half_width)
    assert foreground.fb_iou.mean == pytest.approx(np.mean(pixels) / 2, abs=1e-6)
    assert foreground.positive_iou.mean == pytest.approx(np.mean(pixels), abs=1e-6)
    assert background.class_iou.mean == pytest.approx(0, abs=1e-6)
    assert background.fb_iou.mean == pytest.approx((1 - np.mean(pixels)) / 2, abs=1e-6)
    assert all(row.tasks == 2 and row.seconds > 0 for row in rows)
    assert all(50 * 2**20 < row.peak_bytes < 20 * 2**30 for row in rows)
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [r["method"] for r in table] == ["all_foreground", "all_background"]
    assert float(table[0]["per_image_iou"]) == pytest.approx(expected.mean, abs=1e-5)
    positive = float(table[0]["positive_iou"])
    assert positive == pytest.approx(np.mean(pixels), abs=1e-5)
    assert (tmp_path / "out" / "table.md").read_text() == markdown(rows)
    for name in ("bars.png", "units/all_foreground-1shot.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000


def test_several_ways(config, model):
    config = dataclasses.replace(config, ways=2)
    floor, _ = measuring.measure(Unit(Method("all_background"), 1, DENSE, None, config))
    names = set(Manifest.load("sample:icons").with_splits(config.splits).split("test"))
    assert len(floor.results) == 2
    for result in floor.results:
        assert set(result.name.split("+")) == names
        assert result.counts.shape == (4, 3, 3)
    # A network for one class gets a head for two.
    unit = Unit(Method("own", str(model)), 1, DENSE, None, config)
    measured, _ = measuring.measure(unit)
    assert Row.of("own", 1, DENSE, "test", measured).positive_iou.mean >= 0
    neighbour = Unit(Method("nearest_neighbour"), 1, DENSE, None, config)
    measured, _ = measuring.measure(neighbour)
    assert Summary.of(measured.results).positive_iou > 0


def test_interactive_tasks_ask_about_their_own_pictures(config):
    config = dataclasses.replace(config, family="interactive", eval_queries=0)
    unit = Unit(Method("all_foreground"), 1, "5", None, config)
    for episode, _, _ in measuring.tasks_of(unit).episodes:
        np.testing.assert_array_equal(episode.support_images, episode.query_images)
        assert (np.asarray(episode.support_masks) != 255).sum() == 10
    measured, _ = measuring.measure(unit)
    assert len(measured.results) == 2


def test_support_from_another_split(tmp_path, here):
    counts = {"train-a": 4, "val-a": 3, "train-b": 2, "val-b": 5}
    splits = {"all_train": ("train-a", "train-b"), "all_val": ("val-a", "val-b")}
    tiny_dataset(tmp_path / "data", counts, splits, (32, 32))
    config = CompareConfig(
        methods="all_foreground",
        dataset_dir=str(tmp_path / "data"),
        eval_split="all_val",
        support_split="all_train",
        shots="1,3,99",
        points="2",
        eval_size=32,
        splits_per_task=1,
        timed_tasks=1,
    )
    unit = Unit(Method("all_foreground"), 3, "2", None, config)
    for (episode, name, _), shots, queries in zip(
        measuring.tasks_of(unit).episodes, (3, 2), (3, 5), strict=True
    ):
        support, query = map(sources, (episode.support_images, episode.query_images))
        assert len(set(support)) == shots and len(set(query)) == queries
        assert {c for c, _ in query} == {class_number(name)}
        assert {c for c, _ in support} == {class_number(name.replace("val", "train"))}
        assert all((m == 1).sum() == 2 for m in np.asarray(episode.support_masks))
    rows = compare(config, tmp_path / "out")
    assert [row.shots for row in rows] == [1, 3, 99]
    assert (tmp_path / "out" / "shots.png").stat().st_size > 1000
    with pytest.raises(UserError, match="`support_split` needs `family`=class"):
        dataclasses.replace(config, ways=2)


def test_pairs_of_folds_are_of_one_class(config):
    with pytest.raises(UserError, match="`folds` needs `ways`=1, received `ways`=2"):
        dataclasses.replace(config, folds="0", ways=2)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"shots": "1,x"}, "`shots` must be"),
        ({"shots": "0"}, "`shots` must be"),
        ({"folds": "0,0"}, "`folds` must be"),
        ({"points": "5,0"}, "`points` must be"),
        ({"points": "1-9"}, "`points` must be"),
        ({"eval_size": 100}, "`eval_size` must be a multiple of 32"),
        ({"timed_tasks": 0}, "`timed_tasks` must be at least 1"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(UserError, match=message):
        CompareConfig(**changes)


def test_points_have_rows_of_their_own_and_a_chart(config, tmp_path, here):
    sparse = dataclasses.replace(config, methods="nearest_neighbour", points="3,-1")
    rows = compare(sparse, tmp_path / "out")
    assert [row.points for row in rows] == ["3", DENSE]
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert table[0].startswith("| method | shots | points | class-wise mIoU |")
    assert table[2].startswith("| nearest_neighbour | 1 | 3 |")
    assert table[3].startswith("| nearest_neighbour | 1 | dense |")
    assert (tmp_path / "out" / "points.png").stat().st_size > 1000
    for name in ("", "-3points"):
        unit = tmp_path / "out" / "units" / f"nearest_neighbour-1shot{name}.json"
        assert unit.is_file()


def test_points_of_tasks(config):
    """Each support mask knows so many pixels of each label, and they are true."""
    for points in ("3", DENSE):
        unit = Unit(Method("all_foreground"), 1, points, None, config)
        for episode, _, _ in measuring.tasks_of(unit).episodes:
            known = np.asarray(episode.support_masks) != 255
            labels, counts = np.unique(episode.support_masks, return_counts=True)
            if points == DENSE:
                assert known.all()
            else:
                assert dict(zip(labels, counts, strict=True)) == {
                    0: 3,
                    1: 3,
                    255: 32 * 32 - 6,
                }
            assert (np.asarray(episode.query_masks) != 255).all()
