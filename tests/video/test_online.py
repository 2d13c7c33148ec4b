"""Online updates: what a video's own frames are certain of is learned."""

import math

import numpy as np
import pytest

from efficientlab_tf.video import segment
from efficientlab_tf.video.__main__ import run
from efficientlab_tf.video.annotation import Annotation
from efficientlab_tf.video.config import VideoConfig
from efficientlab_tf.video.frames import Frames
from efficientlab_tf.video.segment import Clock, certain_pixels, follow
from tests.data.annotations.making import write
from tests.models.test_heads import SIZE
from tests.video.moving_squares import summary


class Sure:
    """Says that a frame's red part is the object, with a probability of its green.

    Frames have one green level each, so that what it is asked can be told.
    """

    def __init__(self):
        self.supports = []

    def adapt(self, images, masks, *, seed):
        self.supports.append((images[:, 0, 0, 2].tolist(), masks))
        return self

    def predict(self, images):
        sure = images[..., 1] / 255
        p = np.where(images[..., 0] > 128, sure, 1 - sure)
        return np.stack([1 - p, p], -1).astype(np.float32)


@pytest.fixture
def unsteady(tmp_path):
    """Frames whose number is their blue level; frame 3 is one of doubt."""
    for i in range(12):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[..., 1], image[..., 2] = 128 if i == 3 else 255, i
        image[:4, :4, 0] = 255
        write(tmp_path / "unsteady", {f"{i}.png": image})
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:4, :4] = 1
    return Frames(tmp_path / "unsteady"), Annotation((1,), (SIZE, SIZE), {0: mask})


def test_online_updates_learn_from_what_is_certain(unsteady, monkeypatch):
    frames, annotation = unsteady
    monkeypatch.setattr(segment, "REMEMBERED", 2)
    segmenter, clock = Sure(), Clock()
    size = (SIZE, SIZE)
    options = {"size": size, "online": 2, "clock": clock}
    labelled = list(follow(segmenter, frames, annotation, **options))
    assert [index for index, *_ in labelled] == list(range(12))
    # After frames 1, 3, 5, 7 and 9, of which 3 is not certain; the latest two.
    blue = [support[0] for support in segmenter.supports]
    assert blue == [[0], [0, 1], [0, 1, 5], [0, 5, 7], [0, 7, 9]]
    assert clock.updates == 4
    mask = segmenter.supports[1][1][1]
    np.testing.assert_array_equal(mask == 1, annotation.drawn[0] == 1)
    np.testing.assert_array_equal(segmenter.supports[-1][1][0], annotation.drawn[0])
    assert {0, 1, 255} == set(np.unique(mask))

    options |= {"online": 0, "clock": Clock()}
    again = Sure()
    assert len(list(follow(again, frames, annotation, **options))) == 12
    assert len(again.supports) == 1


def test_certain_pixels_are_far_or_probable():
    rng = np.random.default_rng(0)
    size, shape = (60, 30), (20, 15)
    p = np.zeros((*shape, 3), np.float32)
    p[..., 0] = 1
    for y, x, value in ((3, 3, 1), (4, 3, 1), (10, 12, 2)):
        p[y, x] = np.eye(3)[value]
    for y, x in rng.integers(0, shape, (40, 2)):
        p[y, x] = p[y, x] * 0.9 + 0.1 / 3  # Below what is certain.
    p[3, 3], p[10, 12] = np.eye(3)[[1, 2]]
    mask = certain_pixels(p, size)
    objects = [(y, x) for y, x in np.ndindex(shape) if p[y, x].argmax() > 0]
    far = 0.22 * math.hypot(*size)
    for y, x in np.ndindex(shape):
        near = min(math.hypot(3 * (y - a), 2 * (x - b)) for a, b in objects) <= far
        expected = p[y, x].argmax()
        if p[y, x].max() < 0.97 or (expected == 0 and near):
            expected = 255
        assert mask[y, x] == expected
    assert set(np.unique(mask)) == {0, 1, 2, 255}
    p[10, 12] = (0.0, 0.1, 0.9)  # Of object 2 nothing is certain: it may be lost.
    assert certain_pixels(p, size) is None


def test_online_updates_on_the_command(paths, capsys):
    run(VideoConfig(**paths | {"online": 2, "steps": "2", "video": "none"}))
    updates = summary(paths)["online_updates"]
    assert updates <= 2 and summary(paths)["settings"]["online"] == 2
    assert ("online updates" in capsys.readouterr().out) == (updates > 0)
