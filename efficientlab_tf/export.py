"""Exports a learned initialization as a SavedModel for TensorFlow Serving.

    python -m efficientlab_tf.export --model=runs/x --output=served/x/1

The folder's README.md says how to serve it, and with which requests to ask it. The
inner loop is the model's own where the flags do not say otherwise.
"""

from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.api.loading import load
from efficientlab_tf.config import BUT_JIT, ExportConfig, Settings
from efficientlab_tf.serving.folder import (
    check_output,
    describe_signatures,
    folder_bytes,
)


def main() -> None:
    """Exports --model as the flags say."""
    version = ", such as served/NAME/1"
    source, output = flags.needed(model=flags.A_MODEL, output=version)
    output, overwrite = Path(output), flags.FLAGS.overwrite
    config, settings = flags.read(ExportConfig), flags.read(Settings)
    check_output(output, overwrite)
    model = load(source)
    print(f"exporting {source} (tracing takes up to a minute) ...")
    model.export(output, config, settings=settings, overwrite=overwrite)
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
    flags.define(Settings, only=BUT_JIT)
    flags.define_one("model", "", flags.MODEL_HELP)
    flags.define_one("output", "", "The version's folder: served/NAME/1.")
    flags.define_one("overwrite", False, "Replace the model in --output.", bool)
    flags.alias(inner_steps="steps", inner_learning_rate="learning_rate")


if __name__ == "__main__":
    define_flags()
    flags.run(main)
