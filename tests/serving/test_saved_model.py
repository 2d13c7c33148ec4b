"""The exported model against the one in memory, and what it refuses."""

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.checkpoint.run import build_inner_loop
from efficientlab_tf.config import ExportConfig, LearnerConfig, Settings
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.serving.saved_model import ServedModel
from tests.models.tiny import tiny_network
from tests.serving.conftest import SIZE, photos, task

LARGEST_DIFFERENCE = 1e-4

ALONE = """
import sys
sys.modules["efficientlab_tf"] = sys.modules["keras"] = None  # import fails
import numpy as np
import tensorflow as tf

folder, requests, answers = sys.argv[1:]
try:
    import efficientlab_tf
    sys.exit("efficientlab_tf can be imported")
except ImportError:
    pass
model = tf.saved_model.load(folder)
found = {}
for key, value in np.load(requests, allow_pickle=True).items():
    signature, name = key.split("/")
    found.setdefault(signature, {})[name] = value
outputs = {}
for signature, inputs in found.items():
    answer = model.signatures[signature](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    for name, value in answer.items():
        outputs[f"{signature}/{name}"] = value.numpy()
np.savez(answers, **outputs)
"""


def encoded(picture: np.ndarray, format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format)
    return file.getvalue()


def fitted(images: np.ndarray) -> tf.Tensor:
    return tf.image.resize(images, [SIZE, SIZE], method="bilinear", antialias=True)


def fitted_masks(masks: np.ndarray) -> tf.Tensor:
    return tf.image.resize(masks[..., None], [SIZE, SIZE], method="nearest")[..., 0]


def initial_probability(exported, images: np.ndarray) -> np.ndarray:
    """What the initialization says, in memory: [n, H, W, 2] at the images' size."""
    segmenter = exported.segmenter
    probability = segmenter.functions.predict(
        segmenter.weights, fitted(images.astype(np.float32)), False
    )
    return tf.image.resize(probability, images.shape[1:3], antialias=True).numpy()


def adapted_probability(segmenter, request) -> np.ndarray:
    """The same after adaptation."""
    adapted = segmenter.adapt(
        fitted(request["support_images"]), fitted_masks(request["support_masks"])
    )
    probability = adapted.predict(fitted(request["query_images"]))
    size = request["query_images"].shape[1:3]
    return tf.image.resize(probability, size, antialias=True).numpy()


def assert_same(name, probability, masks, expected):
    assert probability.shape == expected.shape and probability.dtype == np.float32
    np.testing.assert_allclose(
        probability, expected, rtol=0, atol=LARGEST_DIFFERENCE, err_msg=name
    )
    np.testing.assert_allclose(probability.sum(-1), 1, atol=1e-5)
    assert masks.dtype == np.uint8
    # Where the decision is not a matter of rounding.
    sure = np.abs(expected[..., 1] - 0.5) > LARGEST_DIFFERENCE
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(masks[sure], expected.argmax(-1)[sure])


@pytest.fixture(scope="module")
def requests():
    adaptation = task(1, size=(45, 60)) | {"query_images": task(2)["query_images"]}
    files = [
        encoded(photos(1, 40, 30)[0], "PNG"),
        encoded(photos(1, 21, 64)[0], "JPEG"),
    ]
    return {
        "serving_default": {"images": photos(3, 50, 70).astype(np.float32)},
        "serve_encoded": {"image_bytes": np.array(files, object)},
        "adapt_and_segment": {
            **adaptation,
            "learning_rate": np.float32(0),
            "steps": np.int32(0),
        },
    }


@pytest.fixture(scope="module")
def answers(exported, requests, tmp_path_factory):
    """What the model says in a process that cannot import this package or Keras."""
    folder = tmp_path_factory.mktemp("alone")
    arrays = {
        f"{signature}/{name}": value
        for signature, inputs in requests.items()
        for name, value in inputs.items()
    }
    np.savez(folder / "requests.npz", **arrays)
    process = subprocess.run(
        [
            *(sys.executable, "-c", ALONE, str(exported.folder)),
            *(str(folder / "requests.npz"), str(folder / "answers.npz")),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    with np.load(folder / "answers.npz", allow_pickle=True) as loaded:
        return dict(loaded)


def test_serving_default_alone(exported, requests, answers):
    assert_same(
        "serving_default",
        answers["serving_default/probability"],
        answers["serving_default/mask"],
        initial_probability(exported, requests["serving_default"]["images"]),
    )


def test_serve_encoded_alone(exported, requests, answers):
    files = requests["serve_encoded"]["image_bytes"]
    for i, data in enumerate(files):
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        if data.startswith(b"\xff\xd8"):
            # Pillow's decoder is another; what matters here is what comes after it.
            picture = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy()
        expected = initial_probability(exported, picture[None])[0]
        assert tuple(answers["serve_encoded/size"][i]) == picture.shape[:2]
        levels = Image.open(io.BytesIO(answers["serve_encoded/probability_bytes"][i]))
        foreground = np.asarray(levels, np.float32) / 65535
        mask = Image.open(io.BytesIO(answers["serve_encoded/mask_bytes"][i]))
        assert mask.mode == "L"
        both = np.stack([1 - foreground, foreground], -1)
        assert_same("serve_encoded", both, np.asarray(mask), expected)


def test_adapt_and_segment_alone(exported, requests, answers):
    request = requests["adapt_and_segment"]
    expected = adapted_probability(exported.segmenter, request)
    assert_same(
        "adapt_and_segment",
        answers["adapt_and_segment/probability"],
        answers["adapt_and_segment/masks"],
        expected,
    )
    # And adaptation is what made it so.
    unadapted = initial_probability(exported, request["query_images"])
    assert np.abs(expected - unadapted).max() > 0.01


@pytest.fixture(scope="module")
def served(signatures):
    def ask(signature: str, **inputs) -> dict[str, np.ndarray]:
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        if signature == "adapt_and_segment":
            tensors = {
                "learning_rate": tf.constant(0.0),
                "steps": tf.constant(0),
            } | tensors
        answer = signatures[signature](**tensors)
        return {name: value.numpy() for name, value in answer.items()}

    return ask


def test_learning_rate_and_steps_of_the_request(exported, served):
    request = task(3)
    segmenter = exported.segmenter
    other = segmenter.functions.segmenter(
        segmenter.weights, learning_rate=0.02, steps=5, batch_norm="support"
    )
    answer = served("adapt_and_segment", **request, learning_rate=0.02, steps=5)
    expected = adapted_probability(other, request)
    assert_same("chosen", answer["probability"], answer["masks"], expected)
    own = adapted_probability(segmenter, request)
    assert np.abs(own - expected).max() > 0.01
    for value in 0, -1:
        answer = served(
            "adapt_and_segment", **request, learning_rate=float(value), steps=value
        )
        assert_same("own", answer["probability"], answer["masks"], own)


def test_nothing_of_a_request_is_kept(served, signatures):
    variables = signatures["adapt_and_segment"].variables
    before = [variable.numpy() for variable in variables]
    assert len(before) > 10
    first = served("adapt_and_segment", **task(4))
    served("adapt_and_segment", **task(5), learning_rate=0.5, steps=9)
    served("serving_default", images=task(6)["query_images"])
    again = served("adapt_and_segment", **task(4))
    np.testing.assert_array_equal(first["probability"], again["probability"])
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_concurrent_tasks_get_what_they_get_alone(served):
    tasks = [task(seed, shots=1 + seed % 3) for seed in range(8)]
    alone = [served("adapt_and_segment", **t)["probability"] for t in tasks]
    assert np.abs(alone[0] - alone[3]).max() > 0.01
    together = [None] * len(tasks)

    def work(first: int) -> None:
        for i in range(first, len(tasks), 4):
            together[i] = served("adapt_and_segment", **tasks[i])["probability"]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


def bad_adaptations():
    good = task(7)
    images, masks = good["support_images"], good["support_masks"]
    queries = good["query_images"]
    too_many = np.zeros([33, 4, 4, 3], np.float32)
    small = masks.copy()
    small[:] = 0
    small[0, 0, 1] = 1
    large = {
        "support_images": np.zeros([3, 500, 500, 3], np.float32),
        "support_masks": np.pad(small, ((0, 0), (0, 468), (0, 468))),
    }
    return {
        "empty support": (
            {"support_images": images[:0], "support_masks": masks[:0]},
            "support_images: expected 1 to 32 images",
        ),
        "all unknown": ({"support_masks": masks * 0 + 255}, "every pixel is 255"),
        "no object": ({"support_masks": masks * 0}, "no pixel is labelled as object"),
        "object is 255": (
            {"support_masks": np.where(masks == 1, 255, 0).astype(np.uint8)},
            "no pixel is labelled as object",
        ),
        "label above K": ({"support_masks": masks + (masks == 1)}, "expected labels 0"),
        "fewer masks": ({"support_masks": masks[:2]}, "one mask an image"),
        "smaller masks": ({"support_masks": masks[:, :, :-1]}, "one mask an image"),
        "object vanishes": (large, "nothing of the object is left"),
        "no queries": ({"query_images": queries[:0]}, "query_images: expected 1 to 32"),
        "many queries": ({"query_images": too_many}, "expected 1 to 32 images"),
        "steps above the cap": ({"steps": 501}, "steps: expected 0"),
        "negative steps": ({"steps": -2}, "steps: expected 0"),
        "negative rate": ({"learning_rate": -0.5}, "learning_rate: expected 0"),
        "NaN rate": ({"learning_rate": np.nan}, "learning_rate: expected 0"),
        "infinite rate": ({"learning_rate": np.inf}, "learning_rate: expected 0"),
        "divergence": ({"learning_rate": 1e30}, "the adaptation diverged"),
        "NaN image": ({"query_images": queries * np.nan}, "numbers from 0 to 255"),
    }


BAD_IMAGES = {
    "none": (np.zeros([0, 8, 8, 3]), "expected 1 to 32 images"),
    "too many": (np.zeros([33, 8, 8, 3]), "expected 1 to 32 images"),
    "empty": (np.zeros([1, 0, 8, 3]), "sides of 1 to 4096"),
    "too wide": (np.zeros([1, 1, 4097, 3]), "sides of 1 to 4096"),
    "negative": (np.full([1, 8, 8, 3], -1.0), "numbers from 0 to 255"),
    "too bright": (np.full([1, 8, 8, 3], 256.0), "numbers from 0 to 255"),
}


@pytest.mark.parametrize("case", bad_adaptations())
def test_bad_adaptations_are_refused_and_the_model_lives(served, case):
    changed, message = bad_adaptations()[case]
    good = task(7)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        served("adapt_and_segment", **(good | changed))
    assert served("adapt_and_segment", **good)["masks"].shape == (2, SIZE, SIZE)


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_refused_and_the_model_lives(served, case):
    images, message = BAD_IMAGES[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        served("serving_default", images=images.astype(np.float32))
    good = np.zeros([1, 8, 8, 3], np.float32)
    assert served("serving_default", images=good)["mask"].shape == (1, 8, 8)


def test_a_bad_file_is_refused_by_its_number(served):
    good = encoded(photos(1, 8, 9)[0], "PNG")
    # The header says 30,000 x 30,000: 2.7 GB if it were decoded.
    huge = good[:16] + (30_000).to_bytes(4, "big") * 2 + good[24:]
    jpeg = encoded(photos(1, 8, 9)[0], "JPEG")
    sides = jpeg.index(b"\xff\xc0") + 5
    huge_jpeg = jpeg[:sides] + (30_000).to_bytes(2, "big") * 2 + jpeg[sides + 4 :]
    for files, message in (
        ([], "image_bytes: expected 1 to 32 images"),
        ([good] * 33, "image_bytes: expected 1 to 32 images"),
        ([good, huge], r"image_bytes\[1\].*at most 4096"),
        ([good, huge_jpeg], r"image_bytes\[1\].*at most 4096"),
        ([b"nonsense"], r"image_bytes\[0\].*JPEG or PNG"),
        ([good[:40]], "Invalid PNG"),
        ([jpeg[:40]], "Invalid JPEG"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            served("serve_encoded", image_bytes=np.array(files, object))
    answer = served("serve_encoded", image_bytes=np.array([good], object))
    assert answer["size"].tolist() == [[8, 9]]


def test_learned_rates_several_classes_and_running_averages():
    network = Network(tiny_network(SIZE, num_classes=2))
    weights = network.weights()
    rates = tuple(
        tf.random.stateless_uniform([2, *(1,) * t.shape.rank], [i, 0], 0.01, 0.1)
        for i, t in enumerate(weights.theta)
    )
    weights = weights._replace(rates=rates)
    inner = build_inner_loop(LearnerConfig(augment_rate=0.0), network)
    model = ServedModel(*(inner, weights, Settings(4, 0.01, "running")), ExportConfig())
    adapt = model.signatures()["adapt_and_segment"]
    request = task(8)
    request["support_masks"][:, 20:28, 10:20] = 2
    tensors = {name: tf.constant(value) for name, value in request.items()}
    answer = adapt(**tensors, learning_rate=tf.constant(0.0), steps=tf.constant(0))
    segmenter = AdaptFunctions(inner).segmenter(
        weights, learning_rate=0.01, steps=4, batch_norm="running"
    )
    expected = adapted_probability(segmenter, request)
    assert expected.shape[-1] == 3 and len(np.unique(expected.argmax(-1))) > 1
    np.testing.assert_allclose(
        answer["probability"], expected, rtol=0, atol=LARGEST_DIFFERENCE
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="learned its rates"):
        adapt(**tensors, learning_rate=tf.constant(0.1), steps=tf.constant(0))
