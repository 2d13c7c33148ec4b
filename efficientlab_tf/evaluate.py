"""Meta-tests a learned initialization on classes that it never saw.

    python -m efficientlab_tf.evaluate --model=runs/x --output=results/x

Settings that are not given come from the model: from what tuning chose for it, or else
from its training. Writes summary.json, per_class.csv and predictions.png into --output.
"""

from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.api.loading import load
from efficientlab_tf.api.networks import NetworkModel
from efficientlab_tf.checkpoint.tuned import Tuned
from efficientlab_tf.config import DataConfig, EvalConfig, Settings
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.config.settings import SEED, check_value
from efficientlab_tf.data.manifest import ALL
from efficientlab_tf.evaluation.meta_test import Protocol, meta_test, write_results
from efficientlab_tf.files import make_writable

_AS_SETTING = {"inner_learning_rate": "learning_rate", "inner_steps": "steps"}


def _report_tuning(tuned: Tuned, settings: Settings) -> None:
    print(f"tuned values are used, --tuned=false ignores them: {tuned}")
    names = {_AS_SETTING.get(name, name) for name in tuned.values}
    for name in sorted(names & {*settings.given}):
        print(f"--{name} overrides the tuned value")


def _warn_of_tuning_classes(tuned: Tuned, protocol: Protocol) -> None:
    overlap = protocol.split in tuned.split.split(",")
    overlap |= ALL in (protocol.split, tuned.split)
    if tuned.dataset == protocol.dataset and overlap:
        print(
            f"note: the values were tuned on {tuned.dataset}/{tuned.split}, so what "
            f"{protocol.dataset}/{protocol.split} says of them is too good"
        )


def main() -> None:
    """Evaluates --model as the flags say."""
    (path,) = flags.needed(model=flags.A_MODEL)
    config, settings = flags.read(EvalConfig), flags.read(Settings)
    model = load(path, tuned=flags.FLAGS.tuned)
    if model.tuned:
        _report_tuning(model.tuned, settings)
    data, seed = flags.read(DataConfig), flags.FLAGS.seed or 0
    if isinstance(model, NetworkModel):
        data = flags.override(model.run.data)
        seed = model.run.train.seed if flags.FLAGS.seed is None else seed
    check_value("seed", seed, int, **SEED)
    output = Path(flags.FLAGS.output or _beside(path) / "eval")
    make_writable(output)
    protocol, results, shown = meta_test(
        model, data, config, settings=settings, seed=seed
    )
    if model.tuned:
        _warn_of_tuning_classes(model.tuned, protocol)
    summary = write_results(output, protocol, results, shown)
    sparse = "" if protocol.points == DENSE else f" of {protocol.points} points"
    print(
        f"{protocol.dataset}/{protocol.split}: {protocol.classes} classes, "
        f"{protocol.shots}-shot{sparse}, {len(results)} tasks, "
        f"{model.resolve(settings).about}"
    )
    print(summary.table())
    print(f"written: {output}/summary.json, per_class.csv, predictions.png")


def _beside(path: str) -> Path:
    """Where results go if nothing else is said; a shipped model has no such place."""
    source = Path(path)
    if not source.exists():
        return Path("results") / path
    return source if source.is_dir() else source.parent


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(DataConfig, EvalConfig, Settings)
    flags.define_one("model", "", flags.MODEL_HELP)
    where = "Where results go; if empty, eval/ in the run's folder or beside the file."
    flags.define_one("output", "", where)
    seed = "Of draws and adaptations; the run's if empty."
    flags.define_one("seed", None, seed, int)
    flags.define_one("tuned", True, "Use what tuning left with the model.", bool)
    flags.alias(
        model_path="model",
        output_dir="output",
        thresholds="threshold",
        inner_steps="steps",
        inner_learning_rate="learning_rate",
    )


if __name__ == "__main__":
    define_flags()
    flags.run(main)
