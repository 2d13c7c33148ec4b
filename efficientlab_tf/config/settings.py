"""What a field of a configuration is made of, and what values it may have."""

import dataclasses
import types
from typing import Any, get_args

from efficientlab_tf.errors import UserError
from efficientlab_tf.untrusted import check_kind

SEED = {"least": 0, "most": 2**31 - 1}
"""Bounds of a seed."""
MAX_STEPS = 100_000
"""Most steps of an inner loop: more than anybody waits for."""
MAX_SIDE = 4096
MAX_CLASSES = 254
"""A mask's values: 0 is the background, 255 unknown."""
MANY = 10**9
"""Largest whole number where nothing else bounds it."""


def setting(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    multiple: int = 1,
) -> Any:
    """A field of a configuration.

    Args:
      default: its default.
      help: its help text; `names` of other fields stand in backticks.
      choices: its values, if they are few.
      least: its smallest value.
      most: its largest value.
      above: what it is larger than.
      below: what it is smaller than.
      multiple: what it is a multiple of.
    """
    bounds = {"least": least, "most": most, "above": above, "below": below}
    metadata = {"help": help, "choices": choices, "multiple": multiple, **bounds}
    return dataclasses.field(default=default, metadata=metadata)


def seed(help: str) -> Any:
    """A field that is a seed."""
    return setting(0, help, **SEED)


def side(default: int, help: str) -> Any:
    """A field that is the side of a square picture."""
    return setting(default, help, least=32, most=MAX_SIDE, multiple=32)


def check(config: Any) -> None:
    """Checks the kind, choice and bounds of each field; numbers must be finite.

    Args:
      config: a dataclass of `setting`s; None is good where a field's type says so.

    Raises:
      UserError: a value that a field must not have.
    """
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), field.type
        if isinstance(kind, types.UnionType):
            if value is None:
                continue
            kind = get_args(kind)[0]
        check_value(field.name, value, kind, **field.metadata)


def check_value(
    name: str,
    value: Any,
    kind: type,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    multiple: int = 1,
    help: str = "",
) -> None:
    """Checks one value, see `setting`.

    Raises:
      UserError: it is of another kind, or out of bounds.
    """
    try:
        check_kind(name, value, kind)
    except ValueError as error:
        raise UserError(str(error)) from error
    require(
        not choices or value in choices,
        f"`{name}` must be one of {', '.join(choices)}, received {value!r:.60}",
    )
    if kind is int and most is None:
        most = MANY
    for good, bound in (
        (least is None or value >= least, f"at least {least}"),
        (most is None or value <= most, f"at most {most}"),
        (above is None or value > above, f"above {above}"),
        (below is None or value < below, f"below {below}"),
        (kind is not int or value % multiple == 0, f"a multiple of {multiple}"),
    ):
        require(good, f"`{name}` must be {bound}, received {value}")


def require(condition: bool, message: str) -> None:
    """Raises UserError with `message` unless the condition holds."""
    if not condition:
        raise UserError(message)
