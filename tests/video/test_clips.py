"""Overlays as films."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.errors import UserError
from efficientlab_tf.video import clip
from efficientlab_tf.video.__main__ import run
from efficientlab_tf.video.config import VideoConfig
from tests.data.annotations.making import write
from tests.video.moving_squares import HEIGHT, WIDTH


def test_mp4(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="pip install imageio-ffmpeg, or .*=gif"):
        run(VideoConfig(**paths | {"video": "mp4"}))
    assert not (Path(paths["output"]) / "masks").exists()
    monkeypatch.undo()
    reader = pytest.importorskip("imageio_ffmpeg").read_frames
    write(Path(paths["output"]), {})
    film = clip.open_clip("mp4", Path(paths["output"]) / "film", 3, 5.0)
    Path(paths["output"]).mkdir(exist_ok=True)
    for level in (40, 120, 200):
        image = np.full((HEIGHT + 1, WIDTH + 1, 3), level, np.uint8)
        film.add(image)
    frames = reader(str(film.close()))
    assert next(frames)["size"] == (WIDTH, HEIGHT)
    levels = [np.frombuffer(frame, np.uint8).mean() for frame in frames]
    np.testing.assert_allclose(levels, [40, 120, 200], atol=4)


def test_long_gifs_keep_their_time(tmp_path):
    gif = clip.GifClip(tmp_path / "long.gif", 250, 25.0)
    for i in range(250):
        image = np.full((4, 4, 3), i, np.uint8)
        gif.add(image)
    with Image.open(gif.close()) as image:
        assert image.n_frames == 84 <= clip.GIF_FRAMES
        assert image.n_frames * image.info["duration"] == pytest.approx(10_000, rel=0.1)
