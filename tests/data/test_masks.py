"""What mask files mean: one by one, and together."""

import io

import numpy as np
import pytest
from PIL import Image

from efficientlab_tf.data.mask_deciding import decide
from efficientlab_tf.data.mask_planes import array_plane, read_plane
from efficientlab_tf.data.mask_readings import COLORMAP, MASK_VALUES, Reading
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.errors import UserError

HEIGHT, WIDTH = 40, 60
SQUARE = np.s_[10:30, 10:40]
SHARE = 600


def square(value=255, ground=0, dtype=np.uint8):
    """A square of a value on a ground."""
    mask = np.full((HEIGHT, WIDTH), ground, dtype)
    mask[SQUARE] = value
    return mask


def two(first, second, ground=0, dtype=np.uint8):
    """Two squares, of different sizes."""
    mask = np.full((HEIGHT, WIDTH), ground, dtype)
    mask[5:25, 5:25], mask[28:38, 30:50] = first, second
    return mask


def cells(count, side=4, dtype=np.uint16):
    """A number for each of so many cells, in rows; 0 between them."""
    columns = 20
    rows = -(-count // columns)
    mask = np.zeros((rows * (side + 1), columns * (side + 1)), dtype)
    for i in range(count):
        row, column = (side + 1) * (i // columns), (side + 1) * (i % columns)
        mask[row : row + side, column : column + side] = i + 1
    return mask


def soft(top=255, dtype=np.uint8):
    """A square with edges as smoothing makes them."""
    mask = Image.fromarray(square()).resize((WIDTH * 3, HEIGHT * 3))
    mask = mask.rotate(17, Image.Resampling.BICUBIC).resize((WIDTH, HEIGHT))
    return (np.asarray(mask).astype(np.float64) / 255 * top).astype(dtype)


def palette(indices, *colors):
    """A palette image whose table holds just these colours."""
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette(np.array(colors, np.uint8).tobytes())
    return image


def colored(*pairs, ground=(0, 0, 0), alpha=None):
    """Squares of colours; each pair is a mask of where, and the colour."""
    values = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
    for where, color in pairs:
        values[where] = color
    if alpha is not None:
        alpha = np.broadcast_to(np.asarray(alpha, np.uint8), (HEIGHT, WIDTH))
        values = np.dstack([values, alpha])
    return Image.fromarray(values)


def read(tmp_path, *contents, mask_values="auto", suffix=".png", **save):
    """Decides on files of these contents; returns the reading and the masks."""
    paths = []
    for i, content in enumerate(contents):
        image = (
            content if isinstance(content, Image.Image) else Image.fromarray(content)
        )
        paths.append(tmp_path / f"m{i}{suffix}")
        image.save(paths[-1], **save)
    means = decide(paths, mask_values)
    return means, [means.read(path)[0] for path in paths]


def is_square(mask):
    np.testing.assert_array_equal(mask, square(1))


IN = square() > 0
RED, GREEN, BLACK, WHITE = (255, 0, 0), (0, 200, 0), (0, 0, 0), (255, 255, 255)


# An object on background, in every depth and suffix.


@pytest.mark.parametrize("top", [1, 255, 65535, 256, 4095])
def test_objects_in_16_bits(tmp_path, top):
    _, masks = read(
        tmp_path, square(top, dtype=np.uint16), np.zeros_like(IN, np.uint16)
    )
    is_square(masks[0])
    assert not masks[1].any()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("top", [1, 255, 65535, 2**24])
def test_objects_in_32_bits(tmp_path, dtype, top):
    (mask,) = read(tmp_path, square(top, dtype=dtype), suffix=".tif")[1]
    is_square(mask)


def test_all_bits_of_32(tmp_path):
    is_square(read(tmp_path, square(-1, dtype=np.int32), suffix=".tif")[1][0])


def test_fractions(tmp_path):
    values = soft(1.0, np.float32)
    assert (values % 1 > 0).any()
    (mask,) = read(tmp_path, values, suffix=".tif")[1]
    np.testing.assert_array_equal(mask, values >= 127.5 / 255)


MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK")
WITHOUT = {".png": ("CMYK",), ".gif": ("CMYK",), ".bmp": ("LA", "CMYK")}


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        (mode, suffix)
        for suffix in (".png", ".gif", ".tif", ".bmp", ".webp")
        for mode in MODES
        if mode not in WITHOUT.get(suffix, ())
    ],
)
def test_objects_in_every_mode_and_format(tmp_path, mode, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    image = Image.fromarray(square()).convert(mode)
    is_square(read(tmp_path, image, suffix=suffix, **options)[1][0])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_soft_edges_and_lossy_formats(tmp_path, suffix):
    values = soft()
    means, (mask,) = read(tmp_path, values, suffix=suffix)
    assert means.kind == "object"
    assert abs(int(mask.sum()) - int((values >= 128).sum())) < 10


def test_soft_edges_in_16_bits(tmp_path):
    values = soft(65535, np.uint16)
    means, (mask,) = read(tmp_path, values)
    np.testing.assert_array_equal(mask, values >= 2**15)


# Numbers: of classes, or of instances.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_numbers_of_classes(tmp_path, dtype):
    kind = ".tif" if dtype == np.int32 else ".png"
    means, masks = read(
        tmp_path, two(3, 19, dtype=dtype), square(3, dtype=dtype), suffix=kind
    )
    assert means.kind == "index" and means.names == {3: "3", 19: "19"}
    np.testing.assert_array_equal(masks[0], two(3, 19))


def test_numbers_above_127_with_unknown(tmp_path):
    mask = two(17, 156, ground=156)
    mask[:2] = 255
    means, masks = read(tmp_path, mask, square(17, 156))
    assert means.kind == "index" and set(means.names) == {17, 156}
    assert "255 is unknown" in means.text
    np.testing.assert_array_equal(masks[0], mask)


def test_levels_0_and_1(tmp_path):
    means, masks = read(tmp_path, square(1), square(0))
    assert means.is_binary and means.names == {1: "object"}
    is_square(masks[0])


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(12, np.uint8), (195, np.uint8), (255, np.uint8), (12, np.uint16)],
)
def test_a_number_for_each_instance(tmp_path, count, dtype):
    found, other = cells(count, dtype=dtype), cells(9, dtype=dtype)
    means, masks = read(tmp_path, found, other)
    assert means.kind == "instances" and f"up to {count} a file" in means.text
    np.testing.assert_array_equal(masks[0], found > 0)
    np.testing.assert_array_equal(masks[1], other > 0)


def test_hundreds_of_instances_beside_few(tmp_path):
    found = cells(700), cells(1), cells(40), np.zeros((9, 9), np.uint16)
    means, masks = read(tmp_path, *found)
    assert means.kind == "instances"
    for mask, values in zip(masks, found, strict=True):
        np.testing.assert_array_equal(mask, values > 0)


def test_instances_with_gaps(tmp_path):
    found = cells(80, dtype=np.uint8)
    found[np.isin(found, (3, 7, 30))] = 0
    assert read(tmp_path, found)[0].kind == "instances"


def test_numbers_that_may_be_classes_or_instances(tmp_path):
    some = cells(12, dtype=np.uint8)
    some[some == 5] = 0
    for content in (some, cells(5), cells(3)):
        with pytest.raises(UserError, match="of classes, or one for each object"):
            read(tmp_path, content)
    means, _ = read(tmp_path, cells(5, dtype=np.uint8))
    assert means.kind == "index" and "set `mask_values` to instances" in means.text


def test_many_classes_in_pieces_are_not_instances(tmp_path):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 60, (24, 24)).astype(np.uint8)
    scene = np.kron(blocks, np.ones((6, 6), np.uint8))
    assert read(tmp_path, scene)[0].kind == "index"


def test_numbers_that_are_neither(tmp_path):
    with pytest.raises(UserError, match=r"m0\.png: numbers up to 26001, more than"):
        read(tmp_path, two(24000, 26001, dtype=np.uint16))
    _, (mask,) = read(
        tmp_path, two(24000, 26001, dtype=np.uint16), mask_values="instances"
    )
    assert mask.sum() == 600


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


# What is refused rather than guessed.


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            [square(), square(1)],
            r"m0\.png holds the levels 0, 255, but .*m1\.png the lev",
        ),
        ([square(), two(1, 2)], "masks of one set have to mean the same"),
        ([square(), colored((IN, RED))], r"but .*m1\.png the colours #000000, #ff0000"),
        (
            [colored((IN, WHITE), alpha=square()), square()],
            "transparent background, but",
        ),
        ([square(255, 255)], "every mask is 255 all over"),
        ([two(128, 255)], "levels 128, 255: classes in shades of grey, or an object"),
        ([two(100, 255)], "100 and 255: is 255 the object, or unknown"),
        ([np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)], "not a mask"),
        (
            [np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)],
            "a photo, not a mask",
        ),
        (
            [np.random.default_rng(0).integers(0, 999, (40, 60), np.uint16)],
            "not a mask",
        ),
    ],
)
def test_what_may_mean_several_things_is_refused(tmp_path, contents, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, *contents)


def test_values_that_no_mask_has(tmp_path):
    for values, message in (
        (square(-5, dtype=np.int32), "negative number -5"),
        (square(np.nan, dtype=np.float32), "save it as 8-bit grey"),
        (square(1e20, dtype=np.float32), "save it as 8-bit grey"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path, values, suffix=".tif")


@pytest.mark.parametrize("suffix", [".jpg", ".jp2", ".avif"])
def test_numbers_do_not_survive_lossy_formats(tmp_path, suffix):
    with pytest.raises(UserError, match="format that changes them, as JPEG does"):
        read(tmp_path, two(17, 60), suffix=suffix, quality=100)


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


# By hand.


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("object", two(100, 200), two(0, 1)),
        ("dark", square(0, 255), square(1)),
        ("dark", square(40, 200), square(1)),
        ("index", two(200, 255), two(200, 255)),
        ("index", square(9), square(9)),
        ("instances", two(7, 255), two(1, 1)),
        ("instances", colored((IN, RED)), square(1)),
        ("colors", two(85, 170), two(1, 2)),
        ("colors", colored((IN, WHITE)), square(1)),
        ("alpha", colored((IN, RED), ground=GREEN, alpha=square()), square(1)),
    ],
)
def test_every_reading_by_hand(tmp_path, kind, content, expected):
    means, (mask,) = read(tmp_path, content, mask_values=kind)
    assert means.kind == kind and means.text
    np.testing.assert_array_equal(mask, expected)


def test_all_readings_were_tried_by_hand():
    (mark,) = test_every_reading_by_hand.pytestmark
    assert {case[0] for case in mark.args[1]} | {"auto"} == set(MASK_VALUES)


def test_readings_by_hand_that_do_not_fit(tmp_path):
    for kind, content, message in (
        ("alpha", square(), "no transparency"),
        (
            "index",
            colored((IN, RED)),
            r"colours where indices are expected \(#ff0000\)",
        ),
        ("index", square(300, dtype=np.uint16), "index 300"),
        ("object", square(90), "brightest level of the mask is 90"),
    ):
        with pytest.raises(Refused, match=message):
            read(tmp_path, content, mask_values=kind)


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
