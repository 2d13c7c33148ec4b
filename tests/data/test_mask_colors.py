"""What masks mean by colours, palettes and transparency."""

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.mask_planes import array_plane
from efficientlab_tf.data.mask_readings import COLORMAP
from efficientlab_tf.errors import UserError
from tests.data.drawn_masks import (
    BLACK,
    GREEN,
    HEIGHT,
    IN,
    RED,
    WHITE,
    WIDTH,
    cells,
    colored,
    is_square,
    palette,
    read,
    soft,
    square,
    two,
)

# Palettes: colours decide where they differ.


def test_palettes_in_any_order(tmp_path):
    inverted = palette(1 - square(1), RED, BLACK)
    means, masks = read(tmp_path, inverted)
    assert means.kind == "colors" and "#ff0000 object" in means.text
    is_square(masks[0])
    means, masks = read(tmp_path, palette(square(1), BLACK, RED), inverted)
    for mask in masks:
        is_square(mask)


def test_palettes_of_several_classes_in_different_orders(tmp_path):
    first = palette(two(1, 2), BLACK, RED, GREEN)
    second = palette(two(2, 0, ground=1), GREEN, BLACK, RED)
    means, masks = read(tmp_path, first, second)
    assert sorted(means.names.values()) == ["#00c800", "#ff0000"]
    np.testing.assert_array_equal(masks[0], masks[1])


def test_palettes_that_agree_hold_numbers(tmp_path):
    colors = [(i, 255 - i, 7) for i in range(256)]
    colors[0] = BLACK
    means, masks = read(
        tmp_path, palette(two(3, 19), *colors), palette(square(3), *colors)
    )
    assert means.kind == "index" and set(means.names) == {3, 19}
    np.testing.assert_array_equal(masks[0], two(3, 19))


def test_palettes_with_nothing_in_common(tmp_path):
    first = palette(two(1, 2), BLACK, RED, GREEN)
    second = palette(two(1, 2), BLACK, (0, 0, 90), (90, 0, 90))
    with pytest.raises(
        UserError, match=r"m0\.png and .*m1\.png differ and have no col"
    ):
        read(tmp_path, first, second)


def test_palettes_without_black(tmp_path):
    with pytest.raises(UserError, match="none of them is black: which is the back"):
        read(tmp_path, palette(square(1), WHITE, RED))
    is_square(read(tmp_path, palette(square(1), WHITE, RED), mask_values="index")[1][0])


def test_grey_palettes(tmp_path):
    is_square(read(tmp_path, palette(1 - square(1), WHITE, BLACK))[1][0])
    means, (mask,) = read(tmp_path, palette(two(1, 2), BLACK, (127,) * 3, WHITE))
    assert means.kind == "index" and set(np.unique(mask)) == {0, 1, 2}


# Colours.


def test_one_colour_is_an_object(tmp_path):
    for color in (RED, (64, 0, 0), (0, 30, 90)):
        means, (mask,) = read(tmp_path, colored((IN, color)))
        assert means.is_binary
        is_square(mask)


def test_one_colour_with_soft_edges(tmp_path):
    values = soft()
    image = np.dstack([values // 2, np.zeros_like(values), values])
    means, (mask,) = read(tmp_path, image)
    assert means.is_binary
    np.testing.assert_array_equal(mask, values >= 128)


def test_colours_of_voc(tmp_path):
    codes = {index: code for code, index in COLORMAP.items()}
    assert [f"{codes[i]:06x}" for i in (1, 2, 8, 9, 15, 255)] == [
        *("800000", "008000", "400000", "c00000", "c08080", "e0e0c0")
    ]
    first, second, void = (
        tuple(int(f"{codes[i]:06x}"[j : j + 2], 16) for j in (0, 2, 4))
        for i in (8, 9, 255)
    )
    where = two(1, 2)
    edge = np.zeros_like(IN)
    edge[:3] = True
    image = colored((where == 1, first), (where == 2, second), (edge, void))
    means, (mask,) = read(tmp_path, image)
    assert means.names == {8: "8", 9: "9"}
    expected = two(8, 9)
    expected[:3] = 255
    np.testing.assert_array_equal(mask, expected)
    _, (mask,) = read(tmp_path, image, mask_values="index")
    np.testing.assert_array_equal(mask, expected)


def test_colours_that_may_be_those_of_single_objects(tmp_path):
    where = two(1, 2)
    first = colored((where == 1, RED), (where == 2, GREEN))
    second = colored((where == 1, (9, 90, 0)), (where == 2, (0, 9, 90)))
    with pytest.raises(UserError, match="4 colours, others in each file: of classes"):
        read(tmp_path, first, second)
    assert len(read(tmp_path, first, second, mask_values="colors")[0].names) == 4
    many = cells(40, dtype=np.uint8)
    table = np.random.default_rng(0).integers(0, 256, (41, 3), np.uint8)
    table[0] = 0
    with pytest.raises(
        UserError, match="40 colours, many: of classes, or one for each"
    ):
        read(tmp_path, table[many])
    _, (mask,) = read(tmp_path, table[many], mask_values="instances")
    np.testing.assert_array_equal(mask, many > 0)


def test_stray_colours_are_unknown(tmp_path):
    where = two(1, 2)
    image = np.array(colored((where == 1, RED), (where == 2, GREEN)))
    image[12, 12] = (120, 90, 0)
    means, (mask,) = read(tmp_path, image)
    assert mask[12, 12] == 255 and (mask == 255).sum() == 1
    assert "1 pixels in colours of no class" in means.apply(array_plane(image))[1][0]


def test_colours_without_black(tmp_path):
    where = two(1, 2)
    image = colored((where == 1, RED), (where == 2, GREEN), ground=WHITE)
    with pytest.raises(UserError, match="none of them is black"):
        read(tmp_path, image)


def test_colours_that_fill_no_region(tmp_path):
    where = two(1, 2)
    image = np.array(colored((where == 1, RED), (where == 2, GREEN)))
    image[5:25, 5:25] = np.random.default_rng(0).integers(0, 9, (20, 20, 1)) * 9
    with pytest.raises(UserError, match="fill no region|a photo"):
        read(tmp_path, image)


# Transparency.


@pytest.mark.parametrize("hidden", [WHITE, BLACK, (9, 80, 200)])
@pytest.mark.parametrize("shown", [WHITE, BLACK, RED])
@pytest.mark.parametrize("opacity", [255, 200, 90])
def test_an_object_on_transparent_ground(tmp_path, shown, hidden, opacity):
    image = colored((IN, shown), ground=hidden, alpha=square(opacity))
    everything = colored(ground=shown, alpha=255)
    nothing = colored(ground=hidden, alpha=0)
    means, masks = read(tmp_path, image, everything, nothing)
    assert means.kind == "alpha"
    is_square(masks[0])
    assert masks[1].all() and not masks[2].any()


@pytest.mark.parametrize("level", [0, 255])
def test_grey_with_transparency(tmp_path, level):
    values = np.dstack([np.full((HEIGHT, WIDTH), level, np.uint8), square()])
    is_square(read(tmp_path, Image.fromarray(values))[1][0])


def test_a_cut_out_photograph(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    means, (mask,) = read(tmp_path, np.dstack([photo, square()]))
    assert means.kind == "alpha"
    is_square(mask)


def test_a_transparent_palette_entry(tmp_path):
    image = palette(square(1), (10, 200, 30), BLACK)
    means, (mask,) = read(tmp_path, image, transparency=0)
    assert means.kind == "alpha"
    is_square(mask)


def test_transparency_around_a_mask_is_background(tmp_path):
    alpha = np.full((HEIGHT, WIDTH), 255)
    alpha[:5] = 0
    means, (mask,) = read(tmp_path, colored((IN, WHITE), alpha=alpha))
    assert means.kind == "object"
    is_square(mask)


@pytest.mark.parametrize("opacity", [255, 0])
def test_an_alpha_channel_that_says_nothing(tmp_path, opacity):
    is_square(read(tmp_path, colored((IN, WHITE), alpha=opacity))[1][0])
