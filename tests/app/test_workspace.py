"""What the page knows of one user's pictures: masks, corrections, what to mark next."""

from pathlib import Path

import numpy as np
import pytest

from efficientlab_tf.api.baselines import LINEAR
from efficientlab_tf.app.annotations import (
    BACKGROUND,
    FOREGROUND,
)
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.downloads import write_masks
from efficientlab_tf.app.methods import load_methods, warm_up
from efficientlab_tf.app.picture import SHOWN_SIDE, THUMBNAIL_SIDE
from efficientlab_tf.app.view import Session, view
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.checkpoint.run import build_functions
from efficientlab_tf.config import OWN
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.pictures import decide
from efficientlab_tf.segmenters.baselines import FeatureExtractor, LogisticRegression
from efficientlab_tf.segmenters.forward import ForwardFunctions
from tests.app.untrained import (
    EARLY,
    GUIDED,
    LINEAR_SIZE,
    POINTS,
    SIZE,
    SIZES,
    STEPPED,
    STEPS,
    encoded,
    fitted,
    mark_all,
    picture,
)
from tests.automatic.test_automatic import discs
from tests.loading import load_model


def support(points=POINTS, side: int = SIZE) -> np.ndarray:
    """The points as masks of a model's size, by whole numbers."""
    masks = np.full([len(SIZES), side, side], IGNORE, np.uint8)
    for index, row, column, label in points:
        height, width = SIZES[index]
        # floor((row + 1/2) * side / height)
        place = (2 * row + 1) * side // (2 * height)
        masks[index, place, (2 * column + 1) * side // (2 * width)] = label
    return masks


def expected(path: str, forward: bool) -> np.ndarray:
    """Probabilities by the package's other way, without the page."""
    if path == LINEAR:
        segmenter = LogisticRegression(FeatureExtractor())
        images = fitted(LINEAR_SIZE)
        return segmenter.adapt(images, support(side=LINEAR_SIZE)).predict(images)
    network, weights, run = load_model(path)
    images, masks = fitted(), support()
    if forward:
        adapted = ForwardFunctions(network).segmenter(weights).adapt(images, masks)
        return adapted.predict(images)
    functions = build_functions(run.learner, network)
    segmenter = functions.segmenter(
        weights, learning_rate=0.1, steps=STEPS, batch_norm="support"
    )
    return segmenter.adapt(images[:2], masks[:2]).predict(images)


@pytest.mark.parametrize("name", [GUIDED, EARLY, STEPPED, LINEAR])
def test_masks_are_those_of_the_package(workspace, paths, name):
    mark_all(workspace)
    seen = []
    workspace.adapt(name, on_step=lambda *step: seen.append(step))
    path = next(path for path in [*paths, LINEAR] if Path(path).stem == name)
    probabilities = expected(path, forward=name != STEPPED)
    for i, (size, probability) in enumerate(zip(SIZES, probabilities, strict=True)):
        own = workspace.pictures[i].probability
        np.testing.assert_allclose(own, probability, atol=1e-5)
        mask = workspace.mask(i)
        assert mask.shape == size and mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, decide(own, size, 0.5))
    steps = [(i, STEPS) for i in range(1, STEPS + 1)]
    assert seen == (steps if name == STEPPED else [])
    assert workspace.methods[name].live == (name in (GUIDED, LINEAR))


def test_a_classifier_needs_both_sides(workspace):
    workspace.mark(0, 4, 5, FOREGROUND)
    with pytest.raises(UserError, match="only the object is marked; click on what is"):
        workspace.adapt(LINEAR)
    workspace.mark(1, 4, 5, BACKGROUND)
    workspace.adapt(LINEAR)
    # What was clicked on is what it was called.
    assert workspace.mask(0)[4, 5] == 1 and workspace.mask(1)[4, 5] == 0


def test_corrections_are_as_if_marked_at_once(workspace, methods, folder):
    workspace.mark(0, 4, 5, FOREGROUND)
    workspace.adapt(GUIDED)
    first = workspace.pictures[2].probability
    for point in POINTS[1:]:
        mark_all(workspace, [point])
        assert workspace.stale
        workspace.adapt(GUIDED)
    assert not workspace.stale
    with Workspace(methods, AppConfig(), folder) as other:
        # Pictures that come behind the adaptation get masks as well.
        for i in (0, 1):
            other.add(f"{i}.png", encoded(picture(SIZES[i], i)))
        mark_all(other)
        other.adapt(GUIDED)
        other.add("2.png", encoded(picture(SIZES[2], 2)))
        for i in range(3):
            np.testing.assert_allclose(
                workspace.pictures[i].probability,
                other.pictures[i].probability,
                atol=1e-6,
            )
    assert np.abs(workspace.pictures[2].probability - first).max() > 1e-4


def test_users_are_apart(workspace, methods, folder):
    mark_all(workspace)
    workspace.adapt(GUIDED)
    before = [workspace.mask(i) for i in range(3)], workspace.shown(0)
    archive = write_masks(workspace)
    other = Workspace(methods, AppConfig(), folder)
    assert not other.pictures
    other.add("mine.png", encoded(picture((50, 50), 9)))
    other.mark(0, 25, 25, FOREGROUND)
    other.adapt(GUIDED)
    assert write_masks(other) != archive
    assert len(list(folder.iterdir())) == 2
    other.close()
    other.close()
    assert len(list(folder.iterdir())) == 1 and archive.is_file()
    for i, mask in enumerate(before[0]):
        np.testing.assert_array_equal(workspace.mask(i), mask)
    np.testing.assert_array_equal(workspace.shown(0), before[1])
    workspace.close()
    assert not list(folder.iterdir()) and not workspace.pictures


def test_pictures_to_mark_next_follow_the_marked_ones(workspace):
    assert workspace.order() == [0, 1, 2]
    workspace.mark(2, *POINTS[0][1:])
    session = Session(workspace)
    view(session)
    assert session.order == [2, 0, 1]
    workspace.adapt(GUIDED)
    sure = [picture.confidence for picture in workspace.pictures]
    for one, value in zip(workspace.pictures, (0.9, 0.4, 0.1), strict=True):
        assert 0 <= one.confidence <= 1
        one.confidence = value
    assert len(set(sure)) == 3
    _, thumbnails, status = view(session)
    assert session.order == [2, 1, 0]
    captions = [caption for _, caption in thumbnails]
    assert captions == ["1 mark: 2.png", "sure 40 %: 1.png", "sure 90 %: 0.png"]
    assert "Background points help" in status
    workspace.mark(2, 6, 10, BACKGROUND)
    assert "Press *Adapt*" in view(session)[2]
    session.index = 2
    for expected in (1, 0, 2):
        session.step_on(1)
        assert session.index == expected
    session.step_on(-1)
    assert session.index == 0
    Session(workspace).step_on(1)


@pytest.mark.usefixtures("quick_search")
def test_linear_says_what_to_expect(folder):
    methods = load_methods(["linear"], OWN)
    with Workspace(methods, AppConfig(), folder) as workspace:
        for number, (image, mask) in enumerate(zip(*discs(4), strict=True)):
            labelled = encoded(mask * 255) if number < 3 else None
            workspace.add(f"{number}.png", encoded(image), labelled)
        session = Session(workspace)
        workspace.adapt("linear")
        assert 0 < workspace.estimate.low < workspace.estimate.iou < 1
        _, _, status = view(session)
        assert f"Expected IoU on new pictures: {workspace.estimate}. " in status
        workspace.clear()
        assert workspace.estimate is None


def test_pictures_show_masks_and_marks(workspace):
    plain = workspace.shown(0)
    assert plain.shape == (480, SHOWN_SIDE, 3)
    assert workspace.shown(0, THUMBNAIL_SIDE).shape == (133, THUMBNAIL_SIDE, 3)
    workspace.mark(0, 20, 30, FOREGROUND)
    dotted = workspace.shown(0)
    rows, columns = np.nonzero((dotted != plain).any(-1))
    assert abs(rows.mean() - 20.5 * 480 / 40) < 1.5
    assert abs(columns.mean() - 30.5 * SHOWN_SIDE / 60) < 1.5
    np.testing.assert_array_equal(workspace.shown(0, marks=False), plain)
    workspace.adapt(GUIDED)
    inside = decide(workspace.pictures[0].probability, plain.shape[:2], 0.5) == 1
    assert 0 < inside.sum() < inside.size
    shown = workspace.shown(0, marks=False)
    assert (shown[inside] != plain[inside]).any(-1).mean() > 0.95
    np.testing.assert_array_equal(shown[~inside], plain[~inside])


def test_nothing_is_compiled_again(methods):
    for method in methods.values():
        warm_up(method)
    functions = methods[GUIDED]._segmenter.functions
    counts = [
        f.experimental_get_tracing_count()
        for f in (functions.read, functions.guide, functions.logits)
    ]
    for count in (3, 5):
        images = np.zeros([count, SIZE, SIZE, 3], np.uint8)
        pictures = methods[GUIDED].read(images)
        masks = np.ones([count, SIZE, SIZE], np.uint8)
        adapted, _ = methods[GUIDED].adapt(pictures, masks, 1, 0, lambda *_: None)
        methods[GUIDED].predict(adapted, pictures)
    assert counts == [
        f.experimental_get_tracing_count()
        for f in (functions.read, functions.guide, functions.logits)
    ]
