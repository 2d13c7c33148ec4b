"""The frames of a video as a folder of pictures, read when they are needed."""

import re
from pathlib import Path

import numpy as np

from efficientlab_tf.data.annotations.export import rgb
from efficientlab_tf.data.cleaning import EXIF_SWAPS_SIDES
from efficientlab_tf.data.picture_files import Refused, header_size
from efficientlab_tf.data.sources.jobs import list_images
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.queries import output_names, read_query


class Frames:
    """The frames of a folder in natural order: frame9 comes before frame10.

    Attributes:
      paths: the files.
      names: of each frame's results, without suffix; no two are the same.
      size: (height, width) of every frame.

    Raises:
      UserError: no such folder, no pictures in it, one that cannot be read, or one of
        another size than the first.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise UserError(f"no such folder: {folder}; give the folder of the frames")
        self.paths = sorted(list_images(folder), key=lambda p: natural_key(p.name))
        if not self.paths:
            raise UserError(
                f"{folder} holds no frames (jpg, png, webp, bmp, tif); give the folder "
                "of a video's frames"
            )
        self.names = output_names([path.name for path in self.paths])
        self.size = _size(self.paths[0])
        # Only headers are read here, so that a bad frame is known before the work.
        for path in self.paths[1:]:
            self._check(path, _size(path))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> np.ndarray:
        """Returns a frame as uint8 [H, W, 3].

        Raises:
          UserError: it cannot be read.
        """
        path = self.paths[index]
        try:
            image = rgb(read_query(path))
        except (Refused, OSError) as error:
            raise _unreadable(path, error) from error
        self._check(path, image.shape[:2])
        return image

    def _check(self, path: Path, size: tuple[int, int]) -> None:
        if size != self.size:
            raise UserError(
                f"frame {path} is {shown(size)}, but {self.paths[0].name} is "
                f"{shown(self.size)}; all frames of a video have one size"
            )


def natural_key(name: str) -> list[tuple]:
    """Sort key that takes runs of digits for numbers."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p.lower()) for p in parts if p]


def shown(size: tuple[int, int]) -> str:
    """A (height, width) as people write it."""
    return f"{size[1]}x{size[0]}"


def _size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture file when upright, from its header."""
    try:
        width, height, orientation = header_size(path)
    except (Refused, OSError) as error:
        raise _unreadable(path, error) from error
    turned = orientation in EXIF_SWAPS_SIDES
    return (width, height) if turned else (height, width)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error)
    if isinstance(error, OSError):
        reason = error.strerror or "not a picture that can be read"
    return UserError(f"cannot read frame {path}: {reason}; export the frame again")
