"""What a dataset stores: examples, each an image with its mask; what readers return.

This module imports nothing heavy, so converters' worker processes start at once.
"""

from typing import NamedTuple

CHANGED = "changed"
REFUSED = "refused"
LEFT_OUT = "left out"


class Example(NamedTuple):
    """One image with its mask as a shard stores them.

    Attributes:
      filename: the image's name in the set it came from, without folders.
      image: the encoded image.
      image_format: "jpeg" or "png".
      mask: an encoded PNG of one uint8 channel: 0 background, 1..K classes,
        255 unknown.
      height, width: of the image and of the mask, in pixels.
    """

    filename: str
    image: bytes
    image_format: str
    mask: bytes
    height: int
    width: int


class ReportRow(NamedTuple):
    """One line of a conversion's report: a file that was changed or not stored.

    Attributes:
      class_name: the class.
      file: its name, without folders.
      action: `CHANGED` (stored after a change), `REFUSED` (not stored: something is
        wrong with it) or `LEFT_OUT` (not stored: sound, but not for this dataset).
      reason: what was found and what was done, in words.
    """

    class_name: str
    file: str
    action: str
    reason: str


class ClassData(NamedTuple):
    """One class as a reader in `efficientlab_tf.data.sources` yields it.

    Attributes:
      class_name: the class.
      examples: its usable examples, in the order to be stored.
      rows: the report on its files.
    """

    class_name: str
    examples: list[Example]
    rows: list[ReportRow]
