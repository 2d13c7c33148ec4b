"""gRPC and REST on the wire, and the README's requests as a user would paste them."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.serving.conftest import NAME, SIZE, photos, task

grpc = pytest.importorskip("grpc", reason="pip install .[dev]")
apis = pytest.importorskip("tensorflow_serving.apis", reason="pip install .[dev]")

from tensorflow_serving.apis import (  # noqa: E402
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.server import UNLIMITED, model_server, stand_in  # noqa: E402

LARGEST_DIFFERENCE = 1e-5


@pytest.fixture(scope="module", params=["stand-in", "tensorflow_model_server"])
def server(request, exported):
    if request.param == "stand-in":
        context = stand_in(exported.folder, NAME)
    elif binary := os.environ.get("TF_MODEL_SERVER"):
        context = model_server(binary, exported.folder, NAME)
    else:
        pytest.skip("TF_MODEL_SERVER does not name a tensorflow_model_server")
    with context as addresses:
        yield addresses


@pytest.fixture(scope="module")
def ask(server):
    """Asks over gRPC."""
    channel = grpc.insecure_channel(server.grpc, options=UNLIMITED)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(signature: str, **inputs) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = NAME
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        outputs = stub.Predict(request, timeout=120).outputs
        return {name: tf.make_ndarray(value) for name, value in outputs.items()}

    yield ask
    channel.close()


def post(server, document: dict) -> tuple[int, dict]:
    """Asks over REST."""
    url = f"http://{server.rest}/v1/models/{NAME}:predict"
    request = urllib.request.Request(url, json.dumps(document).encode())
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def encoded(picture: np.ndarray, format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format)
    return file.getvalue()


def test_grpc_serving_default(ask, signatures):
    images = photos(2, 30, 45).astype(np.float32)
    answer = ask("serving_default", images=images)
    expected = signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(
        answer["probability"], expected["probability"], rtol=0, atol=LARGEST_DIFFERENCE
    )
    assert answer["mask"].dtype == np.uint8 and answer["mask"].shape == (2, 30, 45)


def test_grpc_serve_encoded(ask):
    pictures = [photos(1, 30, 45)[0], photos(1, 9, 17)[0]]
    answer = ask("serve_encoded", image_bytes=[encoded(p, "PNG") for p in pictures])
    assert answer["size"].tolist() == [[30, 45], [9, 17]]
    for picture, data in zip(pictures, answer["mask_bytes"], strict=True):
        images = picture[None].astype(np.float32)
        expected = ask("serving_default", images=images)["mask"][0]
        mask = np.asarray(Image.open(io.BytesIO(data)))
        assert (mask == expected).mean() > 0.999


def test_grpc_adaptation_may_leave_rate_and_steps_out(ask, signatures):
    request = task(1)
    expected = signatures["adapt_and_segment"](
        **{name: tf.constant(value) for name, value in request.items()},
        learning_rate=tf.constant(0.0),
        steps=tf.constant(0),
    )
    for given in {}, {"learning_rate": np.float32(0), "steps": np.int32(-1)}:
        answer = ask("adapt_and_segment", **request, **given)
        np.testing.assert_allclose(
            answer["probability"],
            expected["probability"],
            rtol=0,
            atol=LARGEST_DIFFERENCE,
        )


def test_grpc_concurrent_tasks(ask):
    tasks = [task(seed) for seed in range(4)]
    alone = [ask("adapt_and_segment", **t)["probability"] for t in tasks]
    together = {}

    def work(i: int) -> None:
        together[i] = ask("adapt_and_segment", **tasks[i])["probability"]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, expected in enumerate(alone):
        np.testing.assert_allclose(together[i], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("serving_default", {"images": np.zeros([1, 8, 8, 4], np.float32)}, "shape"),
        ("serving_default", {"images": np.zeros([8, 8, 3], np.float32)}, "shape"),
        ("serving_default", {"images": np.zeros([0, 8, 8, 3], np.float32)}, "1 to 32"),
        ("serving_default", {"images": np.zeros([1, 8, 8, 3], np.uint8)}, "float"),
        ("serve_encoded", {"image_bytes": [b"GIF89a"]}, "JPEG or PNG"),
        (
            "adapt_and_segment",
            {**task(2), "support_masks": task(2)["support_masks"][..., None]},
            "shape",
        ),
        ("adapt_and_segment", {**task(2), "steps": np.int32(-7)}, "steps: expected"),
        ("adapt_and_segment", {"query_images": task(2)["query_images"]}, "input"),
    ],
)
def test_grpc_bad_input_is_an_invalid_argument(ask, signature, inputs, message):
    with pytest.raises(grpc.RpcError) as error:
        ask(signature, **inputs)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()
    assert ask("adapt_and_segment", **task(2))["masks"].shape == (2, SIZE, SIZE)


def test_rest_rows_and_columns(server, ask):
    images = photos(2, 6, 7)
    expected = ask("serving_default", images=images.astype(np.float32))
    for document in (
        {"instances": images.tolist()},
        {"instances": [{"images": image} for image in images.tolist()]},
    ):
        status, answer = post(server, document)
        assert status == 200, answer
        assert [sorted(row) for row in answer["predictions"]] == [
            ["mask", "probability"]
        ] * 2
        found = np.array([row["probability"] for row in answer["predictions"]])
        np.testing.assert_allclose(found, expected["probability"], rtol=0, atol=1e-5)
    status, answer = post(server, {"inputs": {"images": images.tolist()}})
    assert status == 200, answer
    assert np.array(answer["outputs"]["mask"]).shape == (2, 6, 7)


def test_rest_files(server):
    data = base64.b64encode(encoded(photos(1, 6, 7)[0], "JPEG")).decode()
    for instance in {"b64": data}, {"image_bytes": {"b64": data}}:
        status, answer = post(
            server, {"signature_name": "serve_encoded", "instances": [instance]}
        )
        assert status == 200, answer
        (row,) = answer["predictions"]
        assert row["size"] == [6, 7]
        for name in "mask_bytes", "probability_bytes":
            picture = Image.open(io.BytesIO(base64.b64decode(row[name]["b64"])))
            assert picture.size == (7, 6)


def test_rest_adaptation(server, ask):
    request = task(3)
    inputs = {name: value.tolist() for name, value in request.items()}
    document = {"signature_name": "adapt_and_segment", "inputs": inputs}
    status, answer = post(server, document)
    # REST knows no defaults.
    assert status == 400 and "Missing named input" in answer["error"]
    inputs |= {"learning_rate": 0, "steps": 0}
    status, answer = post(server, document)
    assert status == 200, answer
    np.testing.assert_allclose(
        answer["outputs"]["probability"],
        ask("adapt_and_segment", **request)["probability"],
        rtol=0,
        atol=1e-5,
    )
    inputs["steps"] = 100_000
    status, answer = post(server, document)
    assert status == 400 and "steps: expected 0" in answer["error"]


@pytest.fixture
def users_folder(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the README speaks of, as working directory."""
    (tmp_path / "support").mkdir()
    request = task(4)
    for i, (image, mask) in enumerate(
        zip(request["support_images"], request["support_masks"], strict=True)
    ):
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"support/{i}.jpg")
        Image.fromarray(mask).save(tmp_path / f"support/{i}.png")
    Image.fromarray(photos(1, 21, 37)[0]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(exported, language: str) -> list[str]:
    text = (exported.folder / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_readmes_python_is_right(server, exported, users_folder, capsys):
    (code,) = blocks(exported, "python")
    assert "localhost:8500" in code
    exec(code.replace("localhost:8500", server.grpc), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("(21, 37)") and second.startswith("(21, 37)")


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_the_readmes_curl_lines_are_right(server, exported, users_folder):
    docker, *lines = blocks(exported, "")
    assert docker.startswith("docker run") and len(lines) == 3
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line, key in zip(
        lines, ("mask_bytes", "probability", "probability"), strict=True
    ):
        assert "localhost:8501" in line
        process = subprocess.run(
            ["bash", "-c", line.replace("localhost:8501", server.rest)],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path, "no_proxy": "*"},
        )
        answer = json.loads(process.stdout)
        answer = answer["predictions"][0] if "instances" in line else answer["outputs"]
        assert key in answer, process.stdout[:500]
