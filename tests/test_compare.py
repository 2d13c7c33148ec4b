"""The comparison: what its command writes, and what its numbers are made of."""

import csv
import dataclasses
import json
import os
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.compare import compare
from efficientlab_tf.config import (
    CompareConfig,
    DataConfig,
    LearnerConfig,
    ModelConfig,
    Settings,
)
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import measure as measuring
from efficientlab_tf.evaluation import study
from efficientlab_tf.evaluation.measure import Measured, Unit
from efficientlab_tf.evaluation.methods import (
    Method,
    at_size,
    comparable,
    parse_methods,
)
from efficientlab_tf.evaluation.oracle import Oracle
from efficientlab_tf.evaluation.report import Row, fb_iou_interval, markdown
from efficientlab_tf.metrics import Interval, Summary, TaskResult
from efficientlab_tf.segmenters.network import Network
from tests.data.tiny_dataset import class_number, sources, tiny_dataset
from tests.forked import run_forked
from tests.models.tiny import tiny_network


@pytest.fixture
def config(tmp_path):
    names = Manifest.load("sample:icons").split("val")[:2]
    (tmp_path / "test.txt").write_text("\n".join(names) + "\n")
    return CompareConfig(
        methods="all_foreground,all_background",
        dataset_dir="sample:icons",
        splits=f"test={tmp_path / 'test.txt'}",
        shots="1",
        eval_size=32,
        splits_per_task=1,
        eval_queries=2,
        timed_tasks=1,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network at 64 pixels with random weights; its inner loop takes one step."""
    config = RunConfig(
        DataConfig(),
        ModelConfig(image_size=64),
        LearnerConfig(inner_steps=1, augment_rate=0.0),
    )
    network = Network(tiny_network(64))
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_keras(path, network, network.weights(), config)
    return path


@pytest.fixture
def here(monkeypatch):
    """Units are measured in this process, as others of their own take longer."""

    def run(command, **options):
        with pytest.raises(SystemExit):
            study.unit_process(measuring._measure, command[-2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study.subprocess, "run", run)


def result_of(name, draw, truth, predicted):
    probabilities = np.stack([1.0 - predicted, predicted], axis=-1)
    return TaskResult.of(name, draw, truth, probabilities)


def some_results(tasks=6, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        result_of(
            f"class{i % 3}",
            i // 3,
            rng.integers(0, 2, (2, 8, 8)).astype(np.uint8),
            rng.integers(0, 2, (2, 8, 8)).astype(np.float64),
        )
        for i in range(tasks)
    )


def test_methods_as_they_are_typed():
    methods = parse_methods(
        "nearest_neighbour, tuned=runs/x:inner_steps=20:adapt=decoder,"
        "logistic_regression=m.keras"
    )
    assert methods == (
        Method("nearest_neighbour"),
        Method("tuned", "runs/x", Settings(steps=20, adapt="decoder")),
        Method("logistic_regression", "m.keras"),
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "`methods` is needed"),
        ("what", "LABEL=MODEL; received 'what'"),
        ("=runs/x", "LABEL=MODEL; received '=runs/x'"),
        ("x=runs/x:stages=3", "received 'stages=3'"),
        ("x=runs/x:inner_steps", "received 'inner_steps'"),
        ("x=runs/x:steps=three", "x: steps is not a number, received 'three'"),
        ("x=runs/x:steps=-1", "`steps` must be at least 0, received -1"),
        ("x=runs/x,x=runs/y", "names x twice"),
        ("all_foreground=runs/x", "needs no model"),
        ("nearest_neighbour:l2=0", "has no settings"),
    ],
)
def test_methods_that_cannot_be_read(text, message):
    with pytest.raises(UserError, match=message):
        parse_methods(text)


def test_settings_of_a_method_that_do_not_suit_its_model(model):
    method = Method("x", str(model), Settings(batch_norm="query"))
    with pytest.raises(UserError, match="batch_norm must be running or support"):
        comparable(method, backbone="", eval_size=64)


def test_a_model_is_built_with_its_own_and_the_given_settings(model):
    method = Method("x", str(model), Settings(steps=3, batch_norm="running"))
    segmenter, adaptation = comparable(method, backbone="", eval_size=64)
    assert (segmenter.steps, segmenter.batch_norm) == (3, "running")
    assert segmenter.learning_rate == LearnerConfig().inner_learning_rate
    assert adaptation == "3 steps at 0.005, batch norm running"
    own, adaptation = comparable(Method("x", str(model)), backbone="", eval_size=96)
    assert own.segmenter.steps == 1
    assert adaptation == "1 steps at 0.005, batch norm support"
    assert (own.own, own.wanted) == ((64, 64), (96, 96))


class Half:
    """Says what it is shown, at 4 by 4 pixels: the red of the query is foreground."""

    def adapt(self, images, masks, *, seed):
        assert images.shape == (1, 4, 4, 3) and images.dtype == np.uint8
        assert masks.shape == (1, 4, 4) and set(np.unique(masks)) == {0, 1, 255}
        return self

    def predict(self, images):
        assert images.shape[1:] == (4, 4, 3) and images.dtype == np.uint8
        red = images[..., 0] / np.float32(255)
        return np.stack([1 - red, red], axis=-1)


def test_a_segmenter_at_another_size():
    segmenter = at_size(Half(), (4, 4), (8, 8))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[:, 4:], masks[:, :2] = 1, 255
    probabilities = segmenter.adapt(image, masks, seed=0).predict(image)
    small = tf.image.resize(image, (4, 4), antialias=True).numpy().round()
    red = tf.image.resize(small[..., :1] / 255, (8, 8)).numpy()[..., 0]
    np.testing.assert_allclose(probabilities[..., 1], red, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    sparse = np.full_like(masks, 255)
    sparse[:, 0, 1], sparse[:, 3, 3] = 0, 1  # Both between the nearest pixels.
    segmenter.adapt(image, tf.constant(sparse), seed=0)
    same = Half()
    assert at_size(same, (4, 4), (4, 4)) is same


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


class Sure:
    """Predicts the same probabilities of three classes everywhere."""

    def predict(self, images):
        return np.broadcast_to([0.3, 0.2, 0.4, 0.1], (*images.shape[:3], 4))


def test_an_oracle_knows_the_class_of_a_task():
    oracle = Oracle(Sure(), ("a", "b", "c"))
    images, masks = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.uint8)

    def found(name):
        return oracle.for_task(name).adapt(images, masks).predict(images)[0, 0, 0]

    np.testing.assert_allclose(found("val-b"), [0.3 / 0.7, 0.4 / 0.7])
    np.testing.assert_allclose(found("a"), [0.4 / 0.6, 0.2 / 0.6])
    np.testing.assert_allclose(found("c+b"), [0.3 / 0.8, 0.1 / 0.8, 0.4 / 0.8])
    with pytest.raises(UserError, match="trained on class d, received one of a, b, c"):
        oracle.for_task("d")


def test_an_oracle_is_a_network_of_many_classes(config, model):
    oracle = Method("oracle", str(model))
    with pytest.raises(UserError, match="oracle: .* trained with `labels`=dataset"):
        comparable(oracle, backbone="", eval_size=32)
    names = Manifest.load("sample:icons").with_splits(config.splits).split("test")
    run = RunConfig(
        DataConfig(
            dataset_dir="sample:icons",
            splits=config.splits,
            train_split="test",
            labels="dataset",
            val_split="",
        ),
        ModelConfig(image_size=32, num_classes=2),
        LearnerConfig(learner="joint", inner_steps=0, batch_norm="running"),
    )
    network = Network(tiny_network(32, num_classes=2))
    path = model.parent / "joint.keras"
    save_keras(path, network, network.weights(), run)
    unit = Unit(Method("oracle", str(path)), 1, DENSE, None, config)
    measured, _ = measuring.measure(unit)
    assert {result.name for result in measured.results} == set(names)


def test_what_was_measured_is_not_measured_again(config, tmp_path, monkeypatch):
    unit = Unit(Method("all_background"), 1, DENSE, None, config, "stamp")

    def run(unit):
        values = dataclasses.asdict(unit)
        measured = study.run_unit(measuring.__name__, values, tmp_path, "unit", "x")
        return Measured.from_dict(measured)

    first = run(unit)

    def refuse(*arguments, **options):
        raise AssertionError("measured again")

    monkeypatch.setattr(study.subprocess, "run", refuse)
    again = run(unit)
    assert again.seconds == first.seconds
    for a, b in zip(first.results, again.results, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
        assert (a.name, a.draw, a.iou, a.soft_iou) == (
            b.name,
            b.draw,
            b.iou,
            b.soft_iou,
        )
    for other in (
        dataclasses.replace(unit, stamp="of another model"),
        dataclasses.replace(unit, config=dataclasses.replace(config, eval_queries=1)),
    ):
        with pytest.raises(AssertionError, match="measured again"):
            run(other)


def test_a_process_that_outlives_its_study_writes_nothing_into_the_next(
    tmp_path, capsys
):
    request, path = tmp_path / "unit.json", tmp_path / "result.json"
    request.write_text('{"threshold": 1}')

    def measure(unit, path):
        request.write_text('{"threshold": 2}')
        return unit

    with pytest.raises(SystemExit) as ended:
        study.unit_process(measure, [str(request), str(path)])
    assert ended.value.code == 2 and "by another process" in capsys.readouterr().err
    assert not path.exists()
    with pytest.raises(SystemExit) as ended:
        study.unit_process(lambda unit, path: unit, [str(request), str(path)])
    assert ended.value.code == 0
    assert json.loads(path.read_text()) == {"threshold": 2}


def test_a_stamp_follows_the_model(config, model, tmp_path):
    before = study.stamp_of(str(model), [])
    assert study.stamp_of(str(model), []) == before
    copy = tmp_path / "model.keras"
    copy.write_bytes(model.read_bytes())
    first = study.stamp_of(str(copy), [])
    os.utime(copy, (1, 1))
    assert study.stamp_of(str(copy), []) != first
    bad = dataclasses.replace(config, methods=f"x={tmp_path / 'none'}")
    with pytest.raises(UserError, match="x: no such model"):
        compare(bad, tmp_path / "out")


def test_a_unit_survives_json(config):
    unit = Unit(Method("x", "runs/x", Settings(l2=0.5)), 5, "25", 2, config, "stamp")
    values = json.loads(json.dumps(dataclasses.asdict(unit)))
    assert Unit.from_dict(values) == unit


def test_bad_input_of_a_process_is_one_sentence(config, tmp_path, capfd):
    (tmp_path / "model.keras").write_text("no model")
    bad = dataclasses.replace(config, methods=f"x={tmp_path / 'model.keras'}")
    with pytest.raises(UserError, match="could not be measured: its error is above"):
        compare(bad, tmp_path / "out")
    errors = capfd.readouterr().err
    assert "error: " in errors and "cannot be read" in errors
    assert "Traceback" not in errors


def test_every_cell_is_checked_before_the_first_is_measured(config, tmp_path):
    bad = dataclasses.replace(config, shots="1,500")
    with pytest.raises(UserError, match="class .* lower them"):
        compare(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folds_that_a_dataset_has_not(config, tmp_path):
    with pytest.raises(UserError, match="fold"):
        compare(dataclasses.replace(config, folds="0,4"), tmp_path / "out")


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


def test_fb_iou_interval_is_that_of_a_bootstrap_over_tasks():
    results = some_results(12)
    interval = fb_iou_interval(results)
    assert interval.mean == Summary.of(results).fb_iou
    assert interval == fb_iou_interval(results[::-1])
    rng = np.random.default_rng(1)
    values = [
        Summary.of([results[i] for i in rng.integers(0, 12, 12)]).fb_iou
        for _ in range(400)
    ]
    spread = np.percentile(values, [2.5, 97.5])
    assert interval.half_width == pytest.approx(np.diff(spread)[0] / 2, rel=0.15)


def test_mean_of_folds_and_table():
    measured = [Measured(some_results(seed=i), 0.5 + i, 3, 2**30, 0) for i in (0, 1)]
    rows = [Row.of("x", 1, DENSE, str(i), m) for i, m in enumerate(measured)]
    mean = Row.mean(rows)
    for name in ("class_iou", "fb_iou", "per_image_iou"):
        own = [getattr(row, name) for row in rows]
        assert getattr(mean, name).mean == pytest.approx(np.mean([o.mean for o in own]))
        assert getattr(mean, name).half_width == pytest.approx(
            np.hypot(own[0].half_width, own[1].half_width) / 2
        )
    assert (mean.tasks, mean.seconds, mean.peak_bytes) == (12, 1.0, 2**30)
    head, _, line = markdown([*rows, mean]).splitlines()
    assert head.startswith("| method | shots | fold 0 | fold 1 | class-wise mIoU |")
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:4] == [
        *("x", "1"),
        *(f"{100 * row.class_iou.mean:.2f}" for row in rows),
    ]
    assert cells[-3:] == ["1.000", "1.00", ""]


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


def test_measured_survives_json():
    measured = Measured(some_results(), 0.5, 3, 2**30, 2**20, 4)
    again = Measured.from_dict(json.loads(json.dumps(measured.to_dict())))
    assert again.skipped == 4
    assert Summary.of(again.results) == Summary.of(measured.results)
    assert again.seconds == 0.5 and again.peak_bytes == 2**30


def test_a_method_that_diverges_is_marked_and_the_others_are_kept(
    config, model, tmp_path
):
    methods = f"x={model}:learning_rate=1e30:steps=3,all_foreground"
    status, out, err = run_forked(
        tmp_path,
        *("compare", f"--methods={methods}", f"--splits={config.splits}"),
        *("--dataset_dir=sample:icons", "--shots=1", "--eval_size=64"),
        *("--splits_per_task=1", "--eval_queries=2", "--timed_tasks=1"),
        f"--output={tmp_path / 'measured'}",
    )
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: x diverged, as the table says; give a smaller")
    assert "adaptation diverged: with `learning_rate`" in out
    _, _, x, floor = (tmp_path / "measured" / "table.md").read_text().splitlines()
    assert x.startswith("| x | 1 | diverged | diverged | diverged |")
    assert floor.startswith("| all_foreground | 1 | ") and "diverged" not in floor
    assert (tmp_path / "measured" / "bars.png").is_file()
    assert "Traceback" not in err
