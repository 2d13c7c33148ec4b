"""What a field of a configuration is made of."""

import dataclasses
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
