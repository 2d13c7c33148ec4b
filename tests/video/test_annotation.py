"""What a person says about a video's objects, in files of many kinds."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.errors import UserError
from efficientlab_tf.video.annotation import (
    Annotation,
    Point,
    Truths,
    objects_of,
    read_annotation,
)
from efficientlab_tf.video.frames import Frames
from tests.data.annotations.making import box, picture, write

BOTH = box(2, 3, 10, 12) + box(20, 3, 25, 12, 2)
FIRST, LATE = box(2, 3, 10, 12), box(20, 3, 25, 12, 2)


@pytest.fixture
def frames(tmp_path):
    write(tmp_path / "frames", {f"{i:05d}.png": picture(i) for i in range(4)})
    return Frames(tmp_path / "frames")


def colored(mask, *colors):
    return Image.fromarray(np.array([(0, 0, 0), *colors], np.uint8)[mask])


DAVIS = (128, 0, 0), (0, 128, 0)
OTHERS = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize("given", ["a/00000.png,a/00002.png", "a"])
def test_a_mask_of_a_later_frame_shows_what_enters_there(tmp_path, frames, given):
    write(tmp_path / "a", {"00000.png": FIRST, "00002.png": LATE, "x.png": BOTH})
    paths = ",".join(str(tmp_path / part) for part in given.split(","))
    annotation = read_annotation(paths, frames)
    assert annotation.objects == (1, 2) and annotation.frames == (0, 2)
    np.testing.assert_array_equal(annotation.drawn[0], FIRST)
    # It says nothing of the first object, which may be anywhere else.
    late = annotation.drawn[2]
    np.testing.assert_array_equal(late == 2, LATE == 2)
    assert set(np.unique(late)) == {2, 255}
    masks = annotation.masks((15, 20))
    assert masks.shape == (2, 15, 20)
    assert [objects_of(mask) for mask in masks] == [(1,), (2,)]


def test_a_later_mask_of_every_object_knows_its_background(tmp_path, frames):
    write(tmp_path, {"first.png": FIRST, "00002.png": BOTH})
    annotation = read_annotation(f"{tmp_path}/first.png, {tmp_path}/00002.png", frames)
    np.testing.assert_array_equal(annotation.drawn[2], BOTH)


@pytest.mark.parametrize("colors", [DAVIS, OTHERS])
def test_masks_of_colours_are_objects(tmp_path, frames, colors):
    files = {f"{i:05d}.png": colored(BOTH, *colors) for i in range(4)}
    write(tmp_path / "truth", files)
    truths = Truths(tmp_path / "truth", frames)
    annotation = read_annotation(tmp_path / "truth/00000.png", frames)
    truths.check(annotation)
    assert annotation.objects == truths.objects == (1, 2)
    found = annotation.drawn[0]
    assert {int(found[5, 5]), int(found[5, 22])} == {1, 2}
    np.testing.assert_array_equal(truths.read(3), found)


def test_the_same_colour_is_the_same_object(tmp_path, frames):
    # In these frames a third colour comes first in the order of colours.
    three = BOTH.copy()
    three[20:28, 2:10] = 3
    truth = colored(three, *OTHERS, (0, 90, 0))
    write(tmp_path, {"a.png": colored(BOTH, *OTHERS), "truth/00001.png": truth})
    annotation = read_annotation(tmp_path / "a.png", frames)
    truths = Truths(tmp_path / "truth", frames)
    with pytest.raises(
        UserError, match="object #005a00 is in .* and has no annotation"
    ):
        truths.check(annotation)
    write(tmp_path, {"b.png": truth})
    annotation = read_annotation(tmp_path / "b.png", frames)
    truths = Truths(tmp_path / "truth", frames)
    truths.check(annotation)
    np.testing.assert_array_equal(truths.read(1), annotation.drawn[0])


def test_an_object_that_enters_late_needs_a_mask(tmp_path, frames):
    write(tmp_path / "truth", {"00000.png": FIRST, "00002.png": BOTH})
    truths = Truths(tmp_path / "truth", frames)
    with pytest.raises(UserError, match="object 2 .* by a mask of a later frame"):
        truths.check(read_annotation(tmp_path / "truth/00000.png", frames))
    truths.check(read_annotation(tmp_path / "truth", frames))


def test_frames_that_an_object_has_left(tmp_path, frames):
    gone, first = np.zeros_like(BOTH), BOTH.copy()
    gone[:5] = first[:2] = 255
    write(tmp_path / "truth", {"00000.png": first, "00001.png": gone})
    truths = Truths(tmp_path / "truth", frames)
    assert truths.objects == (1, 2)
    np.testing.assert_array_equal(truths.read(1), gone)


def test_an_object_that_is_too_small_says_which_size_keeps_it(tmp_path, frames):
    mask = box(0, 0, 20, 30)
    mask[13, 10] = 2
    write(tmp_path, {"a.png": mask})
    annotation = read_annotation(tmp_path / "a.png", frames)
    # At this size the larger object covers every pixel that the small one touches.
    assert annotation.masks((15, 20)).shape == (1, 15, 20)
    both = mask.copy()
    both[12:15, 9:12], both[13, 10] = 3, 2
    both[0:12, 0:30], both[15:, :] = 1, 1
    write(tmp_path, {"a.png": both})
    with pytest.raises(UserError, match="no pixel of its own left at .* a model of"):
        read_annotation(tmp_path / "a.png", frames).masks((2, 3))


@pytest.mark.parametrize("key", ["x", "y", "label", "frame"])
@pytest.mark.parametrize(
    "value", ["9" * 400, "1e999", "NaN", "null", '"' + "a" * 999 + '"']
)
def test_points_with_odd_numbers(tmp_path, frames, key, value):
    point = {"x": "1", "y": "2", "label": "1", "frame": "0", key: value}
    fields = ", ".join(f'"{name}": {text}' for name, text in point.items())
    (tmp_path / "p.json").write_text('{"points": [{' + fields + "}]}")
    with pytest.raises(UserError, match="p.json") as error:
        read_annotation(tmp_path / "p.json", frames)
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_points_mark_the_pixels_that_they_fall_into():
    annotation = Annotation(
        *((1, 2), (10, 20)),
        points={
            3: [Point(19.9, 9.9, 2), Point(0, 0, 0)],
            1: [Point(4.0, 5.0, 0), Point(4.9, 5.9, 1), Point(4.5, 5.5, 2)],
        },
    )
    masks = annotation.masks((5, 10))
    expected = np.full((2, 5, 10), 255)
    expected[0, 2, 2] = 1  # Objects before the background, the first of them.
    expected[1, 4, 9], expected[1, 0, 0] = 2, 0
    np.testing.assert_array_equal(masks, expected)
    assert annotation.frames == (1, 3)


def test_an_object_between_the_pixels_is_not_lost():
    mask = np.zeros((40, 40), np.uint8)
    mask[11, 11], mask[20:, 20:] = 7, 9
    small = Annotation((7, 9), (40, 40), {0: mask}).masks((4, 4))[0]
    expected = np.zeros((4, 4))
    expected[2:, 2:], expected[1, 1] = 2, 1
    np.testing.assert_array_equal(small, expected)


def test_a_mask_named_like_a_frame_is_of_that_frame(paths, tmp_path):
    frames = Frames(paths["sequence"])
    mask = np.asarray(Image.open(paths["annotation"]))
    for name, frame in (("frame9.png", 2), ("anything.png", 0)):
        path = write(tmp_path / "own", {name: mask}) / name
        assert read_annotation(path, frames).frames == (frame,)
