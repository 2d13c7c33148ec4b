"""Checks of arguments that several networks share."""

from efficientlab_tf.errors import UserError

DTYPES = ("float32", "float64")


def check(holds: bool, name: str, expected: str, received: object) -> None:
    """Raises a UserError about the argument `name` unless `holds`."""
    if not holds:
        raise UserError(f"`{name}` must be {expected}, received {received!r}")


def check_common(
    weights: str | None, dtype: str, num_classes: int = 1, *, files: bool = False
) -> None:
    """Checks the options that every network has.

    Args:
      weights, dtype, num_classes: see the networks.
      files: whether the backbone checks `weights` itself, as they are a file.

    Raises:
      UserError: see the networks.
    """
    known = files or weights in (None, "imagenet")
    check(known, "weights", 'None or "imagenet"', weights)
    check(dtype in DTYPES, "dtype", f"one of {', '.join(DTYPES)}", dtype)
    check(
        isinstance(num_classes, int) and num_classes >= 1,
        "num_classes",
        "a whole number from 1",
        num_classes,
    )


def parse_image_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns height and width.

    Raises:
      UserError: not a number or two, or not divisible by 32.
    """
    size = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
    check(
        len(size) == 2 and all(side > 0 and side % 32 == 0 for side in size),
        "image_size",
        "a number, or a height and a width, divisible by 32",
        image_size,
    )
    return size
