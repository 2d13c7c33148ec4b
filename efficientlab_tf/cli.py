"""Few-shot image segmentation by meta-learning.

    efficientlab COMMAND --option=value ...
    efficientlab COMMAND --help
    efficientlab --version

`python -m efficientlab_tf COMMAND ...` does the same. A flagfile that comes with the
package is found from anywhere: --flagfile=quickstart.flags.
"""

import ast
import difflib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf import __version__
from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.shipped import TOOLS, flagfile_path

_PACKAGE = Path(__file__).parent

COMMANDS = {
    "demo": _PACKAGE / "demo.py",
    "quickstart": _PACKAGE / "quickstart.py",
    "adapt": _PACKAGE / "adapt.py",
    "segment": _PACKAGE / "segment.py",
    "video": _PACKAGE / "video" / "__main__.py",
    "app": _PACKAGE / "app" / "__main__.py",
    "train": _PACKAGE / "train.py",
    "evaluate": _PACKAGE / "evaluate.py",
    "tune": _PACKAGE / "tune.py",
    "fpk": _PACKAGE / "fpk.py",
    "compare": _PACKAGE / "compare.py",
    "export": _PACKAGE / "export.py",
    "convert": TOOLS / "convert.py",
    "verify": TOOLS / "verify.py",
    "inspect": TOOLS / "inspect_dataset.py",
}
"""The script of each command."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names, and exits with its status."""
    arguments = sys.argv[1:] if argv is None else argv
    run_command(lambda: _run(*arguments))


def _run(command: str = "--help", *arguments: str) -> None:
    if command in ("--help", "-h"):
        print(help_text())
    elif command == "--version":
        print(f"efficientlab_tf {__version__}")
    elif command in COMMANDS:
        sys.argv[1:] = map(_with_our_flagfile, arguments)
        # As Python does it, so that worker processes and --help see no difference.
        runpy.run_path(str(COMMANDS[command]), run_name="__main__")
    else:
        nearest = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0)[0]
        raise UserError(
            f"expected a command, received {command!r}; the nearest is {nearest}, and "
            "efficientlab --help lists all"
        )


def help_text() -> str:
    """What each command is for, read from the modules without importing them."""
    lines = [__doc__, "Commands:"]
    for command, path in COMMANDS.items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        lines.append(f"  {command:12}{text.splitlines()[0]}")
    return "\n".join(lines)


def _with_our_flagfile(argument: str) -> str:
    option, equals, path = argument.rpartition("=")
    if option not in ("", "--flagfile") or not path.endswith(".flags"):
        return argument
    return f"{option}{equals}{flagfile_path(path)}"
