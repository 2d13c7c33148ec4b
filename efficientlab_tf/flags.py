"""The only module that defines absl flags: one for each field of a configuration."""

import dataclasses
import sys
from collections.abc import Callable
from typing import TypeVar

from absl import app, flags, logging

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.errors import UserError, run_command

Config = TypeVar("Config")

FLAGS = flags.FLAGS


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
            help_text = field.metadata["help"]
            choices = field.metadata["choices"]
            if choices:
                flags.DEFINE_enum(field.name, field.default, choices, help_text)
            elif field.type is bool:
                flags.DEFINE_bool(field.name, field.default, help_text)
            elif field.type is int:
                flags.DEFINE_integer(field.name, field.default, help_text)
            elif field.type is float:
                flags.DEFINE_float(field.name, field.default, help_text)
            else:
                flags.DEFINE_string(field.name, field.default, help_text)
            _show_in_help(field.name)


def _show_in_help(name: str) -> None:
    # --help lists the flags of the module that was started, and absl takes a
    # flag to be of the module that defined it: this one.
    FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])


def define_switch(name: str, help_text: str, *, default: bool = False) -> None:
    """Defines a boolean flag that belongs to a command, not to a configuration."""
    flags.DEFINE_bool(name, default, help_text)
    _show_in_help(name)


def define_text(name: str, default: str, help_text: str) -> None:
    """Defines a string flag that belongs to a command, not to a configuration."""
    flags.DEFINE_string(name, default, help_text)
    _show_in_help(name)


def read(config: type[Config]) -> Config:
    """Builds a configuration from the flags.

    Raises:
      UserError: a value out of range.
    """
    names = (field.name for field in dataclasses.fields(config))
    return config(**{name: FLAGS[name].value for name in names})


def given(config: Config) -> dict:
    """Returns the flags among the fields of `config` that were on the command line.

    Flags in a --flagfile count as being on the command line.
    """
    return {
        field.name: FLAGS[field.name].value
        for field in dataclasses.fields(config)
        if field.name in FLAGS and FLAGS[field.name].present
    }


def override(config: Config) -> Config:
    """Returns `config` with the fields that the command line gives replaced.

    Raises:
      UserError: a value out of range.
    """
    return dataclasses.replace(config, **given(config))


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

        run_command(checked)

    # Lines appear when they are printed, also in a file; TensorFlow's remarks on
    # its own checkpoints would break up the progress bar.
    sys.stdout.reconfigure(line_buffering=True)
    logging.set_verbosity(logging.ERROR)
    app.run(start)
