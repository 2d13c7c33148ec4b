"""Few-shot image segmentation by meta-learning.

    efficientlab COMMAND --option=value ...
    efficientlab COMMAND --help
    efficientlab --version

`python -m efficientlab_tf.COMMAND ...` does the same. A flagfile that comes with the
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
from efficientlab_tf.shipped import flagfile_path

COMMANDS = {
    "quickstart": "quickstart",
    "adapt": "adapt",
    "video": "video.__main__",
    "app": "app.__main__",
    "train": "train",
    "evaluate": "evaluate",
    "tune": "tune",
    "fpk": "fpk",
    "compare": "compare",
    "export": "export",
    "convert": "convert",
    "verify": "verify",
    "inspect": "inspect_dataset",
}
"""The module of each command."""


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
        # As `python -m` does it, so that worker processes and --help see no difference.
        module = f"efficientlab_tf.{COMMANDS[command]}"
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        nearest = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0)[0]
        raise UserError(
            f"expected a command, received {command!r}; the nearest is {nearest}, and "
            "efficientlab --help lists all"
        )


def help_text() -> str:
    """What each command is for, read from the modules without importing them."""
    lines = [__doc__, "Commands:"]
    for command, module in COMMANDS.items():
        path = Path(__file__).parent / f"{module.replace('.', '/')}.py"
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        lines.append(f"  {command:12}{text.splitlines()[0]}")
    return "\n".join(lines)


def _with_our_flagfile(argument: str) -> str:
    option, equals, path = argument.rpartition("=")
    if option not in ("", "--flagfile") or not path.endswith(".flags"):
        return argument
    return f"{option}{equals}{flagfile_path(path)}"
