"""The unit of stored data: one image with its mask, both encoded.

This module imports nothing heavy, so converters' worker processes start at once.
"""

from typing import NamedTuple


class Pair(NamedTuple):
    """One image with its mask as a shard stores them.

    Attributes:
      filename: the image's name in the set it came from, without folders.
      image: the encoded image.
      image_format: "jpeg" or "png".
      mask: an encoded PNG of one uint8 channel: 0 background, 1..K classes,
        255 unknown.
      height: rows of the image and of the mask, in pixels.
      width: columns of the image and of the mask, in pixels.
    """

    filename: str
    image: bytes
    image_format: str
    mask: bytes
    height: int
    width: int
