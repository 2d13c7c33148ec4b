"""Masks to write into files, and what is read of them."""

import numpy as np
from PIL import Image

from efficientlab_tf.data.mask_deciding import decide

HEIGHT, WIDTH = 40, 60
SQUARE = np.s_[10:30, 10:40]


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
