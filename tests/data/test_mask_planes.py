"""The values of mask files of every kind, and of arrays as shards hold them."""

import io

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.mask_planes import array_plane, read_plane
from efficientlab_tf.data.mask_readings import Reading
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.errors import UserError
from tests.data.drawn_masks import (
    IN,
    RED,
    WIDTH,
    colored,
    is_square,
    palette,
    read,
    square,
)


def png16(values):
    """A PNG of 16-bit RGB, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = np.repeat(values.astype(">u2")[..., None], 3, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + parts


def test_channels_of_16_bits(tmp_path):
    (tmp_path / "m.png").write_bytes(png16(square(65535, dtype=np.uint16)))
    is_square(decide([tmp_path / "m.png"]).read(tmp_path / "m.png")[0])
    (tmp_path / "m.png").write_bytes(png16(square(255, dtype=np.uint16)))
    with pytest.raises(UserError, match="several channels of 16 bits and only low"):
        decide([tmp_path / "m.png"])


def test_only_the_first_page_counts_and_is_said(tmp_path):
    pages = [Image.fromarray(square()), Image.fromarray(square(0))]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    mask, notes = decide([tmp_path / "m.tif"]).read(tmp_path / "m.tif")
    is_square(mask)
    assert notes == ["only the first page was taken"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize(
    ("orientation", "inverse"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)],
)
def test_a_mask_is_turned_as_its_own_exif_says(tmp_path, orientation, inverse, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    mask = square()
    mask[:3, :3] = 255  # So that a turn shows.
    stored = Image.fromarray(mask).transpose(inverse)
    _, (read_mask,) = read(tmp_path, stored, suffix=suffix, exif=exif)
    np.testing.assert_array_equal(read_mask, mask > 0)


def test_masks_that_are_saved_to_be_shown_inverted(tmp_path):
    # What ImageJ makes: the object is 255, and shown black.
    table = [(255 - i,) * 3 for i in range(256)]
    palette(square(), *table).save(tmp_path / "a.png")
    shown = Image.fromarray(square(0, 255))
    shown.save(tmp_path / "a.tif", tiffinfo={262: 0})
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        with pytest.raises(UserError, match="to be shown inverted, as ImageJ saves"):
            decide([path])
        is_square(decide([path], "dark").read(path)[0])
    # Of a single bit a pixel what is shown counts.
    Image.fromarray(square()).convert("1").save(
        tmp_path / "b.tif", compression="group4", tiffinfo={262: 0}
    )
    is_square(decide([tmp_path / "b.tif"]).read(tmp_path / "b.tif")[0])


# Arrays, as shards of others hold them; an object by hand.


def rgb(mask):
    return np.repeat(mask[..., None], 3, -1)


def with_alpha(mask, alpha):
    alpha = np.broadcast_to(alpha, mask.shape)[..., None]
    return np.concatenate([rgb(mask), alpha], -1)


def of_array(values):
    return Reading("object").apply(array_plane(values))


@pytest.mark.parametrize("opacity", [255, 0])
def test_channels_of_binary_masks(opacity):
    half = square()
    opaque = np.full_like(half, opacity)
    for values in (half, half[..., None], rgb(half), with_alpha(half, opaque)):
        mask, notes = of_array(values.astype(np.uint8))
        is_square(mask)
        assert mask.dtype == np.uint8 and notes == []


@pytest.mark.parametrize("flat", [0, 255])
def test_a_mask_in_the_alpha_channel(flat):
    mask, notes = of_array(with_alpha(np.full_like(square(), flat), square()))
    is_square(mask)
    assert len(notes) == 1 and "alpha channel" in notes[0]


def test_stray_grey_levels_are_thresholded_at_128():
    mask, notes = of_array(np.array([[0, 3, 127, 128, 200, 255]], np.uint8))
    np.testing.assert_array_equal(mask, [[0, 0, 0, 1, 1, 1]])
    assert notes == ["stray grey levels in 4 of 6 pixels, thresholded at 128"]


def test_levels_0_and_1_of_an_array():
    mask, notes = of_array(square(1))
    is_square(mask)
    assert len(notes) == 1 and "0 and 1" in notes[0]


def test_empty_and_full_masks_are_kept():
    for level, expected in ((0, 0), (255, 1)):
        mask, notes = of_array(np.full((4, 4), level, np.uint8))
        assert (mask == expected).all() and notes == []


def test_a_coloured_mask_counts_its_brightest_channel():
    values = np.zeros((4, 4, 3), np.uint8)
    values[:2, :, 0] = 255
    mask, notes = of_array(values)
    assert mask.sum() == 8
    assert notes == ["coloured mask: brightest channel taken"]


def test_a_photo_in_a_masks_place():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with pytest.raises(Refused, match="a photo, not a mask"):
        of_array(noise)


def test_bands_make_no_difference(monkeypatch):
    from efficientlab_tf.data import picture_files

    buffer = io.BytesIO()
    Image.fromarray(np.array(colored((IN, RED), alpha=square()))).save(buffer, "PNG")
    whole = read_plane(buffer.getvalue())
    monkeypatch.setattr(picture_files, "_BAND", 3 * WIDTH)
    cut = read_plane(buffer.getvalue())
    np.testing.assert_array_equal(whole.colors[whole.values], cut.colors[cut.values])
    np.testing.assert_array_equal(whole.opaque, cut.opaque)
