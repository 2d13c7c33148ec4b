"""Requests that TensorFlow Serving replays when it loads the model.

So that the first request of a client does not wait for the graph to be optimized.
The file is a TFRecord of `tensorflow.serving.PredictionLog`; the few fields of these
protocol buffers that are needed are encoded here, as tensorflow-serving-api is no
dependency of training or export:

    PredictionLog   { PredictLog predict_log = 6 }
    PredictLog      { PredictRequest request = 1 }
    PredictRequest  { ModelSpec model_spec = 1; map<string, TensorProto> inputs = 2 }
    ModelSpec       { string signature_name = 3 }
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.config import ExportConfig
from efficientlab_tf.serving.saved_model import (
    ADAPT_AND_SEGMENT,
    SERVE_ENCODED,
    SERVING_DEFAULT,
)

FILE = Path("assets.extra/tf_serving_warmup_requests")

Request = tuple[str, Mapping[str, Any]]


def warmup_requests(height: int, width: int, config: ExportConfig) -> list[Request]:
    """One request or more for each signature: its name and inputs, all valid.

    Height and width are those of the network's images, in pixels.
    """
    height, width = min(height, config.max_side), min(width, config.max_side)
    grey = np.full([height, width, 3], 128, np.uint8)
    images = grey[np.newaxis].astype(np.float32)
    files = [tf.io.encode_png(grey).numpy(), tf.io.encode_jpeg(grey).numpy()]
    requests: list[Request] = [(SERVING_DEFAULT, {"images": images})]
    requests += [(SERVE_ENCODED, {"image_bytes": [file]}) for file in files]
    if config.adaptation:
        masks = np.zeros([1, height, width], np.uint8)
        masks[:, : (height + 1) // 2] = 1
        adaptation = {
            "support_images": images,
            "support_masks": masks,
            "query_images": images,
            "learning_rate": np.float32(0),
            "steps": np.int32(1),
        }
        requests.append((ADAPT_AND_SEGMENT, adaptation))
    return requests


def write_warmup(folder: Path, requests: list[Request]) -> None:
    """Writes the requests where TensorFlow Serving looks for them in a SavedModel."""
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            writer.write(prediction_log(signature, inputs))


def prediction_log(signature: str, inputs: Mapping[str, Any]) -> bytes:
    """Serializes a PredictionLog of one Predict request."""
    request = _field(1, _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field: its tag, the length, the payload."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
