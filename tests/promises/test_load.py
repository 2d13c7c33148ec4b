"""Many clients at once: no error, the answers of one alone, and no growth."""

import threading
import time

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf

from efficientlab_tf.api.loading import load
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import load_methods
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import OWN, LearnerConfig, ModelConfig
from efficientlab_tf.segmenters.network import Network
from tests.app.untrained import (
    GUIDED,
    SIZES,
    STEPPED,
    encoded,
    mark_all,
    picture,
    write_models,
)
from tests.models.tiny import tiny_network

CLIENTS, GROWTH, NAME, SIZE = 8, 1.05, "tiny", 32


def under_load(ask, expected, seconds, atol):
    """Clients ask again and again; returns how often all of them were answered.

    Args:
      ask: maps a client's number to arrays.
      expected: the answers of each alone.
      seconds: how long, after every client was answered twice.
      atol: by which an answer may differ from that alone.
    """
    answered, errors, end = [0] * CLIENTS, [], [np.inf]

    def client(number):
        try:
            while time.monotonic() < end[0]:
                for one, other in zip(expected[number], ask(number), strict=True):
                    np.testing.assert_allclose(other, one, rtol=0, atol=atol)
                answered[number] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while min(answered) < 2 and not errors:
        time.sleep(0.05)
    process, resident = psutil.Process(), []
    end[0] = time.monotonic() + seconds
    while time.monotonic() < end[0] and not errors:
        resident.append(process.memory_info().rss)
        time.sleep(0.05)
    end[0] = 0
    for thread in threads:
        thread.join(120)
    assert not errors, errors[0]
    third = max(1, len(resident) // 3)
    before, after = np.median(resident[:third]), np.median(resident[-third:])
    print(
        f"{sum(answered)} answers, {before / 2**20:.0f} MiB, then "
        f"{after / 2**20:.0f} MiB"
    )
    assert after < GROWTH * before
    return answered


def test_the_served_model(tmp_path, option):
    server, inputs = pytest.importorskip("tests.serving.server"), _tasks()
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    network, path = Network(tiny_network(SIZE, dropout=0.2)), tmp_path / "model.keras"
    learner = LearnerConfig(inner_steps=3, inner_learning_rate=0.1, inner_batch=2)
    run = RunConfig(model=ModelConfig(image_size=SIZE), learner=learner)
    save_keras(path, network, network.weights(), run)
    load(path).export(tmp_path / NAME / "1")
    with server.stand_in(tmp_path / NAME / "1", NAME) as addresses:
        channels = [
            grpc.insecure_channel(addresses.grpc, options=server.UNLIMITED)
            for _ in range(CLIENTS)
        ]

        def ask(number):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = NAME
            request.model_spec.signature_name = "adapt_and_segment"
            for name, value in inputs[number].items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channels[number])
            return [tf.make_ndarray(stub.Predict(request).outputs["probability"])]

        alone = [ask(number) for number in range(CLIENTS)]
        assert np.abs(alone[0][0] - alone[1][0]).max() > 0.01
        under_load(ask, alone, option("load_seconds", 4), atol=1e-5)
        for channel in channels:
            channel.close()


def _tasks():
    """A request to adapt_and_segment for each client."""
    tasks = []
    for number in range(CLIENTS):
        shots = 1 + number % 3
        images = [picture((SIZE, SIZE), 10 * number + i) for i in range(shots + 2)]
        masks = np.zeros([shots, SIZE, SIZE], np.uint8)
        masks[:, 8:16, : 8 + 2 * number] = 1
        images = np.stack(images).astype(np.float32)
        tasks.append(
            {
                "support_images": images[:shots],
                "support_masks": masks,
                "query_images": images[shots:],
            }
        )
    return tasks


def test_the_page(tmp_path, option):
    methods = load_methods(write_models(tmp_path), OWN)
    folder = tmp_path / "users"
    folder.mkdir()

    def ask(number):
        # A visit: pictures come, are marked, and masks are asked for.
        with Workspace(methods, AppConfig(), folder) as workspace:
            for i, size in enumerate(SIZES):
                image = picture(size, 10 * number + i)
                workspace.add(f"{i}.png", encoded(image))
            mark_all(workspace)
            workspace.adapt((GUIDED, STEPPED)[number % 2])
            return [own.probability for own in workspace.pictures]

    alone = [ask(number) for number in range(CLIENTS)]
    assert np.abs(alone[0][0] - alone[2][0]).max() > 1e-5
    under_load(ask, alone, option("load_seconds", 4), atol=1e-5)
    assert not list(folder.iterdir())
