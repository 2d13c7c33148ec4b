"""Outlines to masks, without any format."""

import numpy as np
import pytest

from efficientlab_tf.data import drawing
from tests.data.annotations.making import corners


def test_a_pixel_is_inside_if_its_centre_is():
    for edge, first in ((2.4, 2), (2.6, 3), (2.0, 2), (3.0, 3)):
        mask = drawing.blank(5, 8)
        drawing.fill_polygon(mask, [[edge, 1], [6, 1], [6, 4], [edge, 4]], 7)
        expected = np.zeros((5, 8), int)
        expected[1:4, first:6] = 7
        np.testing.assert_array_equal(mask, expected)


def test_shapes_are_clipped_to_the_image():
    mask = drawing.blank(4, 4)
    drawing.fill_polygon(mask, corners(-1e6, 1, 1e6, 2), 1)
    drawing.fill_polygon(mask, corners(50, 50, 60, 60), 2)
    drawing.fill_ellipse(mask, (-50, -50), (3, 3), 3)
    assert mask[1].tolist() == [1] * 4 and mask.sum() == 4


def test_a_polygon_with_a_bridge_to_its_hole_keeps_the_hole():
    outer, hole = corners(0, 0, 9, 9), corners(3, 3, 6, 6)
    for inner in (hole, hole[:1] + hole[:0:-1]):
        mask = drawing.blank(9, 9)
        points = [*outer, outer[0], *inner, inner[0], outer[0]]
        drawing.fill_polygon(mask, points, 1)
        expected = np.ones((9, 9), int)
        expected[3:6, 3:6] = 0
        np.testing.assert_array_equal(mask, expected)


def test_areas_of_round_and_turned_shapes():
    mask = drawing.blank(200, 200)
    drawing.fill_ellipse(mask, (100, 100), (80, 40), 1, degrees=30)
    assert abs(mask.sum() / (np.pi * 80 * 40) - 1) < 0.005
    # Clockwise on the screen: the right end of the long axis points down.
    rows, columns = np.nonzero(mask)
    assert np.corrcoef(rows, columns)[0, 1] > 0.3
    mask = drawing.blank(200, 200)
    points = drawing.rectangle_points((100, 20), (60, 30), degrees=90)
    drawing.fill_polygon(mask, points, 1)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max() + 1) == (70, 100)
    assert (rows.min(), rows.max() + 1) == (20, 80)


@pytest.mark.parametrize(
    "points",
    [
        *([[1, 1], [2, 2]], [[0, 0], [1, float("nan")], [2, 2]], [[1], [2], [3]]),
        *([[0, 0], [1e300, 0], [1, 1]], ["abc"], None, [[0, 0], [None, 1], [1, 1]]),
    ],
)
def test_polygons_that_are_none(points):
    with pytest.raises(ValueError):
        drawing.fill_polygon(drawing.blank(4, 4), points, 1)


def test_an_outline_without_end_is_refused():
    points = [[0, 0], [3, 4]] * (drawing.MAX_CROSSINGS // 4)
    with pytest.raises(ValueError, match="too long"):
        drawing.fill_polygon(drawing.blank(4, 4), points, 1)


@pytest.mark.parametrize("size", [(48, 64), (48.0, 64.0), ("48", "64.0")])
def test_sizes_as_exports_write_them(size):
    assert drawing.check_size(*size) == (48, 64)


@pytest.mark.parametrize(
    "size", [(0, 5), (-3, 4), (10**9, 5), (1.5, 4), ("x", 4), (None, 4), (True, 5)]
)
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError):
        drawing.check_size(*size)
