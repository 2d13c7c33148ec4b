"""Whether to compile with XLA, and what is said where it cannot."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.untrusted import reason_of

_REFUSED = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)


def use_jit(mode: str) -> bool:
    """Whether to compile with XLA; `mode` is "on", "off" or "auto": on a GPU."""
    return (
        mode == "on" or mode == "auto" and bool(tf.config.list_physical_devices("GPU"))
    )


@contextlib.contextmanager
def compiling(what: str, jit: bool) -> Iterator[None]:
    """Around what runs under XLA, if `jit`.

    Raises:
      UserError: XLA cannot compile it.
    """
    try:
        yield
    except _REFUSED as error:
        if not jit:
            raise
        raise UserError(
            f"XLA cannot compile {what} ({reason_of(error)}); leave `jit` out"
        ) from error
