"""Commands in processes that do not import TensorFlow again."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
# What commands import, but no command: each runs as a script of its own.
CONTEXT.set_forkserver_preload(
    [
        "efficientlab_tf.quiet",
        "efficientlab_tf.api.loading",
        "efficientlab_tf.training.loop",
        "efficientlab_tf.evaluation.meta_test",
    ]
)


class Ended(NamedTuple):
    """Exit status and what was printed."""

    status: int
    out: str
    err: str


def run_forked(
    folder: Path, command: str, *arguments: str, untraced: bool = False
) -> Ended:
    """Runs python -m efficientlab_tf.COMMAND ARGUMENTS, or of tools.NAME.

    Args:
      folder: empty; output goes through files in it.
      command: name of the module, or "tools.NAME".
      *arguments: of the command line.
      untraced: computes without graphs: to trace one takes longer than a few steps do.
    """
    out, err = folder / "out", folder / "err"
    module = command if command.startswith("tools.") else f"efficientlab_tf.{command}"
    process = CONTEXT.Process(
        target=_run, args=(module, arguments, os.getcwd(), out, err, untraced)
    )
    process.start()
    process.join(400)
    assert process.exitcode is not None, f"{command} {arguments} still runs"
    return Ended(process.exitcode, out.read_text(), err.read_text())


def _run(
    module: str, arguments, folder: str, out: Path, err: Path, untraced: bool
) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    if untraced:
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
    if module.startswith("tools."):
        # Run as scripts they find one another beside them.
        sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
