"""The door: what every method does with pictures of any size, from Python."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import efficientlab_tf as el
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.baselines import BASELINES
from efficientlab_tf.segmenters.network import Network
from tests.models.test_heads import SIZE, squares
from tests.models.tiny import tiny_network

SIZES = [(40, 64), (32, 32), (90, 50), (33, 47)]
NARROW = {"image_size": SIZE, "width": 1 / 16, "backbone": "VGG16", "dilated": True}
LEARNER = LearnerConfig(
    inner_learning_rate=0.1, inner_steps=2, inner_batch=0, augment_rate=0.0
)
NETWORKS = {
    "gradient": lambda: tiny_network(SIZE),
    "guided": lambda: build_model("guided", **NARROW, channels=16),
    "guided_early": lambda: build_model(
        "guided", **NARROW, channels=16, fusion="early"
    ),
    "oslsm": lambda: build_model("oslsm", **NARROW),
    "siamese": lambda: build_model("siamese", **NARROW),
}
METHODS = [*NETWORKS, *BASELINES, "linear", "meta_learned"]
SEARCHES = ("linear", "meta_learned")
SAVED = {*NETWORKS, "logistic_regression", *SEARCHES}
EXPORTED = SAVED
pytestmark = pytest.mark.usefixtures("quick_search")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Name of a method to its model, each loaded once."""
    folder, loaded = tmp_path_factory.mktemp("models"), {}

    def model(name: str) -> el.Model:
        if name in loaded:
            return loaded[name]
        if name in SEARCHES:
            loaded[name] = model = el.load(name)
            # A search of a second instead of half a minute.
            model.adapt = functools.partial(model.adapt, budget=1.0)
            return model
        if name in BASELINES:
            loaded[name] = el.load(name, image_size=64)
            return loaded[name]
        keras.utils.set_random_seed(3)
        network, path = Network(NETWORKS[name]()), folder / f"{name}.keras"
        run = RunConfig(model=ModelConfig(image_size=SIZE), learner=LEARNER)
        save_keras(path, network, network.weights(), run)
        loaded[name] = el.load(path)
        return loaded[name]

    return model


def labelled(count: int = 4, classes: int = 1):
    """Pictures of different sizes with squares on them, and their masks."""
    images, masks = squares(count, 1)
    how = Image.Resampling.NEAREST
    sizes = [size[::-1] for size in SIZES[:count]]
    masks = [
        np.asarray(Image.fromarray(np.minimum(mask, classes)).resize(size, how))
        for mask, size in zip(masks, sizes, strict=True)
    ]
    if classes == 3:
        masks = [_with_corner(mask, 3) for mask in masks]
    return [
        np.asarray(Image.fromarray(image).resize(size, how))
        for image, size in zip(images, sizes, strict=True)
    ], masks


def _with_corner(mask: np.ndarray, label: int) -> np.ndarray:
    mask = mask.copy()
    mask[-12:, -12:] = label
    return mask


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_pictures_of_any_size_go_in_and_masks_of_theirs_come_out(models, name, classes):
    images, masks = labelled(classes=classes)
    adapted = models(name).adapt(images, masks)
    assert len(adapted.classes) == classes
    found = adapted.predict(images)
    probabilities = adapted.probabilities(images)
    for image, mask, p in zip(images, found, probabilities, strict=True):
        assert mask.shape == image.shape[:2] and mask.dtype == np.uint8
        assert p.shape == (*mask.shape, classes + 1) and p.dtype == np.float32
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-4)
        assert mask.max() <= classes
        expected = p[..., 1] > 0.5 if classes == 1 else p.argmax(-1)
        np.testing.assert_array_equal(mask, expected)
    assert len(adapted.losses) == (2 if name == "gradient" else 0)
    # The number and order of pictures changes nothing.
    (last,) = adapted.predict(images[-1:])
    assert np.mean(last == found[-1]) > 0.999


@pytest.mark.parametrize("name", METHODS)
def test_a_few_points_are_enough(models, name):
    images, masks = labelled(2)
    sparse = []
    for mask in masks:
        points = np.full_like(mask, 255)
        for label in (0, 1):
            rows, columns = np.nonzero(mask == label)
            middle = len(rows) // 2
            points[rows[middle], columns[middle]] = label
        sparse.append(points)
    found = models(name).adapt(images, sparse).predict(images)
    assert [mask.shape for mask in found] == [image.shape[:2] for image in images]


@pytest.mark.parametrize(
    ("name", "classes"),
    # What a search found for one class is saved in the tests of `automatic`.
    [(n, c) for n in METHODS for c in (1, 3) if c > 1 or n not in SEARCHES],
)
def test_what_is_saved_segments_without_labelled_pictures(
    models, name, classes, tmp_path
):
    images, masks = labelled(classes=classes)
    adapted = models(name).adapt(images, masks)
    path = tmp_path / "deep" / "mine.keras"
    if name not in SAVED:
        with pytest.raises(UserError, match=f"{name} keeps the labelled pictures"):
            adapted.save(path)
        with pytest.raises(UserError, match="before it has adapted: call adapt"):
            models(name).predict(images)
        return
    adapted.save(path)
    loaded = el.load(path)
    for a, b in zip(
        adapted.probabilities(images), loaded.probabilities(images), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # And it goes on from there.
    options = {"budget": 1.0} if name in SEARCHES else {}
    again = loaded.adapt(*labelled(2), **options)
    assert len(again.classes) == 1 and len(again.predict(images)) == 4


@pytest.mark.parametrize("name", METHODS)
def test_what_is_exported_answers_like_the_adapted_model(models, name, tmp_path):
    images, masks = labelled(2, classes=1)
    adapted = models(name).adapt(images, masks)
    if name not in EXPORTED:
        with pytest.raises(UserError, match="cannot be exported"):
            adapted.export(tmp_path / "1")
        return
    adapted.export(tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    for image, p in zip(images, adapted.probabilities(images), strict=True):
        answer = served(images=tf.constant(image[np.newaxis], tf.float32))
        # The server resizes in its own way.
        assert np.abs(answer["probability"][0] - p).mean() < 0.02


def test_an_initialization_segments_as_it_is(models):
    images, masks = labelled()
    model = models("gradient")
    same = model.adapt(images, masks, steps=0, batch_norm="running")
    for a, b in zip(
        model.probabilities(images), same.probabilities(images), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_arrays_pictures_and_files_are_the_same(models, tmp_path):
    images, masks = labelled(2)
    files = [[], []]
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for kind, values in enumerate((image, mask)):
            path = tmp_path / f"{i}_{kind}.png"
            Image.fromarray(values).save(path)
            files[kind].append(path)
    model = models("gradient")
    expected = model.adapt(images, masks).predict(images)
    pictures = [[Image.fromarray(v) for v in values] for values in (images, masks)]
    for support, labels in (pictures, files, [[str(f) for f in fs] for fs in files]):
        for a, b in zip(
            model.adapt(support, labels).predict(support), expected, strict=True
        ):
            np.testing.assert_array_equal(a, b)
    gray = images[0][..., 0]
    assert model.adapt([gray], masks[:1]).predict([gray])[0].shape == gray.shape


def test_steps_are_watched_and_found(models):
    images, masks = labelled()
    model, seen = models("gradient"), []
    adapted = model.adapt(
        *(images, masks), steps=3, learning_rate=0.02, seed=5, on_step=seen.append
    )
    assert [step.step for step in seen] == [0, 1, 2, 3] and adapted.steps == (*seen,)
    assert adapted.settings.learning_rate == 0.02
    quiet = model.adapt(images, masks, steps=3, learning_rate=0.02, seed=5)
    np.testing.assert_allclose(quiet.losses, adapted.losses, rtol=1e-4)
    found = model.adapt(images, masks, steps="auto")
    assert found.search.steps == found.settings.steps == len(found.losses)
    named = model.adapt(images, masks, classes=["thing"])
    assert named.classes == ("thing",)


ONE = labelled(1)
BAD = [
    (([], []), {}, "`images`: expected at least one, received none"),
    ((ONE[0], []), {}, "`masks`: expected at least one"),
    ((ONE[0][0], ONE[1] * 40), {}, r"images\[0\]: expected .* a list of pictures"),
    (("a.png", ONE[1]), {}, "`images`: expected a list, received one"),
    ((["nowhere.png"], ONE[1]), {}, r"images\[0\]: nowhere.png: No such file"),
    ((ONE[0] * 2, ONE[1]), {}, "one for each of the 2 images, received 1"),
    ((ONE[0], [ONE[1][0][:9]]), {}, r"masks\[0\]: expected the size of its image"),
    ((ONE[0], [ONE[1][0] / 2]), {}, "expected whole numbers .*, received float64"),
    (
        (ONE[0], [ONE[1][0] * np.int64(1000)]),
        {},
        "expected 0 to 255, received 0 to 1000",
    ),
    ((ONE[0], [ONE[1][0] * 0]), {}, "at least one pixel of a class"),
    ((ONE[0], [ONE[1][0] * 255]), {}, "in a mask of 0 and 255 divide by 255"),
    ((ONE[0], [ONE[1][0] * 2]), {}, "each class from 1 to 2, received none of 1"),
    (ONE, {"classes": 2}, "each class from 1 to 2, received none of 2"),
    (ONE, {"classes": "cat"}, "`classes`: expected several names"),
    (ONE, {"steps": "many"}, "`steps` must be a number or 'auto', received 'many'"),
    (ONE, {"steps": -1}, "`steps` must be at least 0, received -1"),
    (ONE, {"learning_rate": 0.0}, "`learning_rate` must be above 0, received 0.0"),
    (
        ONE,
        {"learning_rate": float("nan")},
        "`learning_rate` must be a number, .* nan",
    ),
    (ONE, {"batch_norm": "query"}, "`batch_norm` must be running or support"),
    (ONE, {"batch_norm": "other"}, "`batch_norm` must be one of running, support"),
    (ONE, {"threshold": 1.0}, "`threshold` must be below 1, received 1.0"),
]


@pytest.mark.parametrize(("support", "options", "message"), BAD)
def test_bad_input_names_the_argument(models, support, options, message):
    with pytest.raises(UserError, match=message) as caught:
        models("gradient").adapt(*support, **options)
    assert "--" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["guided", "logistic_regression", "linear"])
def test_options_that_have_no_effect_are_refused(models, name):
    for options in ({"steps": 3}, {"learning_rate": 0.1}, {"steps": "auto"}):
        with pytest.raises(UserError, match="has no effect: .*; leave it out"):
            models(name).adapt(*ONE, **options)


def test_an_object_that_vanishes_is_said(models):
    image = np.zeros((600, 600, 3), np.uint8)
    mask = np.zeros((600, 600), np.uint8)
    mask[300, 303] = 1
    with pytest.raises(UserError, match="nothing is left of class object; label more"):
        models("gradient").adapt([image], [mask])


def test_what_is_no_model(tmp_path):
    with pytest.raises(UserError, match="no model 'icons'; expected a run's folder"):
        el.load("icons")
    with pytest.raises(UserError, match="no such run folder or .keras file"):
        el.load("runs/nowhere")
    keras.utils.set_random_seed(0)
    tiny_network(SIZE).save(tmp_path / "foreign.keras")
    with pytest.raises(UserError, match="without this package's settings"):
        el.load(tmp_path / "foreign.keras")
    with pytest.raises(UserError, match="all_foreground sees no features"):
        el.load("all_foreground", features="runs/x")


def test_shipped_models_are_loaded_by_name():
    assert set(el.shipped()) >= {"icons_fomaml_lite0", "photos_closed_form_lite0"}
    model = el.load("icons_fomaml_lite0")
    assert model.size == (96, 96) and model.defaults.steps == 5
    assert model.defaults.batch_norm == "support"
    assert el.load().name == "meta_learned"


def test_the_package_alone_imports_no_tensorflow():
    code = (
        "import sys, time; start = time.perf_counter(); import efficientlab_tf as el; "
        "el.shipped(); el.shipped(); assert 'tensorflow' not in sys.modules; "
        "assert 'numpy' not in sys.modules; el.load; assert callable(el.shipped)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
