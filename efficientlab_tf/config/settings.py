"""What a field of a configuration is made of, and how its values are checked."""

import dataclasses
from collections.abc import Callable
from typing import Any

from efficientlab_tf.errors import UserError


def setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    """A field of a configuration: its default, help text and choices."""
    metadata = {"help": help, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def require(condition: bool, message: str) -> None:
    """Raises UserError with `message` unless the condition holds."""
    if not condition:
        raise UserError(message)


def check(
    config: Any, names: str, must: str, holds: Callable[[Any], bool], advice: str = ""
) -> None:
    """Checks fields of a configuration; None is never wrong.

    Args:
      config: a dataclass.
      names: of the fields, with spaces between.
      must: what a value must be, such as "be positive".
      holds: whether a value is so; if one is not, a UserError says it.
      advice: what to do then.
    """
    for name in names.split():
        value = getattr(config, name)
        right = value is None or holds(value)
        require(
            right, f"`{name}` must {must}, received {value}{advice and ': '}{advice}"
        )


def at_least(config: Any, least: float, names: str, advice: str = "") -> None:
    """See `check`."""
    check(config, names, f"be at least {least}", lambda v: least <= v, advice)


def not_negative(config: Any, names: str) -> None:
    """See `check`."""
    check(config, names, "not be negative", lambda v: v >= 0)


def between_0_and_1(config: Any, names: str) -> None:
    """See `check`; for a threshold."""
    check(config, names, "be between 0 and 1", lambda v: 0 < v < 1)


def a_side(config: Any, names: str) -> None:
    """See `check`; for the side of a square picture."""
    must = "be a positive multiple of 32"
    check(config, names, must, lambda v: v > 0 and v % 32 == 0)
