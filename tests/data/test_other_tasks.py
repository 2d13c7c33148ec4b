import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.config import DataConfig
from efficientlab_tf.data.episode_augment import EpisodeAugment
from efficientlab_tf.data.other_tasks import (
    PART,
    REGION,
    mark_part,
    region,
    without_rest,
)
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from tests.data.test_episode_augment import SIZE, manifest
from tests.data.test_episode_augment import draw as draw_of
from tests.data.tiny_dataset import class_number, sources, tiny_dataset

__all__ = ["manifest"]  # A fixture.


def draw(manifest, count=40, *, augment):
    return draw_of(manifest, augment, count, shots=3, queries=2)


def test_a_part_is_on_one_side_of_a_line_and_the_same_in_all_pictures():
    masks = np.zeros((3, 60, 60), np.uint8)
    masks[0, 10:50, 10:50] = 1  # The same shape large, and small elsewhere.
    masks[1, 30:50, 5:25] = 1
    masks[2, 30:50, 5:25], masks[2, 30] = 1, IGNORE
    shares, sides = [], set()
    for number in range(40):
        marked = mark_part(tf.constant(masks), 1.0, tf.constant([7, number]))
        part = without_rest(marked).numpy()
        np.testing.assert_array_equal((marked.numpy() > 0), masks > 0)
        np.testing.assert_array_equal(part == IGNORE, masks == IGNORE)
        assert np.all(masks[part == 1] == 1)
        large, small = part[0, 10:50, 10:50], part[1, 30:50, 5:25]
        # Half as large, it is the same part.
        assert np.mean(large[::2, ::2] != small) < 0.12
        # What lies between two pixels of the part in a row or column belongs to it.
        for line in (*large, *large.T):
            where = np.flatnonzero(line)
            assert len(where) == 0 or len(where) == where[-1] - where[0] + 1
        shares.append(large.mean())
        sides.add(tuple(large[::39, ::39].ravel()))
    # Along a diagonal an extent of 0.3 is less than 0.3 of the area.
    assert PART[0] ** 2 < min(shares) < 0.4 and 0.6 < max(shares) < 1 - PART[0] ** 2
    assert len(sides) > 6  # Of all directions.


def test_half_of_the_tasks_are_parts(manifest):
    plain = draw(manifest, 60, augment=EpisodeAugment())
    parts = draw(manifest, 60, augment=EpisodeAugment(part_rate=0.5))
    changed = 0
    for before, after in zip(plain, parts, strict=True):
        np.testing.assert_array_equal(before.query_images, after.query_images)
        kept = []
        for name in ("support_masks", "query_masks"):
            old, new = getattr(before, name).numpy(), getattr(after, name).numpy()
            assert np.all((new == old) | ((old == 1) & (new == 0)))
            assert np.all((new == 1).any((1, 2)))
            kept.append(np.array_equal(old, new))
        assert kept[0] == kept[1]
        changed += not kept[0]
    assert 18 <= changed <= 42  # Three standard deviations.


def test_what_is_pasted_is_the_whole_object(manifest):
    both = EpisodeAugment(part_rate=1.0, paste_rate=1.0)
    fewer = 0
    for episode in draw(manifest, 10, augment=both):
        own = class_number(episode.name.numpy().decode())
        images, masks = episode.query_images.numpy(), episode.query_masks.numpy()
        assert set(images[masks == 1][:, 0]) == {own}
        assert set(np.unique(masks)) <= {0, 1, IGNORE}
        fewer += np.any((images[..., 0] == own) & (masks == 0))
    assert fewer == 10  # The object's rest is there, and is background.


def pictures():
    """Three stripes: dark red, bright blue, and the same blue with a fine pattern."""
    image = np.zeros((48, 96, 3), np.uint8)
    image[:, :32], image[:, 32:] = (90, 20, 20), (60, 90, 220)
    image[::2, 64:] = (30, 60, 190)
    image[1::2, 64:] = (90, 120, 250)
    masks = np.zeros((2, 48, 96), np.uint8)
    masks[:, :5] = IGNORE
    return tf.constant(np.stack([image, image[:, ::-1]])), tf.constant(masks)


def test_a_region_is_what_has_the_colour_and_texture_of_a_place():
    images, masks = pictures()
    query = tf.reverse(images, [1]), masks
    found = set()
    for number in range(30):
        support, changed = region((images, masks), query, 1.0, tf.constant([3, number]))
        np.testing.assert_array_equal(support[0], images)
        np.testing.assert_array_equal(changed[0], query[0])
        labels = support[1].numpy()
        assert labels.dtype == np.uint8 and set(np.unique(labels)) == {0, 1}
        # The query is the support upside down, and so is its region (but for rounding
        # where many pixels are equally far).
        assert np.mean(changed[1] != labels[:, ::-1]) < 0.03
        assert np.mean(labels[1] != labels[0][:, ::-1]) < 0.03
        # All but the borders of a stripe is alike.
        inner = [labels[0][6:-6, 32 * i + 6 : 32 * i + 26] for i in range(3)]
        stripes = tuple(int(part.mean() > 0.5) for part in inner)
        if sum(stripes) == 1:
            found.add(stripes)
        share = labels.mean()
        assert REGION[0] - 0.02 < share
    assert found == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    kept = region((images, masks), query, 0.0, tf.constant([3, 4]))
    np.testing.assert_array_equal(kept[0][1], masks)
    np.testing.assert_array_equal(kept[1][1], masks)


def test_a_union_shows_objects_of_both_classes(manifest):
    names = set()
    for episode in draw(manifest, 30, augment=EpisodeAugment(union_rate=1.0)):
        one, other = episode.name.numpy().decode().split("+")
        assert one != other
        names.add((one, other))
        support, query = sources(episode.support_images), sources(episode.query_images)
        assert len(set(support + query)) == 5
        numbers = [class_number(one), class_number(other)]
        assert [n for n, _ in support] == [numbers[0]] * 2 + [numbers[1]]
        assert [n for n, _ in query] == numbers
        for masks in (episode.support_masks, episode.query_masks):
            assert set(np.unique(masks)) == {0, 1, IGNORE}
            assert np.all((masks.numpy() == 1).any((1, 2)))
    assert len(names) == 6


def test_some_episodes_are_unions_and_the_others_are_as_before(manifest):
    plain = draw(manifest, 60, augment=EpisodeAugment())
    some = draw(manifest, 60, augment=EpisodeAugment(union_rate=0.3))
    unions = 0
    for before, after in zip(plain, some, strict=True):
        if b"+" in after.name.numpy():
            unions += 1
        else:
            np.testing.assert_array_equal(before.query_images, after.query_images)
    assert 7 <= unions <= 29  # Three standard deviations.


def test_a_union_needs_another_class(tmp_path):
    alone = tiny_dataset(tmp_path, {"bear": 6}, size=SIZE)
    with pytest.raises(UserError, match="`union_rate` needs another class"):
        draw(alone, 1, augment=EpisodeAugment(union_rate=0.1))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"part_rate": 1.1}, "`part_rate` must be at most 1"),
        ({"region_rate": -1.0}, "`region_rate` must be at least 0"),
        ({"union_rate": 0.5, "ways": 2}, "`union_rate` needs `ways`=1, received 2"),
        ({"part_rate": 0.5, "family": "instance"}, "`part_rate` needs `family`=class"),
        ({"region_rate": 0.5, "draw": "image"}, "`region_rate` needs `draw`=class"),
        ({"union_rate": 0.5, "shots": 1}, "`union_rate` needs `shots` from 2"),
    ],
)
def test_settings_that_do_not_suit_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        DataConfig(**options)
