"""The automatic method from Python and from the command line."""

import dataclasses
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import efficientlab_tf as el
from efficientlab_tf.adapt import AdaptConfig
from efficientlab_tf.adapt import adapt as command
from efficientlab_tf.api import automatic
from efficientlab_tf.automatic.networks import NetworkMember
from efficientlab_tf.automatic.threshold import Decision
from efficientlab_tf.errors import UserError
from tests.models.test_heads import squares


def discs(count: int, seed: int = 0):
    """Blue discs on green, of different sizes of pictures, and their masks."""
    rng = np.random.default_rng(seed)
    images, masks = [], []
    for _ in range(count):
        size = rng.integers(90, 160, 2)
        rows, columns = np.indices(size)
        center, radius = size / 2 + rng.uniform(-15, 15, 2), rng.uniform(18, 30)
        mask = np.hypot(rows - center[0], columns - center[1]) < radius
        image = np.where(mask[..., np.newaxis], (60, 80, 200), (70, 160, 60))
        image = image + rng.normal(0, 15, (*size, 3))
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(mask.astype(np.uint8))
    return images, masks


def iou(found, truth):
    return np.mean(
        [
            ((a == 1) & (b == 1)).sum() / ((a == 1) | (b == 1)).sum()
            for a, b in zip(found, truth, strict=True)
        ]
    )


def test_five_pictures_are_enough():
    images, masks = discs(8)
    seen = []
    adapted = el.load("linear").adapt(
        images[:5], masks[:5], budget=np.inf, on_progress=seen.append
    )
    assert iou(adapted.predict(images[5:]), masks[5:]) > 0.9
    assert seen and not adapted.found.out_of_time
    assert 0.8 < adapted.estimate.iou and adapted.estimate.low < adapted.estimate.high
    again = el.load("linear").adapt(images[:5], masks[:5], budget=np.inf)
    for a, b in zip(
        adapted.probabilities(images[5:]), again.probabilities(images[5:]), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_one_picture(quick_search):
    images, masks = discs(4)
    adapted = el.adapt(images[:1], masks[:1])
    assert adapted.estimate is None
    assert iou(adapted.predict(images[1:]), masks[1:]) > 0.8
    more = el.adapt(images[:1], masks[:1], threshold=0.9)
    a, b = adapted.predict(images[1:2])[0], more.predict(images[1:2])[0]
    assert 0 < (b == 1).sum() <= (a == 1).sum()


SOLVED = "photos_closed_form_lite0"


def test_a_network_that_solves_counts_for_half(quick_search, tmp_path):
    images, masks = discs(4)
    adapted = el.adapt(images[:3], masks[:3])
    choice, parts = adapted.found.choice, adapted.adapted
    assert [one.name for one in choice.beside] == [f"{SOLVED}, 64, 96 px"]
    assert all(one.name.startswith("linear") for one in choice.candidates)
    picture = images[3][:50]
    both = parts.segment(picture)
    undecided = dataclasses.replace(parts, decision=Decision())
    alone = dataclasses.replace(undecided, beside=()).segment(picture)
    of_network = parts.beside[0].probabilities(
        parts.beside[0].tensors, tf.cast(picture, tf.float32)
    )
    mean = (alone + of_network) / 2
    np.testing.assert_allclose(undecided.segment(picture), mean, atol=1e-5)
    np.testing.assert_allclose(both, parts.decision(mean), atol=1e-4)
    # It segments a mirrored picture the mirrored way.
    mirrored = parts.beside[0].probabilities(
        parts.beside[0].tensors, tf.cast(picture[:, ::-1], tf.float32)
    )
    np.testing.assert_allclose(mirrored[:, ::-1], of_network, atol=1e-4)
    adapted.save(tmp_path / "mine.keras")
    again = el.load(tmp_path / "mine.keras").adapted
    np.testing.assert_allclose(again.adapted.segment(picture), both, atol=1e-5)


def test_a_short_budget_leaves_all_but_the_first_out(quick_search, monkeypatch):
    monkeypatch.setattr(automatic, "linear_families", lambda task: [pytest.fail])
    adapted = el.adapt(*discs(3), budget=1e-3)
    assert adapted.found.out_of_time
    choice = adapted.found.choice
    assert len(choice.beside) == 1 and not choice.candidates


def test_the_meta_learned_network_alone(quick_search, monkeypatch, tmp_path):
    images, masks = discs(6)
    read = []
    model = automatic._sized(SOLVED)[0]
    functions = model.segmenter().functions
    reads = functions.read
    monkeypatch.setattr(functions, "read", lambda *a: read.append(0) or reads(*a))
    adapted = el.load("meta_learned").adapt(images[:4], masks[:4])
    # Each picture and its mirror image once, for all folds.
    assert len(read) == 8
    assert adapted.found.choice.beside and not adapted.found.choice.candidates
    assert adapted.adapted.decision.by_picture and adapted.estimate.iou > 0.8
    found = adapted.predict(images[4:])
    assert iou(found, masks[4:]) > 0.8
    # Sizes and views are a mean.
    (member,) = adapted.adapted.beside
    picture = tf.cast(images[4], tf.float32)
    whole = member.probabilities(member.tensors, picture)
    parts = [
        NetworkMember("", [m], [a], [1.0])
        for m, a in zip(member.models, member.adapted, strict=True)
    ]
    each = [part.probabilities(part.tensors, picture) for part in parts]
    np.testing.assert_allclose(whole, np.mean(each, axis=0), atol=1e-5)
    # What was judged is what segments.
    entry, *_ = adapted.found.task.judged
    fold = next(f for f in adapted.found.task.folds if entry in f)
    others = adapted.found.task.others(fold)
    own = el.load("meta_learned").adapt(
        [images[i] for i in others], [masks[i] for i in others], threshold=0.5
    )
    np.testing.assert_allclose(
        own.adapted.segment(images[entry]),
        adapted.found.judged[0].probabilities[0],
        atol=5e-3,
    )
    file = tmp_path / "mine.keras"
    adapted.save(file)
    for one, again in zip(found, el.load(file).predict(images[4:]), strict=True):
        np.testing.assert_array_equal(one, again)
    alone = el.load("meta_learned").adapt(images[:1], masks[:1])
    assert alone.estimate is None and iou(alone.predict(images[4:]), masks[4:]) > 0.5


def test_points_reach_the_network(quick_search):
    rng = np.random.default_rng(0)
    images, masks = discs(3)
    images = [image.repeat(4, 0).repeat(4, 1) for image in images]
    points = []
    for mask in masks:
        sparse = np.full([4 * side for side in mask.shape], 255, np.uint8)
        for label in (0, 1):
            row, column = rng.choice(np.argwhere(mask == label)) * 4
            sparse[row, column] = label
        points.append(sparse)
    adapted = el.load("meta_learned").adapt(images, points)
    truths = [mask.repeat(4, 0).repeat(4, 1) for mask in masks]
    assert iou(adapted.predict(images), truths) > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "`budget` must be above 0 seconds, received 0"),
        ({"threshold": 1.5}, "`threshold` must be below 1"),
        ({"batch_norm": "support"}, "`batch_norm` has no effect: auto looks for"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        el.adapt(*discs(1), **options)


def write(folder, images, masks):
    folder.mkdir()
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        Image.fromarray(image).save(folder / f"{i}.jpg")
        Image.fromarray(mask * 255).save(folder / f"{i}.png")
    return str(folder)


def run(tmp_path, images, masks, support=5, **options):
    config = AdaptConfig(
        support=write(tmp_path / "support", images[:support], masks[:support]),
        query=write(tmp_path / "query", images[support:], masks[support:]),
        output=str(tmp_path / "output"),
        method="linear",
        **options,
    )
    assert command(config) == 0
    return json.loads((tmp_path / "output" / "summary.json").read_text())


def test_the_command_says_where_the_time_went(tmp_path, capsys):
    run(tmp_path, *discs(3), support=2, verbose=True)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("time: starting Python and TensorFlow ")
    *spent, whole = map(float, re.findall(r"([\d.]+) s\b", line))
    assert len(spent) == 5 and sum(spent) == pytest.approx(whole, abs=0.3)


def test_the_command_says_what_it_chose_and_what_to_expect(tmp_path, capsys):
    save = str(tmp_path / "mine.keras")
    images, masks = discs(8)
    summary = run(tmp_path, images, masks, save=save, budget="none")
    printed = capsys.readouterr().out
    search = summary["search"]
    assert not search["out_of_time"] and len(search["chosen"]) == 4
    assert search["expected_iou"]["low"] <= search["expected_iou"]["iou"]
    assert len(search["judged"]) == 5 and search["from"] == "leave-one-out"
    assert summary["scores"]["mean_iou"] > 0.9
    for text in ("chosen: the mean of 4", "expected IoU on new pictures", "saved:"):
        assert text in printed
    assert "warning" not in printed
    listed = (tmp_path / "output" / "label_next.txt").read_text().splitlines()
    sure = {q["file"]: q["confidence"] for q in summary["queries"]}
    assert listed == sorted(listed, key=sure.get) and len(listed) == 3
    loaded = el.load(save).predict([str(tmp_path / "query" / "0.jpg")])[0]
    written = np.asarray(Image.open(tmp_path / "output" / "masks" / "0.png"))
    np.testing.assert_array_equal(loaded, written)


def test_a_picture_that_the_others_do_not_explain_is_named(tmp_path, capsys):
    images, masks = discs(6)
    masks[2] = 1 - masks[2]
    summary = run(tmp_path, images, masks)
    printed = capsys.readouterr().out
    assert "warning: what the other pictures teach finds" in printed
    assert "2.jpg; look whether its label is right" in printed
    assert min(summary["search"]["judged"], key=lambda j: j["iou"])["file"] == "2.jpg"


def test_classes_have_their_own_estimates(tmp_path, capsys):
    images, masks = squares(5, 0)
    adapted = el.load("linear").adapt(list(images[:4]), list(masks[:4]))
    assert adapted.classes == ("1", "2")
    (found,) = adapted.predict([images[4]])
    assert set(np.unique(found)) == {0, 1, 2}
