"""Overlay videos: an animated GIF, or MP4 by a library that may not be there."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from efficientlab_tf.errors import UserError

GIF_SIDE = 480
GIF_FRAMES = 120
_GIF_COLORS = 128


class Clip(Protocol):
    """A video that is being written."""

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
    if kind == "none":
        return NoClip()
    if kind == "gif":
        return GifClip(path.with_suffix(".gif"), count, fps)
    return Mp4Clip(path.with_suffix(".mp4"), fps)


class NoClip:
    """No video."""

    def add(self, picture: np.ndarray) -> None:
        """See `Clip`."""

    def close(self) -> None:
        """See `Clip`."""


class GifClip:
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
        first.save(
            self._path,
            save_all=True,
            append_images=rest,
            duration=self._duration,
            loop=0,
        )
        return self._path


class Mp4Clip:
    """MP4 by imageio-ffmpeg (H.264), or else by OpenCV (MPEG-4).

    Raises:
      UserError: neither is installed.
    """

    def __init__(self, path: Path, fps: float):
        self._path, self._fps = path, fps
        if _installed("imageio_ffmpeg"):
            self._open: Callable = _by_ffmpeg
        elif _installed("cv2"):
            self._open = _by_opencv
        else:
            raise UserError(
                "--video=mp4 needs imageio-ffmpeg or OpenCV, and neither is installed; "
                "pip install imageio-ffmpeg, or give --video=gif"
            )
        self._write: Callable | None = None

    def add(self, picture: np.ndarray) -> None:
        """See `Clip`. An odd side loses its last pixel, as H.264 has none."""
        rows, columns = (side // 2 * 2 for side in picture.shape[:2])
        picture = np.ascontiguousarray(picture[:rows, :columns])
        try:
            if self._write is None:
                self._write, self._end = self._open(
                    self._path, (columns, rows), self._fps
                )
            self._write(picture)
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error}") from error

    def close(self) -> Path:
        """See `Clip`."""
        if self._write is not None:
            self._end()
        return self._path


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _by_ffmpeg(path: Path, size: tuple[int, int], fps: float):
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(
        str(path), size, fps=fps, codec="libx264", macro_block_size=2
    )
    writer.send(None)
    return lambda picture: writer.send(picture), writer.close


def _by_opencv(path: Path, size: tuple[int, int], fps: float):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise OSError("OpenCV opens no MPEG-4 writer; install imageio-ffmpeg")
    return lambda picture: writer.write(picture[..., ::-1]), writer.release
