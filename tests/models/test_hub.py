"""Backbones of KerasHub, from small random presets that the tests make."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import efficientlab_tf as el
from efficientlab_tf.checkpoint.files import load_checkpoint
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.models import backbones, hub
from efficientlab_tf.models.closed_form import closed_form
from efficientlab_tf.models.efficientlab import efficientlab
from efficientlab_tf.models.guided import guided
from efficientlab_tf.segmenters.baselines.features import FeatureExtractor
from efficientlab_tf.training.loop import train

keras_hub = pytest.importorskip("keras_hub")
SIDE = 64


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """A Mix Transformer, whose maps are a pyramid."""
    network = keras_hub.models.MiTBackbone(
        layerwise_depths=[1] * 4,
        num_layers=4,
        layerwise_num_heads=[1] * 4,
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        image_shape=(SIDE, SIDE, 3),
        hidden_dims=[8, 8, 16, 16],
    )
    return preset(tmp_path_factory, network, keras_hub.layers.MiTImageConverter)


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """DINOv2, with patches of 14 pixels, made for another size."""
    network = keras_hub.models.DINOV2Backbone(
        patch_size=14,
        num_layers=1,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        image_shape=(70, 70, 3),
        position_embedding_shape=(70, 70, 3),
        num_register_tokens=2,
    )
    return preset(tmp_path_factory, network, keras_hub.layers.DINOV2ImageConverter)


def preset(tmp_path_factory, network, converter):
    folder = tmp_path_factory.mktemp("preset")
    network.save_to_preset(str(folder))
    converter(scale=[0.02, 0.01, 0.03], offset=[-1, -2, 0.5]).save_to_preset(
        str(folder)
    )
    return f"hub:{folder}"


def pictures(count):
    """Grey noise with a red square each, and their masks."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (count, SIDE, SIDE, 3), np.uint8)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for i in range(count):
        images[i, 8 + i : 40 + i, 16:48] = 230, 30, 30
        masks[i, 8 + i : 40 + i, 16:48] = 1
    return images, masks


def test_a_pyramid_is_numbered_by_stride(pyramid):
    encoder = backbones.build_encoder(pyramid, (SIDE, SIDE), weights="imagenet")
    shapes = {stage: tuple(x.shape[1:]) for stage, x in encoder.stages.items()}
    assert shapes == {3: (16, 16, 8), 4: (8, 8, 8), 6: (4, 4, 16), 8: (2, 2, 16)}
    model = keras.Model(encoder.images, list(encoder.stages.values()))
    assert not model.trainable_variables
    images = np.zeros([1, SIDE, SIDE, 3], np.float32)
    images[0, :20] = 200
    own = keras_hub.models.Backbone.from_preset(
        pyramid.removeprefix("hub:"), image_shape=(SIDE, SIDE, 3)
    )
    expected = own(images * [0.02, 0.01, 0.03] + [-1, -2, 0.5])
    np.testing.assert_allclose(model(images)[-1], expected, atol=1e-5)


def test_patches_of_any_size_are_stage_6(patches):
    encoder = backbones.build_encoder(patches, (SIDE, SIDE), weights="imagenet")
    assert {s: tuple(x.shape[1:]) for s, x in encoder.stages.items()} == {6: (4, 4, 16)}
    images = pictures(1)[0].astype(np.float32)
    found = keras.Model(encoder.images, encoder.stages[6])(images)
    own = keras_hub.models.Backbone.from_preset(
        patches.removeprefix("hub:"), image_shape=(56, 56, 3)
    )
    small = tf.image.resize(images, (56, 56)) * [0.02, 0.01, 0.03] + [-1, -2, 0.5]
    tokens = own({"images": small})
    assert tokens.shape[1] == 1 + 2 + 16
    np.testing.assert_allclose(tf.reshape(found, [1, 16, 16]), tokens[:, 3:], atol=1e-4)


@pytest.mark.parametrize("kind", ["pyramid", "patches"])
def test_a_baseline_sees_through_it(kind, request):
    backbone = request.getfixturevalue(kind)
    features = FeatureExtractor(backbone, SIDE)
    assert features.channels == {"pyramid": 8 + 16, "patches": 16}[kind]
    model = el.load("logistic_regression", backbone=backbone, image_size=SIDE)
    images, masks = pictures(3)
    found = model.adapt(list(images[:2]), list(masks[:2])).predict(list(images[2:]))
    assert found[0].shape == (SIDE, SIDE)


def test_a_closed_form_network_is_trained_and_loaded(patches, tmp_path):
    run = tmp_path / "run"
    train(
        RunConfig(
            DataConfig(dataset_dir="sample:icons", shots=2, queries=1, cache_gb=0.1),
            ModelConfig(
                network="closed_form",
                image_size=SIDE,
                backbone=patches,
                weights="imagenet",
                stages="6",
                freeze_features=True,
            ),
            LearnerConfig(learner="feedforward", inner_steps=0),
            TrainConfig(
                run_dir=str(run),
                meta_steps=2,
                meta_batch=1,
                val_episodes=1,
                validate_every=2,
            ),
        )
    )
    assert load_checkpoint(str(run)).run.model.backbone == patches
    images, masks = pictures(3)
    found = []
    for source in run, run / "model.keras":
        adapted = el.load(source).adapt(list(images[:2]), list(masks[:2]))
        found.append(adapted.predict(list(images[2:]))[0])
    assert found[0].shape == (SIDE, SIDE)
    np.testing.assert_array_equal(*found)


def test_guided_networks_take_it_with_late_fusion(pyramid):
    model = guided(
        image_size=SIDE, backbone=pyramid, freeze_features=True, relation="product"
    )
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {
        *("head_fuse", "head_context", "head_score")
    }
    with pytest.raises(UserError, match="`backbone` must be one of VGG16"):
        guided(image_size=SIDE, backbone=pyramid, freeze_features=True, fusion="early")


def test_what_is_refused(pyramid, patches, tmp_path, monkeypatch):
    for build in (closed_form, guided):
        with pytest.raises(UserError, match="`freeze_features` must be True with hub:"):
            build(image_size=SIDE, backbone=pyramid)
    with pytest.raises(UserError, match="`stages` must be some of 6 with hub:.*, rec"):
        closed_form(image_size=SIDE, backbone=patches, freeze_features=True)
    with pytest.raises(UserError, match="`backbone` must be one of EfficientNetB0"):
        efficientlab(image_size=SIDE, backbone=pyramid)
    with pytest.raises(UserError, match="KerasHub cannot build it for 64x96 pixels"):
        backbones.build_encoder(patches, (64, 96))
    with pytest.raises(UserError, match="name a folder that holds the preset"):
        backbones.build_encoder(f"hub:{tmp_path / 'nothing'}", (SIDE, SIDE))

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"pip install 'efficientlab_tf\[hub\]'"):
        hub.keras_hub()
