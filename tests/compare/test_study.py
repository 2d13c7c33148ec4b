"""A comparison's processes: what is kept, what is done again, what fails."""

import dataclasses
import json
import os

import numpy as np
import pytest

from efficientlab_tf.compare import compare
from efficientlab_tf.config import Settings
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import measure as measuring
from efficientlab_tf.evaluation import study
from efficientlab_tf.evaluation.measure import Measured, Unit
from efficientlab_tf.evaluation.methods import Method
from tests.forked import run_forked


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
