"""Masks over images, and sheets of them."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.pictures import (
    PALETTE,
    UNKNOWN_GREY,
    contact_sheet,
    dots,
    marked,
    outline,
    overlay,
    palette_image,
    with_legend,
)

RED = (255, 0, 0)


def grey_image(height=20, width=30):
    return np.full((height, width, 3), 100, np.uint8)


def test_overlay_tints_the_object_only():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 1
    result = overlay(grey_image(), mask, color=RED, alpha=0.5)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[mask == 0], 100)
    np.testing.assert_array_equal(np.unique(result[mask == 1], axis=0), [[178, 50, 50]])


def test_each_class_has_its_colour():
    mask = np.array([[1, 2, len(PALETTE) + 1]], np.uint8)
    result = overlay(np.zeros((1, 3, 3), np.uint8), mask, alpha=1.0)
    np.testing.assert_array_equal(result[0], [PALETTE[0], PALETTE[1], PALETTE[0]])


def test_unknown_pixels_are_hatched_in_grey():
    mask = np.full((20, 30), 255, np.uint8)
    result = overlay(np.zeros((20, 30, 3), np.uint8), mask, color=RED)
    assert (result == result[..., :1]).all()
    levels, counts = np.unique(result, return_counts=True)
    assert list(levels) == [UNKNOWN_GREY // 2, UNKNOWN_GREY]
    assert counts.min() > result.size / 3


def test_outline_runs_inside_the_object_and_not_along_the_image_edge():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:12, :8] = 1
    expected = np.zeros(mask.shape, bool)
    expected[[5, 11], :8] = True
    expected[5:12, 7] = True
    result = outline(grey_image(), mask, color=RED)
    np.testing.assert_array_equal((result == RED).all(-1), expected)
    thick = outline(grey_image(), mask, color=RED, width=2)
    assert (thick == RED).all(-1).sum() > expected.sum()


def test_outline_parts_touching_classes():
    mask = np.ones((4, 6), np.uint8)
    mask[:, 3:] = 2
    result = outline(np.zeros((4, 6, 3), np.uint8), mask)
    np.testing.assert_array_equal(result[:, 2], np.tile(PALETTE[0], (4, 1)))
    np.testing.assert_array_equal(result[:, 3], np.tile(PALETTE[1], (4, 1)))
    assert not result[:, [0, 1, 4, 5]].any()


def test_points_are_dots_of_their_class_and_the_rest_is_as_it_was():
    mask = np.full((120, 240), 255, np.uint8)
    mask[60, 60], mask[60, 180], mask[20, 100], mask[20, 103] = 1, 0, 2, 1
    result = marked(grey_image(120, 240), mask)
    for row, column, color in (
        *((60, 60, PALETTE[0]), (60, 180, (30, 30, 30))),
        *((20, 100, PALETTE[1]), (20, 103, PALETTE[0])),
    ):
        assert tuple(result[row, column]) == color
    assert tuple(result[60, 63]) == PALETTE[0], "a dot is larger than a pixel"
    # Half way between two points each has its own side.
    assert tuple(result[20, 101]) == PALETTE[1]
    assert tuple(result[20, 102]) == PALETTE[0]
    changed = (result != 100).any(-1)
    rows, columns = np.nonzero(changed[40:, :120])
    assert 60 < len(rows) < 200, "round, with a rim"
    assert np.hypot(rows + 40 - 60, columns - 60).max() < 8
    assert (result == 255).all(-1).any()


def test_marked_draws_a_mask_that_is_known():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 1
    result = marked(grey_image(), mask)
    assert (result[5, 5] == 255).all() and (result[mask == 0] == 100).all()
    assert not np.isin(result[7, 7], (100, 255)).all()
    # Nothing is known at all: hatched.
    assert (marked(grey_image(), mask | 255) != 100).any()


def test_image_and_mask_must_fit():
    mask = np.zeros((20, 20), np.uint8)
    for draw in (overlay, outline, marked, dots):
        with pytest.raises(ValueError, match=r"\[20, 30, 3\] and \[20, 20\]"):
            draw(grey_image(), mask)
        with pytest.raises(ValueError, match="float32"):
            draw(grey_image(20, 20).astype(np.float32), mask)


def test_sheet_places_each_picture_in_its_cell():
    colours = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (90, 90, 0)]]
    rows = [[np.full((8, 8, 3), c, np.uint8) for c in row] for row in colours]
    sheet = np.asarray(contact_sheet(rows, cell=48))
    gap = 3
    assert sheet.shape == (2 * (48 + gap) + gap, 2 * (48 + gap) + gap, 3)
    for i, row in enumerate(colours):
        for j, colour in enumerate(row):
            cell = sheet[gap + i * 51 :, gap + j * 51 :][:48, :48]
            assert (cell == colour).all()


def test_sheet_keeps_aspect_ratios_and_empty_cells():
    wide = Image.new("L", (40, 20), 0)
    sheet = np.asarray(contact_sheet([[wide, None], [wide]], cell=40))
    dark = (sheet == 0).all(-1)
    assert dark.sum() == 2 * 40 * 20
    assert dark[:, :43].sum() == dark.sum()


def test_captions_take_room_and_are_drawn():
    rows = [[grey_image()] * 2] * 2
    plain = contact_sheet(rows, cell=64)
    captions = [
        "bear, IoU 0.71",
        "a name so long that no sheet could ever hold it " * 9,
    ]
    full = contact_sheet(rows, captions, ["support", "prediction"], cell=64)
    assert full.width == plain.width and full.height > plain.height
    assert (np.asarray(full) < 60).any()


@pytest.mark.parametrize("rows", [[], [[]]])
def test_sheet_of_nothing(rows):
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet(rows)


def test_captions_must_match():
    with pytest.raises(ValueError, match="1 captions for 2 columns"):
        contact_sheet([[grey_image(), grey_image()]], column_captions=["support"])


def test_palette_images_keep_values_and_show_colours(tmp_path):
    mask = np.array([[0, 1, 2, 255, len(PALETTE) + 1]], np.uint8)
    palette_image(mask).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        np.testing.assert_array_equal(np.asarray(image), mask)
        colors = np.asarray(image.convert("RGB"))[0].tolist()
    grey = [UNKNOWN_GREY] * 3
    assert colors == [[0, 0, 0], list(PALETTE[0]), list(PALETTE[1]), grey, colors[1]]


def test_a_legend_shows_every_class_above_the_sheet():
    sheet = Image.new("RGB", (200, 30), RED)
    few = np.asarray(with_legend(sheet, ["cat", "dog"]))
    assert few.shape[1] == 200 and (few[-30:] == RED).all()
    for color in PALETTE[:2]:
        assert (few[:-30] == color).all(-1).sum() > 100
    many = np.asarray(with_legend(sheet, [f"class number {i}" for i in range(8)]))
    assert many.shape[0] > few.shape[0]
    assert all((many[:-30] == color).all(-1).sum() > 100 for color in PALETTE)
