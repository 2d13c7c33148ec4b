"""`adapt`: from support sets of every kind and size to an adapted model."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientlab_tf.adapt import AdaptConfig, adapt
from efficientlab_tf.api import model as model_module
from efficientlab_tf.api.loading import load
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import OWN, LearnerConfig, ModelConfig, Settings
from efficientlab_tf.data.annotations import read_support
from efficientlab_tf.errors import UserError
from efficientlab_tf.pictures import decide
from efficientlab_tf.segmenters import gradient
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.segmenters.segmenter import spread
from tests.adapt.labelled_squares import coco, found, pairs, summary
from tests.data.annotations.making import write
from tests.loading import load_model
from tests.models.test_heads import SIZE, squares


@pytest.mark.learned
def test_two_classes_with_steps_of_their_own(paths, tmp_path, capsys):
    write(tmp_path / "coco", coco(6, 3))
    write(tmp_path / "two/images", {"a.png": squares(1, 4)[0][0]})
    write(tmp_path / "two/masks", {"a.png": squares(1, 4)[1][0]})
    paths |= {
        "support": str(tmp_path / "coco"),
        "query": str(tmp_path / "two"),
        "save": str(tmp_path / "two.keras"),
    }
    assert adapt(AdaptConfig(**paths, steps="auto")) == 0
    out = capsys.readouterr().out
    assert "its head was copied to 2" in out
    assert out.count("held-out IoU") == len(summary(paths)["early_stopping"]["trail"])
    document = summary(paths)
    assert document["classes"] == ["red", "blue"]
    search = document["early_stopping"]
    assert len(search["held_out"]) == 1
    trail = [step["iou"] for step in search["trail"]]
    assert trail.index(max(trail[1:]), 1) == search["steps"]
    assert len(trail) == search["steps"] + 4 or len(trail) == 201
    assert len(document["steps"]) == search["steps"] + 1
    assert document["scores"]["class_iou"].keys() == {"red", "blue"}
    assert document["scores"]["mean_iou"] > 0.5
    network, _, run = load_model(str(tmp_path / "two.keras"))
    assert network.classes == 2 == run.model.num_classes

    # One of the two, as the network is adapted further; the other is background.
    paths |= {"model": paths.pop("save"), "output": str(tmp_path / "one")}
    assert adapt(AdaptConfig(**paths, classes="blue", steps="1")) == 0
    out = capsys.readouterr().out
    assert "note: background, as `classes` leaves it out: red" in out
    assert summary(paths)["classes"] == ["blue"]
    assert found(paths, "a").max() <= 1


def test_a_network_without_an_inner_loop(paths, tmp_path, capsys):
    options = {"image_size": SIZE, "width": 1 / 16, "channels": 16, "dilated": True}
    model = ModelConfig(network="guided", backbone="VGG16", **options)
    network = build_network(model)
    run = RunConfig(model=model, learner=LearnerConfig(learner="feedforward"))
    path = tmp_path / "guided.keras"
    save_keras(path, network, network.weights(), run)
    write(tmp_path / "coco", coco(3, 3))
    for file in Path(paths["query"]).glob("*.png"):
        file.unlink()
    paths |= {"model": str(path), "support": str(tmp_path / "coco")}
    saved = tmp_path / "adapted.keras"
    assert adapt(AdaptConfig(**paths, save=str(saved))) == 0
    assert "adapted: no steps" in capsys.readouterr().out
    # It has a guide for each class.
    support = read_support(paths["support"], size=(SIZE, SIZE))
    assert support.classes == ("red", "blue")
    adapted = ForwardFunctions(network).segmenter(network.weights())
    adapted = adapted.adapt(
        np.stack([picture.image for picture in support.pictures]),
        np.stack([picture.mask for picture in support.pictures]),
    )
    images = [Image.open(Path(paths["query"]) / f"{i}.jpg") for i in (1, 2, 3)]
    small = [np.asarray(i.resize((SIZE, SIZE), Image.BILINEAR)) for i in images]
    for i, probability in enumerate(adapted.predict(np.stack(small)), start=1):
        expected = decide(probability, (90, 50), 0.5)
        assert np.mean(found(paths, i) == expected) > 0.99
    # Saved, it needs no labelled pictures any more.
    queries = [Path(paths["query"]) / f"{i}.jpg" for i in (1, 2, 3)]
    for i, mask in enumerate(load(saved).predict(queries), start=1):
        np.testing.assert_array_equal(mask, found(paths, i))
    for steps, settings in (("3", OWN), ("model", Settings(learning_rate=0.1))):
        with pytest.raises(UserError, match="has no effect: .*in a forward pass"):
            adapt(AdaptConfig(**paths | {"steps": steps}), settings)


def test_large_supports_are_learned_in_parts(paths, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_module, "WHOLE_SUPPORT", 3)
    monkeypatch.setattr(gradient, "MAX_STATISTICS", 2)
    seen = []

    def spy(count, most):
        seen.append((count, most))
        return spread(count, most)

    monkeypatch.setattr(gradient, "spread", spy)
    paths["query"] += "/1.jpg"
    settings = Settings(learning_rate=0.01)
    assert adapt(AdaptConfig(**paths, steps="2"), settings) == 0
    assert "mini-batches of 8: " in capsys.readouterr().out
    settings = summary(paths)["settings"]
    assert settings["inner_batch"] == 8 and settings["learning_rate"] == 0.01
    assert seen == [(4, 2)] * 3
    assert len(summary(paths)["queries"]) == 1
    assert summary(paths)["scores"] is None

    # Running averages look at no picture for statistics.
    settings = Settings(batch_norm="running", inner_batch=0)
    assert adapt(AdaptConfig(**paths, steps="1"), settings) == 0
    assert summary(paths)["settings"]["inner_batch"] == 0 and len(seen) == 3


def test_one_picture_is_too_few_to_hold_one_out(paths, tmp_path, capsys):
    write(tmp_path / "single", pairs(1, 1))
    paths |= {"support": str(tmp_path / "single"), "query": str(tmp_path / "single")}
    assert adapt(AdaptConfig(**paths, steps="auto")) == 0
    out = capsys.readouterr().out
    assert "the number of steps takes two labelled pictures of each class" in out
    assert "adapted: 12 steps at 0.1" in out
    # The query is the support picture, so its IoU proves nothing.
    assert "1 queries are support pictures; no mean counts them" in out
    assert summary(paths)["scores"] is None
    assert summary(paths)["queries"][0]["in_support"]


def test_learned_rates_need_no_rate(paths, tmp_path):
    network, weights, run = load_model(paths["model"])
    rates = tuple(tf.fill([3] + [1] * t.shape.rank, 0.05) for t in weights.theta)
    path = tmp_path / "rates.keras"
    save_keras(path, network, weights._replace(rates=rates), run)
    paths["model"] = str(path)
    with pytest.raises(UserError, match="`learning_rate` has no effect: .*rates.keras"):
        adapt(AdaptConfig(**paths), Settings(learning_rate=0.1))
    assert adapt(AdaptConfig(**paths, steps="2")) == 0
    assert summary(paths)["settings"]["learning_rate"] is None
