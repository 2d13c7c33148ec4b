"""How many points of a support image are annotated, as a flag says it."""

import re

from efficientlab_tf.errors import UserError

DENSE = "-1"


def parse_points(text: str) -> tuple[int, int] | None:
    """Reads numbers of points: the smallest and the largest; None for dense masks.

    Args:
      text: "-1" for dense masks, "5" for five points, or "1-100" for a number that is
        drawn uniformly for each episode, both ends included.

    Raises:
      UserError: something else.
    """
    if text == DENSE:
        return None
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high:
        raise UserError(
            f"points: expected -1 for dense masks, a number from 1 such as 5, or a "
            f"range such as 1-100; received {text!r}"
        )
    return low, high
