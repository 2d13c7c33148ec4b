"""Compares methods of few-shot segmentation under one protocol.

    python -m efficientlab_tf.compare --dataset_dir=datasets/icons \
        --methods=all_foreground,nearest_neighbour,logistic_regression,oslsm=runs/x \
        --output=results/compare

Every method sees the same tasks, at --eval_size, in a process of its own. Writes
table.md, results.csv, bars.png, curves with several --points and --shots, and for each
method, fold and kind of support sets its tasks' counts and some pictures in units/.
What was measured is not measured again: a comparison that was stopped goes on, and one
with more methods measures only these.
"""

import dataclasses
import itertools
import math
from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.config import CompareConfig
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import measure
from efficientlab_tf.evaluation.measure import Measured, Unit, tasks_of
from efficientlab_tf.evaluation.meta_test import open_dataset
from efficientlab_tf.evaluation.methods import Method, parse_methods
from efficientlab_tf.evaluation.report import Row, write_report
from efficientlab_tf.evaluation.study import (
    UNITS,
    file_name,
    run_unit,
    stamp_of,
    units_folder,
)
from efficientlab_tf.shipped import shipped


def compare(config: CompareConfig, output: Path) -> list[Row]:
    """Measures all that `output` does not hold; prints the table each time it grows.

    Returns:
      The rows: of each method and number of shots the folds', and their mean if there
      are several.

    Raises:
      UserError: bad input; what was measured before is kept.
    """
    methods = parse_methods(config.methods)
    manifest = open_dataset(config.dataset_dir)
    folds: tuple[int | None, ...] = config.fold_numbers or (None,)
    support_sets = tuple(itertools.product(config.shot_numbers, config.point_numbers))
    stamps = {method.label: _stamp(method, manifest) for method in methods}
    units = [
        [
            Unit(method, shots, points, fold, _of_unit(config), stamps[method.label])
            for fold in folds
        ]
        for method, (shots, points) in itertools.product(methods, support_sets)
    ]
    # Whether there are enough examples for all of it, before the first is measured.
    for unit in itertools.chain(*units[: len(support_sets)]):
        tasks_of(unit)
    folder = units_folder(output)
    where = config.eval_split if folds == (None,) else f"folds {config.folds}"
    title = f"{manifest.name}, {where}, {config.eval_size} px"
    rows: list[Row] = []
    for of_folds in units:
        own = []
        for unit in of_folds:
            values = dataclasses.asdict(unit)
            found = run_unit(measure.__name__, values, folder, _name(unit), unit.label)
            label = config.eval_split if unit.fold is None else str(unit.fold)
            key = unit.method.label, unit.shots, unit.points, label
            if measure.DIVERGED in found:
                print(f"note: {unit.label}: {found[measure.DIVERGED]}")
                own.append(Row.diverged(*key))
                continue
            measured = Measured.from_dict(found)
            if measured.skipped:
                print(
                    f"note: {measured.skipped} test pairs of fold {unit.fold} have too "
                    f"few support pictures for {unit.shots} shots and were left out"
                )
            own.append(Row.of(*key, measured))
        rows += own + ([Row.mean(own)] if len(own) > 1 else [])
        table = write_report(output, rows, title)
        print(f"\n{title}:\n{table}")
    return rows


def _stamp(method: Method, manifest: Manifest) -> str:
    """Of what a result depends on: the model's files and the dataset's lists."""
    if method.model and method.model not in shipped():
        if not Path(method.model).exists():
            raise UserError(
                f"{method.label}: no such model: {method.model}; expected a run's "
                f"folder, a .keras file or one of {', '.join(shipped())}"
            )
    lists = (p for p in manifest.directory.glob("*.*") if p.suffix in (".json", ".csv"))
    return stamp_of(method.model, lists)


def _name(unit: Unit) -> str:
    name = f"{file_name(unit.method.label)}-{unit.shots}shot"
    name += "" if unit.points == DENSE else f"-{unit.points}points"
    return name + ("" if unit.fold is None else f"-fold{unit.fold}")


def _of_unit(config: CompareConfig) -> CompareConfig:
    """What of the comparison decides a unit's result: not its other units."""
    return dataclasses.replace(config, methods="", folds="", shots="1", points=DENSE)


def main() -> None:
    """Compares as the flags say."""
    (output,) = flags.needed(output=flags.A_FOLDER)
    rows = compare(flags.read(CompareConfig), Path(output))
    print(f"written: {output}/table.md, results.csv, bars.png, {UNITS}/")
    diverged = [row.method for row in rows if math.isnan(row.class_iou.mean)]
    if diverged:
        raise UserError(
            f"{', '.join(dict.fromkeys(diverged))} diverged, as the table says; give a "
            "smaller learning rate, LABEL=MODEL:learning_rate=..., or fewer steps"
        )


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(CompareConfig)
    flags.define_one("output", "", flags.STUDY_HELP)
    flags.alias(
        output_dir="output",
        compare_shots="shots",
        compare_points="points",
        compare_seed="seed",
    )


if __name__ == "__main__":
    define_flags()
    flags.run(main)
