"""What comes into the page: pictures, masks, and what is refused."""

import zlib

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.app.annotations import (
    BACKGROUND,
    FOREGROUND,
)
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.downloads import write_masks, write_model
from efficientlab_tf.app.picture import SHOWN_SIDE
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.data.samples import PHOTOGRAPHS, read_sample, sample_names
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from tests.app.untrained import GUIDED, SIZE, STEPPED, encoded, picture


def test_masks_from_files(workspace):
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:50] = 255
    workspace.set_mask(0, encoded(mask))
    np.testing.assert_array_equal(
        workspace.pictures[0].annotations.raster(40, 60), mask > 0
    )
    workspace.mark(0, 0, 0, FOREGROUND)
    assert workspace.pictures[0].annotations.raster(40, 60)[0, 0] == FOREGROUND
    with pytest.raises(UserError, match="aspect ratio"):
        workspace.set_mask(1, encoded(mask))
    with pytest.raises(UserError, match=r"mask of 1\.png: not a picture"):
        workspace.set_mask(1, b"no")


def test_masks_are_read_as_everywhere(workspace):
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:50] = 1
    clear = np.dstack([np.full((40, 60, 3), 255, np.uint8), 200 * mask])
    red = np.dstack([255 * mask, 0 * mask, 0 * mask])
    for file in (mask, mask.astype(np.uint16) * 65535, 7 * mask, clear, red):
        workspace.set_mask(0, encoded(file))
        found = workspace.pictures[0].annotations.raster(40, 60)
        np.testing.assert_array_equal(found, mask)
    mask[25:35, 10:50] = 2
    colors = np.zeros((40, 60, 3), np.uint8)
    colors[mask == 1], colors[mask == 2] = (255, 0, 0), (0, 0, 255)
    with pytest.raises(UserError, match="several classes in colours .*numbers, 1, 2"):
        workspace.set_mask(0, encoded(colors))
    # Numbers are those of classes, new ones get names.
    workspace.set_mask(0, encoded(mask))
    found = workspace.pictures[0].annotations.raster(40, 60)
    np.testing.assert_array_equal(found, mask)
    assert workspace.classes.names == ["object", "class 2"]
    # A mask of one object is of the class that is chosen.
    workspace.set_mask(0, encoded(255 * (mask == 1).astype(np.uint8)), label=2)
    found = workspace.pictures[0].annotations.raster(40, 60)
    np.testing.assert_array_equal(found, 2 * (mask == 1))
    mask[mask == 2] = 21
    with pytest.raises(UserError, match="it holds class 21, and 20 classes are the"):
        workspace.set_mask(0, encoded(mask))


def test_bad_input(workspace):
    with pytest.raises(UserError, match="nothing is marked"):
        workspace.adapt(GUIDED)
    workspace.mark(0, 3, 3, BACKGROUND)
    for name in (GUIDED, STEPPED):
        with pytest.raises(UserError, match="only background is marked"):
            workspace.adapt(name)
    outside = [(-1, 0), (0, -1), (40, 0), (0, 60)]
    for row, column in outside:
        with pytest.raises(UserError, match="expected a row from 0 to 39"):
            workspace.mark(0, row, column, FOREGROUND)
    with pytest.raises(UserError, match="label: expected"):
        workspace.mark(0, 0, 0, 2)
    with pytest.raises(UserError, match="radius: expected"):
        workspace.mark(0, 0, 0, 1, radius=-1.0)
    with pytest.raises(UserError, match="picture: expected a number from 0 to 2"):
        workspace.mark(3, 0, 0, 1)
    with pytest.raises(UserError, match="method: expected one of"):
        workspace.adapt("other")
    with pytest.raises(UserError, match="steps: expected"):
        workspace.adapt(STEPPED, steps=101)
    for write in (write_masks, write_model):
        with pytest.raises(UserError, match="there (are|is) no"):
            write(workspace)
    # Refused input leaves everything as it was.
    assert len(workspace.pictures[0].annotations.marks) == 1
    workspace.clear()
    with pytest.raises(UserError, match="there are no pictures"):
        workspace.adapt(GUIDED)


def bomb() -> bytes:
    """A PNG whose header declares 50,000 x 50,000 pixels, and little behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        size, check = len(data).to_bytes(4), zlib.crc32(kind + data).to_bytes(4)
        return size + kind + data + check

    header = (50_000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not a picture that can be read"),
        (b"%PDF-1.7", "not a picture that can be read"),
        (encoded(picture((9, 9), 0))[:60], "truncated"),
        (encoded(np.zeros((101, 100, 3), np.uint8)), "at most 0.01 million pixels"),
        (bomb(), "far too large|million pixels"),
        (encoded(picture((9, 9), 0)) + bytes(5000), r"at most 0\.005 MB"),
    ],
)
def test_files_that_are_refused(methods, folder, data, message):
    limits = AppConfig(max_upload_mb=0.005, max_megapixels=0.01)
    with Workspace(methods, limits, folder) as workspace:
        with pytest.raises(UserError, match=message):
            workspace.add("x.png", data)
        assert not workspace.pictures


def test_no_more_than_so_many(methods, folder):
    with Workspace(methods, AppConfig(max_pictures=1), folder) as workspace:
        workspace.add("a.png", encoded(picture((9, 9), 0)))
        with pytest.raises(UserError, match="1 pictures already"):
            workspace.add("b.png", encoded(picture((9, 9), 0)))
        workspace.remove(0)
        workspace.add("b.png", encoded(picture((9, 9), 0)))


def test_rotation_of_cameras_is_honoured(methods, folder):
    stored = np.zeros((40, 80, 3), np.uint8)
    stored[:, :40] = 255  # 6: shown turned clockwise, so that this comes to the top.
    exif = Image.Exif()
    exif[0x0112] = 6
    with Workspace(methods, AppConfig(), folder) as workspace:
        workspace.add("a.jpg", encoded(stored, "JPEG", exif=exif, quality=95))
        (own,) = workspace.pictures
        assert own.size == (80, 40)
        assert own.shown[SHOWN_SIDE].shape == (SHOWN_SIDE, SHOWN_SIDE // 2, 3)
        assert own.shown[SHOWN_SIDE][:300].min() > 240
        assert own.shown[SHOWN_SIDE][380:].max() < 15
        assert own.fitted[SIZE, SIZE][:15].min() > 240


def test_samples_are_there(methods, folder):
    assert PHOTOGRAPHS in sample_names()
    assert len(sample_names()) == 32
    pictures = list(read_sample("icons: rocket"))
    assert len(pictures) == 10
    with Workspace(methods, AppConfig(), folder) as workspace:
        workspace.add(*pictures[0])
        name, image, _ = pictures[1]
        workspace.add(name, image)
        marks = [p.annotations.raster(96, 96) for p in workspace.pictures]
        assert set(np.unique(marks[0])) == {BACKGROUND, FOREGROUND}
        assert (marks[1] == IGNORE).all()
        workspace.adapt(STEPPED, steps=1)
    with pytest.raises(UserError, match="sample: expected one of the list"):
        next(read_sample("icons: ../x"))
