"""Overlay videos: an animated GIF, or MP4 by imageio-ffmpeg, which may not be there."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from efficientlab_tf.errors import UserError

GIF_SIDE = 480
GIF_FRAMES = 120
_GIF_COLORS = 128


class Clip:
    """A video that is being written; this one is none."""

    def add(self, picture: np.ndarray) -> None:
        """Adds a frame, uint8 [H, W, 3]."""

    def close(self) -> Path | None:
        """Ends the file; returns it, or None if there is none."""


def open_clip(kind: str, path: Path, count: int, fps: float) -> Clip:
    """Begins an overlay video.

    Args:
      kind: "gif", "mp4" or "none".
      path: of the file, without suffix.
      count: number of frames that will come.
      fps: frames a second.

    Raises:
      UserError: nothing that is installed can write MP4.
    """
    if kind == "mp4":
        return Mp4Clip(path.with_suffix(".mp4"), fps)
    return GifClip(path.with_suffix(".gif"), count, fps) if kind == "gif" else Clip()


class GifClip(Clip):
    """A GIF of at most `GIF_SIDE` pixels and `GIF_FRAMES` frames, evenly chosen.

    It takes the time that the video takes. Frames are kept as palette pictures, as
    Pillow wants all of them at once.
    """

    def __init__(self, path: Path, count: int, fps: float):
        self._path = path
        self._every = max(1, math.ceil(count / GIF_FRAMES))
        # GIF counts hundredths of a second; players take fewer than two for ten.
        self._duration = max(20, round(100 * self._every / fps) * 10)
        self._seen = 0
        self._pictures: list[Image.Image] = []

    def add(self, picture: np.ndarray) -> None:
        """See `Clip`."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        small = Image.fromarray(picture)
        small.thumbnail((GIF_SIDE, GIF_SIDE), Image.Resampling.LANCZOS)
        self._pictures.append(small.quantize(_GIF_COLORS, dither=Image.Dither.NONE))

    def close(self) -> Path:
        """See `Clip`."""
        first, *rest = self._pictures
        animation = {"append_images": rest, "duration": self._duration, "loop": 0}
        first.save(self._path, save_all=True, **animation)
        return self._path


class Mp4Clip(Clip):
    """MP4 (H.264).

    Raises:
      UserError: imageio-ffmpeg is not installed.
    """

    def __init__(self, path: Path, fps: float):
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise UserError(
                "`video`=mp4 needs imageio-ffmpeg, which is not installed; pip install "
                "imageio-ffmpeg, or give `video`=gif"
            ) from error
        self._ffmpeg, self._path, self._fps = imageio_ffmpeg, path, fps
        self._writer = None

    def add(self, picture: np.ndarray) -> None:
        """See `Clip`. An odd side loses its last pixel, as H.264 has none."""
        rows, columns = (side // 2 * 2 for side in picture.shape[:2])
        try:
            if self._writer is None:
                options = {"codec": "libx264", "macro_block_size": 2}
                self._writer = self._ffmpeg.write_frames(
                    str(self._path), (columns, rows), fps=self._fps, **options
                )
                self._writer.send(None)
            self._writer.send(np.ascontiguousarray(picture[:rows, :columns]))
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error}") from error

    def close(self) -> Path:
        """See `Clip`."""
        if self._writer is not None:
            self._writer.close()
        return self._path
