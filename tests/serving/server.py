"""Servers of an exported model for tests: TensorFlow Serving itself, or a stand-in.

The stand-in runs the model as TensorFlow Serving does, in a session from the
signatures' tensor names, and speaks its gRPC and REST.
"""

import base64
import contextlib
import json
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class Addresses(NamedTuple):
    """Where a server listens."""

    grpc: str
    rest: str


class SessionModel:
    """A SavedModel in a session."""

    def __init__(self, folder: Path):
        graph = tf.Graph()
        with graph.as_default():
            self._session = tf.compat.v1.Session(graph=graph)
            loaded = tf.compat.v1.saved_model.loader.load(
                self._session, ["serve"], str(folder)
            )
        self.signatures = loaded.signature_def
        self._callables: dict[tuple, Any] = {}

    def run(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature; raises what the graph raises."""
        signature = self.signatures[name or "serving_default"]
        given = sorted(inputs)
        outputs = sorted(signature.outputs)
        required = set(signature.inputs) - set(signature.defaults)
        if not required <= set(given) <= set(signature.inputs):
            raise tf.errors.InvalidArgumentError(
                None, None, f"input size does not match signature {name}: {given}"
            )
        key = (name, *given)
        if key not in self._callables:
            options = config_pb2.CallableOptions()
            options.feed.extend(signature.inputs[key].name for key in given)
            options.fetch.extend(signature.outputs[key].name for key in outputs)
            # session.run compares shapes in Python first, which the server does not.
            make = self._session._make_callable_from_options
            self._callables[key] = make(options)
        values = self._callables[key](*(inputs[key] for key in given))
        return dict(zip(outputs, values, strict=True))

    def predict(self, request, context):
        """PredictionService.Predict."""
        spec = request.model_spec
        try:
            outputs = self.run(
                spec.signature_name,
                {key: tf.make_ndarray(value) for key, value in request.inputs.items()},
            )
        except tf.errors.OpError as error:
            codes = {code.value[0]: code for code in grpc.StatusCode}
            context.abort(codes[error.error_code], error.message)
        response = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

    def predict_json(self, body: bytes) -> tuple[int, dict]:
        """REST's predict: status and answer."""
        document = json.loads(body)
        name = document.get("signature_name", "serving_default")
        infos = self.signatures[name].inputs
        rows = "instances" in document
        sent = document["instances" if rows else "inputs"]
        if rows:
            named = isinstance(sent[0], dict) and "b64" not in sent[0]
            key = next(iter(infos))
            rows_of = {k: [row[k] for row in sent] for k in infos} if named else None
            columns = rows_of or {key: sent}
        else:
            named = isinstance(sent, dict) and set(sent) <= set(infos)
            columns = sent if named else {next(iter(infos)): sent}
        if missing := set(infos) - set(columns):
            return 400, {"error": f"Missing named input: {missing}"}
        try:
            outputs = self.run(
                name,
                {
                    key: np.array(
                        _from_json(columns[key]),
                        tf.as_dtype(infos[key].dtype).as_numpy_dtype,
                    )
                    for key in infos
                },
            )
        except tf.errors.InvalidArgumentError as error:
            return 400, {"error": error.message}
        values = {key: _to_json(key, value) for key, value in outputs.items()}
        if not rows:
            return 200, {"outputs": values}
        names = list(values)
        answers = zip(*values.values(), strict=True)
        return 200, {"predictions": [dict(zip(names, a, strict=True)) for a in answers]}


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return [_from_json(v) for v in value] if isinstance(value, list) else value


def _to_json(name: str, value: Any) -> Any:
    """Strings of outputs whose names end so are binary: base64 in an object."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    if isinstance(value, list):
        return [_to_json(name, v) for v in value]
    if isinstance(value, bytes):
        assert name.endswith("_bytes")
        return {"b64": base64.b64encode(value).decode()}
    return value.tolist()


@contextlib.contextmanager
def stand_in(folder: Path, name: str) -> Iterator[Addresses]:
    """Serves a model from this process."""
    model = SessionModel(folder)

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            assert request.model_spec.name == name
            return model.predict(request, context)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            assert re.fullmatch(rf"/v1/models/{name}(/versions/1)?:predict", self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = model.predict_json(body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    grpc_server = grpc.server(futures.ThreadPoolExecutor(8), options=UNLIMITED)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(), grpc_server
    )
    grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield Addresses(f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http.server_port}")
    finally:
        http.shutdown()
        http.server_close()
        grpc_server.stop(None)


@contextlib.contextmanager
def model_server(binary: str, folder: Path, name: str) -> Iterator[Addresses]:
    """Serves a model with tensorflow_model_server."""
    ports = [_free_port(), _free_port()]
    process = subprocess.Popen(
        [
            binary,
            *(f"--port={ports[0]}", f"--rest_api_port={ports[1]}"),
            *(f"--model_name={name}", f"--model_base_path={folder.parent}"),
            f"--monitoring_config_file={folder / 'monitoring_config.txt'}",
        ]
    )
    addresses = Addresses(*(f"127.0.0.1:{port}" for port in ports))
    try:
        deadline = time.monotonic() + 120
        while not _available(f"http://{addresses.rest}/v1/models/{name}"):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "no model within 120 s"
            time.sleep(0.5)
        yield addresses
    finally:
        process.terminate()
        process.wait(30)


def _available(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return b"AVAILABLE" in answer.read()
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
