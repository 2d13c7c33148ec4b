"""Compares methods of few-shot segmentation under one protocol.

    python -m efficientlab_tf.compare --dataset_dir=datasets/icons \
        --methods=all_foreground,nearest_neighbour,logistic_regression,oslsm=runs/x \
        --output_dir=results/compare

Every method sees the same tasks, at --eval_size, in a process of its own. Writes
table.md, results.csv, bars.png, with several --compare_points points.png, and for each
method, fold and kind of support sets its tasks' counts and some pictures in units/.
What was measured is not measured again: a comparison that was stopped goes on, and one
with more methods measures only these.
"""

import dataclasses
import itertools
from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.config import CompareConfig
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.measure import Unit, run_unit, stamp_of
from efficientlab_tf.evaluation.methods import Method, parse_methods
from efficientlab_tf.evaluation.report import Row, write_report

UNITS = "units"


def compare(config: CompareConfig, output_dir: Path) -> list[Row]:
    """Measures all that is not there yet; prints the table each time it grows.

    Args:
      config: the comparison.
      output_dir: where results go, and are gone on with.

    Returns:
      The rows: of each method and number of shots the folds', and their mean if there
      are several.

    Raises:
      UserError: bad input; what was measured before is kept.
    """
    methods = parse_methods(config.methods)
    if not config.dataset_dir:
        raise UserError("--dataset_dir is needed: a converted dataset, or sample:icons")
    manifest = Manifest.load(config.dataset_dir)
    folds: tuple[int | None, ...] = config.fold_numbers or (None,)
    for fold in config.fold_numbers:
        manifest.fold(fold)  # Raises, and names the folds.
    stamps = {method: stamp_of(method, config) for method in methods}
    units_dir = output_dir / UNITS
    try:
        units_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to --output_dir {output_dir}: {error.strerror}; choose a "
            "folder that you may write to"
        ) from error
    where = config.eval_split if folds == (None,) else f"folds {config.folds}"
    title = f"{manifest.name}, {where}, {config.eval_size} px"
    rows: list[Row] = []
    support_sets = itertools.product(config.shot_numbers, config.point_numbers)
    for method, (shots, points) in itertools.product(methods, support_sets):
        own = []
        for fold in folds:
            unit = Unit(method, shots, points, fold, _of_unit(config), stamps[method])
            name = f"{_file_name(method)}-{shots}shot"
            name += "" if points == DENSE else f"-{points}points"
            name += "" if fold is None else f"-fold{fold}"
            measured = run_unit(unit, units_dir / f"{name}.json")
            if measured.skipped:
                print(
                    f"note: {measured.skipped} test pairs of fold {fold} have too few "
                    f"support pictures for {shots} shots and were left out"
                )
            label = config.eval_split if fold is None else str(fold)
            own.append(Row.of(method.label, shots, points, label, measured))
        rows += own + ([Row.mean(own)] if len(own) > 1 else [])
        table = write_report(output_dir, rows, title)
        print(f"\n{title}:\n{table}")
    return rows


def _of_unit(config: CompareConfig) -> CompareConfig:
    """What of the comparison decides a unit's result: not its other units."""
    return dataclasses.replace(
        config, methods="", folds="", compare_shots="1", compare_points=DENSE
    )


def _file_name(method: Method) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in method.label)


def main() -> None:
    """Compares as the flags say."""
    if not flags.FLAGS.output_dir:
        raise UserError("--output_dir is needed: a folder for results")
    output_dir = Path(flags.FLAGS.output_dir)
    compare(flags.read(CompareConfig), output_dir)
    print(f"written: {output_dir}/table.md, results.csv, bars.png, {UNITS}/")


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(CompareConfig)
    flags.define_text("output_dir", "", "Where results go, and are gone on with.")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
