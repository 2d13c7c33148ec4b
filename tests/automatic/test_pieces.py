"""The pieces of the automatic method, on small pictures of their own."""

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.automatic import linear, prior, reading
from efficientlab_tf.automatic.borders import refine
from efficientlab_tf.automatic.candidates import sides, usual_families
from efficientlab_tf.automatic.choice import choose
from efficientlab_tf.automatic.estimate import estimate
from efficientlab_tf.automatic.frame import frame, frame_mask, shares, unframe
from efficientlab_tf.automatic.linear import Linear, LinearFamily
from efficientlab_tf.automatic.reading import Reader, reader
from efficientlab_tf.automatic.search import Judged, search
from efficientlab_tf.automatic.task import Task
from efficientlab_tf.automatic.threshold import Decision
from tests.models.test_heads import squares


@pytest.mark.parametrize("size", [(40, 70), (70, 40), (300, 100), (1, 50), (64, 64)])
@pytest.mark.parametrize("square", [False, True])
def test_a_picture_goes_to_its_canvas_and_back(size, square):
    rows, columns = np.indices(size)
    ramp = np.stack([rows, columns, rows + columns], -1).astype(np.float32)
    framed = frame(tf.constant(ramp), 128, square)
    height, width = framed.canvas.shape[:2]
    assert height % 32 == width % 32 == 0
    if square:
        assert (height, width) == (128, 128)
    inner = framed.inner.numpy()
    assert max(inner) == min(128, 2 * max(size))
    back = unframe(framed.canvas, framed.inner, 1, tf.constant(size)).numpy()
    inside = slice(4, -4)
    np.testing.assert_allclose(
        back[inside, inside], ramp[inside, inside], atol=max(size) / 40
    )
    # What is beside the picture repeats its edge, and is unknown in a mask.
    edge = framed.canvas.numpy()[inner[0] - 1, : inner[1]]
    np.testing.assert_array_equal(
        framed.canvas.numpy()[inner[0] :, : inner[1]],
        np.repeat(edge[np.newaxis], height - inner[0], axis=0),
    )
    mask = frame_mask(np.ones(size, np.uint8), 128, square)
    assert (mask[: inner[0], : inner[1]] == 1).all()
    assert (mask[inner[0] :] == 255).all() and (mask[:, inner[1] :] == 255).all()


def test_shares_of_cells():
    mask = np.zeros((64, 64), np.uint8)
    mask[:4] = 1
    mask[60:] = 255
    share = shares(mask, 1, 64, 8)
    assert share.shape == (8, 8, 2)
    np.testing.assert_allclose(share[0, :, 1], 0.5)
    np.testing.assert_allclose(share[0, :, 0], 0.5)
    np.testing.assert_allclose(share[7].sum(-1), 0.5)
    np.testing.assert_allclose(share[1:7, :, 0], 1)


def test_a_large_picture_is_read_in_tiles(monkeypatch):
    image = squares(1, 0)[0][0]
    large = np.asarray(tf.image.resize(image, (200, 328))).round().astype(np.uint8)
    whole = reader()(large, 320)
    monkeypatch.setattr(reading, "TILE", 128)
    monkeypatch.setattr(reading, "MARGIN", 64)
    tiles = Reader(model=reader().model)(large, 320)
    assert tiles.features.shape == whole.features.shape == (28, 40, 784)
    np.testing.assert_array_equal(tiles.inner, whole.inner)
    # Fine stages look no farther than the margin; at the edges of the picture it is
    # what is repeated there.
    inside = slice(4, -4)
    for stage in (2, 3, 4):
        own = reader().places[stage]
        np.testing.assert_allclose(
            tiles.features[inside, inside, own].astype(np.float32),
            whole.features[inside, inside, own].astype(np.float32),
            atol=0.02,
        )


@pytest.mark.parametrize(("count", "folds"), [(2, 2), (5, 5), (8, 8), (9, 5), (60, 5)])
def test_folds(count, folds):
    images, masks = squares(count, 0)
    task = Task.of(images, masks.clip(0, 1), 1, seed=3)
    assert len(task.folds) == folds and len(set(task.judged)) == min(count, 40)
    for fold in task.folds:
        assert not set(fold) & set(task.others(fold))
        assert len(fold) + len(task.others(fold)) == count
    assert task.folds == Task.of(images, masks.clip(0, 1), 1, seed=3).folds


def test_no_picture_that_alone_shows_a_class_is_kept_aside():
    images, masks = squares(3, 0)
    masks = masks.clip(0, 1)
    masks[1][masks[1] == 1] = 2
    task = Task.of(images, masks, 2)
    assert task.folds == ((0,), (2,))
    masks[2] = 0
    assert Task.of(images, masks, 2).folds == ()


def test_a_single_picture_is_not_kept_aside():
    images, masks = squares(1, 0)
    task = Task.of(images, masks.clip(0, 1), 1)
    assert task.folds == task.judged == ()
    assert [family.side for family in usual_families(task)] == [256]


def test_sides_follow_pictures_and_objects():
    def of(longest, object_side):
        mask = np.zeros((longest // 2, longest), np.uint8)
        mask[:object_side, :object_side] = 1
        image = np.zeros((*mask.shape, 3), np.uint8)
        return sides(Task.of([image] * 2, [mask] * 2, 1))

    assert of(100, 20) == (256,)
    assert of(640, 100) == (384, 256, 512)
    assert of(4000, 100) == (384, 768, 1024)
    assert of(4000, 20) == (384, 1024, 2016)


def noisy(seed: int, size=(48, 64)):
    """A blue disc on green, and a blurred guess of where it is."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    truth = (rows - 24) ** 2 + (columns - 30) ** 2 < 12**2
    image = np.where(truth[..., np.newaxis], (60, 80, 200), (60, 160, 60))
    image = image + rng.normal(0, 12, (*size, 3))
    guess = 1 / (1 + np.exp(0.4 * (np.hypot(rows - 26, columns - 33) - 14)))
    return image.clip(0, 255).astype(np.float32), truth, guess


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("classes", [1, 3])
def test_borders_follow_colours(classes):
    image, truth, guess = noisy(0)
    p = np.stack([1 - guess, guess, *[0 * guess] * (classes - 1)], -1)
    found = refine(tf.constant(image), tf.constant(p, tf.float32)).numpy()
    assert found.shape == p.shape and np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert iou(guess > 0.5, truth) < 0.75
    assert iou(found.argmax(-1) == 1, truth) > 0.98


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (700, 2)])
def test_borders_of_pictures_of_any_shape(size):
    image = tf.zeros([*size, 3])
    found = refine(image, tf.fill([*size, 2], 0.5)).numpy()
    assert found.shape == (*size, 2) and np.isfinite(found).all()


def family():
    return LinearFamily(64, (Linear((3, 4)), Linear((6, 7))), reader())


def test_a_linear_family_learns_what_is_shown():
    images, masks = squares(4, 0)
    task = Task.of(images, masks, 2)
    judged, ended = search(task, [family], np.inf, lambda progress: None)
    assert len(judged) == 2 and not ended
    assert judged[0].score > 0.5 and len(judged[0].scores) == 4
    # Each picture was judged by what did not see it.
    own = family().fit(task, {Linear((3, 4)): 1.0})
    seen = own.probabilities(own.tensors, tf.cast(images[0], tf.float32)).numpy()
    assert np.abs(seen - judged[0].probabilities[0]).max() > 0.01
    assert task.score(0, seen) > judged[0].scores[0] - 0.05


def test_the_search_stops_when_time_is_up():
    images, masks = squares(3, 0)
    task, seen = Task.of(images, masks.clip(0, 1), 1), []
    judged, ended = search(task, [family, family], 0.0, seen.append)
    assert ended and len(judged) == 2 and len(seen) == 1

    def interrupted():
        raise KeyboardInterrupt

    judged, ended = search(task, [family, interrupted], np.inf, seen.append)
    assert ended and len(judged) == 2
    with pytest.raises(KeyboardInterrupt):
        search(task, [interrupted], np.inf, seen.append)
    judged, ended = search(task, [lambda: None, family], np.inf, seen.append)
    assert not ended and len(judged) == 2


def judged_task(*guesses):
    """A task of three discs; candidates predict functions of guess and truth."""
    pictures, truths, predictions = zip(*map(noisy, range(3)), strict=True)
    pictures = [p.astype(np.uint8) for p in pictures]
    task = Task.of(pictures, [t.astype(np.uint8) for t in truths], 1)
    result = []
    for name, of in guesses:
        found = [of(g, t) for g, t in zip(predictions, truths, strict=True)]
        p = tuple(np.stack([1 - g, g], -1).astype(np.float16) for g in found)
        scores = tuple(task.score(i, one) for i, one in enumerate(p))
        result.append(Judged(LinearFamily(256, (), None), name, p, scores))
    return task, result


def test_the_choice():
    nothing = [("nothing", lambda g, t: 0 * g)] * 4
    task, judged = judged_task(("good", lambda g, t: g), *nothing)
    choice = choose(task, judged[:1], None)
    assert choice.borders and min(choice.scores) > 0.95
    assert choose(task, judged, None).candidates[0].variant == "good"
    # A threshold that somebody gave is kept, and is where 0.5 comes to lie.
    choice = choose(task, judged[:1], 0.3)
    assert choice.decision == Decision(bias=pytest.approx(np.log(0.7 / 0.3)))


def test_what_always_takes_part_counts_for_half():
    task, (good, bad) = judged_task(("good", lambda g, t: g), ("bad", lambda g, t: t))
    bad.family.always = True
    choice = choose(task, [good, bad], 0.5)
    alone = choose(task, [good], 0.5)
    assert (choice.candidates, choice.beside) == ((good,), (bad,))
    for both, p, b in zip(
        choice.probabilities, alone.probabilities, bad.probabilities, strict=True
    ):
        np.testing.assert_allclose(both, (p + b) / 2, atol=1e-3)
    only = choose(task, [bad], 0.5)
    assert (only.candidates, only.beside, only.borders) == ((), (bad,), False)
    np.testing.assert_array_equal(only.probabilities[0], bad.probabilities[0])


def test_calibration_undoes_what_was_done_to_probabilities():
    rng = np.random.default_rng(0)
    true = rng.uniform(0.02, 0.98, (3, 60, 60))
    truths = (rng.uniform(size=true.shape) < true).astype(np.uint8)
    truths[:, :10] = 255
    odds = np.log(true / (1 - true))
    told = 1 / (1 + np.exp(-(odds + 1) / 0.8))
    found = Decision.learned(list(told), list(truths))
    assert found.slope == pytest.approx(0.8, abs=0.08)
    assert found.bias == pytest.approx(-1, abs=0.12)


def test_each_picture_has_the_threshold_that_promises_most():
    def mask(foreground):
        p = np.array(foreground, np.float32)[np.newaxis]
        return (
            Decision(by_picture=True)(np.stack([1 - p, p], -1)).numpy()[0, :, 1] > 0.5
        )

    assert mask([0.95, 0.9, 0.1, 0.02]).tolist() == [True, True, False, False]
    # Half of a doubtful object is worth more than none.
    assert mask([0.45, 0.44, 0.05, 0.02]).tolist() == [True, True, False, False]
    # Nothing is found where nothing is likely, and what is likely is always found.
    assert not mask([0.2, 0.1, 0.05, 0.02]).any()
    wrong = Decision(1, -5, True)(np.array([[[0.2, 0.8], [0.4, 0.6]]], np.float32))
    assert (wrong.numpy()[0, :, 1] > 0.5).tolist() == [True, False]
    # As all subsets that a threshold can choose say.
    p = np.random.default_rng(1).uniform(0.3, 0.9, 40)
    surest = np.sort(p)[::-1]
    promised = 2 * surest.cumsum() / (np.arange(1, 41) + p.sum())
    assert abs(mask(p).sum() - (promised.argmax() + 1)) <= 2
    p = np.array([[[0.7, 0.3]]], np.float32)
    assert Decision()(p) is p


def test_several_classes_and_points_are_not_calibrated():
    task, judged = judged_task(("good", lambda g, t: g))
    assert choose(task, judged, None).decision.by_picture
    for entry in task.entries:
        entry.mask[np.random.default_rng(0).uniform(size=entry.mask.shape) > 0.01] = 255
    assert task.is_sparse
    assert choose(task, judged, None).decision == Decision()


def test_estimates():
    same, other = estimate([0.8] * 5), estimate([0.95, 0.65, 0.8, 0.9, 0.7])
    assert same.iou == pytest.approx(other.iou)
    assert other.high - other.low > same.high - same.low > 0
    assert 0 <= estimate([0.0, 0.0]).low <= estimate([1.0, 1.0]).high <= 1
    assert str(same).endswith(")") and "%" in str(same)


def test_a_prior_of_equal_directions_is_another_strength(monkeypatch):
    images, masks = squares(2, 0)
    task = Task.of(images, masks.clip(0, 1), 1)
    monkeypatch.setattr(linear, "root", lambda columns: 2 * np.eye(len(columns)))
    found = []
    for kind in (Linear((3, 4), 1.0, prior=True), Linear((3, 4), 4.0)):
        member = LinearFamily(64, (kind,), reader()).fit(task, {kind: 1.0})
        found.append(
            member.probabilities(member.tensors, tf.cast(images[0], tf.float32))
        )
    np.testing.assert_allclose(*found, atol=0.02)


def test_a_prior_knows_the_directions_of_other_classifiers():
    random = np.random.default_rng(0)
    common = np.zeros([50, 20])
    common[:, :3] = random.normal(size=[50, 3])
    other = np.zeros([4, 20])
    other[:, 3] = 100
    basis = prior.learn([common, other]).astype(np.float32)
    learned = basis @ basis.T
    assert np.trace(learned) == pytest.approx(20, rel=0.02)
    # A dataset counts as one, whatever its number of classes and the size of weights.
    assert learned[3, 3] == pytest.approx(10, rel=0.02)
    assert np.abs(learned[4:]).max() < 1e-3


def test_the_shipped_prior_is_of_what_the_reader_gives():
    with np.load(prior.FILE) as file:
        basis = file["basis"].astype(np.float32)
    assert len(basis) == reader().channels
    assert np.sum(basis**2) == pytest.approx(len(basis), rel=0.02)
    columns = tuple(range(60, 100))
    root, own = prior.root(columns), basis[60:100]
    sigma = 0.7 * own @ own.T + 0.3 * np.eye(40)
    np.testing.assert_allclose(root @ root.T, sigma, atol=1e-3)
