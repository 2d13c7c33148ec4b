import itertools

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.data.episodes import episode_dataset
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.errors import UserError
from tests.data.tiny_dataset import sources, tiny_dataset

SIZE = (32, 48)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    tiny_dataset(root / "a", {"bear": 6, "cup": 7}, size=SIZE)
    tiny_dataset(root / "b", {"dog": 5, "elk": 9, "fox": 6}, size=SIZE)
    return root


def names_of(mixture, count=60, **options):
    options = {"shots": 2, "queries": 3, "seed": 5, "image_size": SIZE, **options}
    dataset = episode_dataset(mixture, "train", **options)
    drawn = list(itertools.islice(dataset, count))
    return [name.decode() for e in drawn for name in np.atleast_1d(e.name)], drawn


def test_weights_are_shares(folders):
    a, b = folders / "a", folders / "b"
    mixture = Mixture.load(f"{a}:1, {b}:3")
    assert mixture.shares == (0.25, 0.75)
    assert [m.directory for m in mixture.manifests] == [a, b]
    assert mixture.class_count("train") == 5
    assert Mixture.load(f"{a},{b}").shares == (0.5, 0.5)
    assert Mixture.load(str(a)).shares == (1.0,)
    assert Mixture.load(f"{a}:7").shares == (1.0,)
    # A colon may be part of a name.
    assert Mixture.load("sample:icons").shares == (1.0,)
    mixture = Mixture.load(f"sample:icons:2,{a}:0.5")
    assert mixture.shares == (0.8, 0.2)
    assert (
        mixture.manifests[0].classes.keys()
        == Manifest.load("sample:icons").classes.keys()
    )


def test_tasks_are_drawn_by_weight(folders):
    mixture = Mixture.load(f"{folders / 'a'}:1,{folders / 'b'}:3")
    names, drawn = names_of(mixture, 200)
    share = np.mean([name in ("bear", "cup") for name in names])
    assert abs(share - 0.25) < 0.1  # More than three standard deviations.
    assert set(names) == {"bear", "cup", "dog", "elk", "fox"}
    # An episode is of one dataset and class, and shares no example.
    for episode in drawn:
        both = sources(episode.support_images) + sources(episode.query_images)
        assert len(set(both)) == 5 and len({number for number, _ in both}) == 1


def test_one_dataset_gives_the_episodes_that_it_gives_alone(folders):
    alone = names_of(Manifest.load(folders / "b"), 20)[1]
    mixed = names_of(Mixture.load(f"{folders / 'b'}:2"), 20)[1]
    tf.nest.map_structure(np.testing.assert_array_equal, alone, mixed)


def test_a_resumed_run_sees_the_same_episodes(folders):
    mixture = Mixture.load(f"{folders / 'a'}:1,{folders / 'b'}:1")
    whole = names_of(mixture, 12, meta_batch=2)[1]
    rest = names_of(mixture, 5, meta_batch=2, start_step=7)[1]
    tf.nest.map_structure(np.testing.assert_array_equal, whole[7:], rest)
    # The tasks of a meta-batch are drawn apart.
    assert any(
        len({name in (b"bear", b"cup") for name in batch.name.numpy()}) == 2
        for batch in whole
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("{a}:0", "with a positive :WEIGHT"),
        ("{a}:-1,{b}", "with a positive :WEIGHT|each with a positive :WEIGHT"),
        ("{a}:inf", "positive :WEIGHT"),
        ("{a},", "positive :WEIGHT"),
        ("{a},{a}:2", "must name each dataset once"),
        ("{a},nowhere", "no dataset folder nowhere"),
    ],
)
def test_mixtures_that_are_none_are_refused(folders, text, message):
    with pytest.raises(UserError, match=message):
        Mixture.load(text.format(a=folders / "a", b=folders / "b"))


def test_class_lists_are_for_one_dataset(folders, tmp_path):
    (tmp_path / "train.txt").write_text("bear\n")
    splits = f"train={tmp_path / 'train.txt'}"
    mixture = Mixture.load(str(folders / "a"), splits)
    assert mixture.manifests[0].split("train") == ("bear",)
    with pytest.raises(UserError, match="`splits` is for one dataset"):
        Mixture.load(f"{folders / 'a'},{folders / 'b'}", splits)


def test_where_one_dataset_is_needed_a_mixture_is_named(folders):
    with pytest.raises(UserError, match="must be one dataset here, received .*a:1,b:2"):
        Manifest.load("a:1,b:2")
