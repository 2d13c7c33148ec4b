"""The only module that defines absl flags: one for each field of a configuration.

Library code names an argument in backticks, `steps`; here it becomes a flag, --steps,
in messages and help texts.
"""

import dataclasses
import os
import re
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from absl import app, flags, logging

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.errors import UserError, run_command

Config = TypeVar("Config")

FLAGS = flags.FLAGS
BYTE_ORDER_MARK = "\ufeff"
"""What some editors put in front of a text file."""

MODEL_HELP = "A shipped model's name, a run's folder, or a .keras file."

STUDY_HELP = "Folder of results. The same command again goes on with what it holds."

A_MODEL = ": a shipped model, a run's folder or a file"
A_FOLDER = ": a folder for results"
"""Of `needed`."""

_DEFINES = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}
_ALIASES: dict[str, str] = {}
_NAMED = re.compile(r"`(\w+)`")


def define(*configs: type, only: tuple[str, ...] | None = None) -> None:
    """Defines a flag for each field of the given configuration dataclasses.

    Args:
      *configs: the dataclasses.
      only: names of the fields that get a flag; None for all.
    """
    for config in configs:
        for field in dataclasses.fields(config):
            if only is not None and field.name not in only:
                continue
            help, choices = field.metadata["help"], field.metadata["choices"]
            define_one(field.name, field.default, help, field.type, choices)


def define_one(
    name: str, default: Any, help: str, kind: Any = str, choices: tuple[str, ...] = ()
) -> None:
    """Defines a flag; by itself, one that belongs to a command alone."""
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    help = _NAMED.sub(r"--\1", help)
    if choices:
        flags.DEFINE_enum(name, default, choices, help)
    else:
        _DEFINES[kind](name, default, help)
    # --help lists the flags of the module that was started, and absl takes a
    # flag to be of the module that defined it: this one.
    FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])


def needed(**ends: str) -> list[str]:
    """Returns the values of flags: needed(output=A_FOLDER).

    Args:
      **ends: name of a flag to the end of the sentence that asks for it.

    Raises:
      UserError: one is empty.
    """
    for name, end in ends.items():
        if not FLAGS[name].value:
            raise UserError(f"`{name}` is needed{end}")
    return [_value(name) for name in ends]


def _value(name: str) -> Any:
    """A flag's value. Shells leave a ~ behind a = as it is, so it is expanded here."""
    value = FLAGS[name].value
    if isinstance(value, str) and value.startswith("~"):
        return os.path.expanduser(value)
    return value


def alias(**names: str) -> None:
    """Lets an old spelling of a flag go on working: alias(old="new").

    Using one prints a line that says the new spelling.
    """
    _ALIASES.update(names)


def renamed(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns arguments with new spellings, and a line for each old one."""
    result, notes = [], []
    for argument in arguments:
        match = re.match(r"--?(no)?(\w+)(=|$)", argument)
        old = match and next(
            (n for n in ((match[1] or "") + match[2], match[2]) if n in _ALIASES), None
        )
        if old:
            new = _ALIASES[old]
            argument = argument.replace(old, new, 1)
            notes.append(f"note: --{old} is called --{new} now")
        result.append(argument)
    return result, list(dict.fromkeys(notes))


def unmarked(arguments: list[str]) -> list[str]:
    """Returns arguments without the byte order marks of flagfiles."""
    result = []
    for argument in arguments:
        if argument.startswith(BYTE_ORDER_MARK):
            # Behind it an empty line or a comment was not known as one.
            argument = argument.removeprefix(BYTE_ORDER_MARK).strip()
            if not argument or argument.startswith(("#", "//")):
                continue
        result.append(argument)
    return result


def read(config: type[Config], only: tuple[str, ...] | None = None) -> Config:
    """Builds a configuration from the flags.

    Args:
      config: the dataclass; fields that have no flag get their defaults.
      only: names of the fields whose flags are read; None for all.
    """
    names = [f.name for f in dataclasses.fields(config) if f.name in FLAGS]
    values = {n: _value(n) for n in names if only is None or n in only}
    return config(**values)


def given(config: Config) -> dict[str, Any]:
    """Returns the fields of `config` that the command line, or a flagfile, gives."""
    return {
        field.name: _value(field.name)
        for field in dataclasses.fields(config)
        if field.name in FLAGS and FLAGS[field.name].present
    }


def override(config: Config) -> Config:
    """Returns `config` with the fields that the command line gives replaced."""
    return dataclasses.replace(config, **given(config))


def spelled(message: str) -> str:
    """Writes what a message names in backticks as a flag, where it is one of these."""
    return _NAMED.sub(lambda m: f"--{m[1]}" if m[1] in FLAGS else m[0], message)


def run(main: Callable[[], int | None]) -> None:
    """Parses the command line and runs `main`; the end of every entry point."""

    def start(argv: list[str]) -> None:
        def checked() -> int | None:
            if len(argv) > 1:
                raise UserError(
                    f"unexpected argument {argv[1]!r}; every option is a --flag=value, "
                    f"see --help"
                )
            return main()

        run_command(checked, spelled)

    def parse(argv: list[str]) -> list[str]:
        try:
            # Flagfiles first, so that old spellings in them are found as well.
            expanded = FLAGS.read_flags_from_files(argv[1:], force_gnu=False)
        except flags.Error as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        arguments, notes = renamed(unmarked(expanded))
        for note in notes:
            print(note, file=sys.stderr)
        return app.parse_flags_with_usage([argv[0], *arguments])

    # Lines appear when they are printed, also in a file; TensorFlow's remarks on
    # its own checkpoints would break up the progress bar.
    sys.stdout.reconfigure(line_buffering=True)
    logging.set_verbosity(logging.ERROR)
    app.run(start, flags_parser=parse)
