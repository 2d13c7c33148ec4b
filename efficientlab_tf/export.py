"""Exports a learned initialization as a SavedModel for TensorFlow Serving.

    python -m efficientlab_tf.export --model=runs/x --output=saved_models/x/1

The folder's README.md says how to serve it, and with which requests to ask it. The
inner loop is the checkpoint's own where the flags do not say otherwise.
"""

from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.checkpoint.files import load_model
from efficientlab_tf.checkpoint.run import build_inner_loop
from efficientlab_tf.config import ExportConfig, LearnerConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluate import INNER_LOOP
from efficientlab_tf.serving.folder import (
    check_output,
    describe_signatures,
    export,
    folder_bytes,
)
from efficientlab_tf.serving.saved_model import InnerDefaults


def main() -> None:
    """Exports --model as the flags say."""
    if not flags.FLAGS.model:
        raise UserError("--model is needed: a run's folder or a .keras file")
    if not flags.FLAGS.output:
        raise UserError("--output is needed, such as saved_models/NAME/1")
    output, overwrite = Path(flags.FLAGS.output), flags.FLAGS.overwrite
    config = flags.read(ExportConfig)
    check_output(output, overwrite)
    network, weights, run = load_model(flags.FLAGS.model)
    if weights.rates and "inner_learning_rate" in flags.given(run.learner):
        raise UserError(
            f"--inner_learning_rate has no effect: {flags.FLAGS.model} learned its "
            "rates; leave it out"
        )
    learner = flags.override(run.learner)
    print(f"exporting {flags.FLAGS.model} (tracing takes up to a minute) ...")
    export(
        output,
        build_inner_loop(learner, network),
        weights,
        InnerDefaults(learner.inner_learning_rate, learner.inner_steps),
        config,
        overwrite=overwrite,
    )
    for line in describe_signatures(output):
        print(line)
    files = ", ".join(sorted(path.name for path in output.iterdir()))
    print(f"written: {output} ({folder_bytes(output) / 1e6:.1f} MB): {files}")
    if not output.name.isdecimal():
        print(
            "note: TensorFlow Serving loads only folders with a whole number for a "
            f"name, such as {output / '1'}"
        )


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(ExportConfig)
    flags.define(LearnerConfig, only=INNER_LOOP)
    flags.define_text("model", "", "A run's folder, or a .keras file.")
    flags.define_text("output", "", "The version's folder: saved_models/NAME/1.")
    flags.define_switch("overwrite", "Replace the model in --output.")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
