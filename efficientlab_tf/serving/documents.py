"""What lies beside a SavedModel: how to serve it, how to ask it."""

from string import Template

from efficientlab_tf.config import ExportConfig
from efficientlab_tf.serving.saved_model import SegmentationModel

MONITORING_CONFIG = """\
# tensorflow_model_server --monitoring_config_file=...
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

_BATCHING_CONFIG = Template("""\
# tensorflow_model_server --enable_batching --batching_parameters_file=...
$warning# Images that arrive together must then be of one size; files may be of any.
max_batch_size { value: $max_images }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
""")

_NO_BATCHING = """\
# NOT for this export: its adapt_and_segment cannot be batched, and with batching on it
# does not load. Export again with --noadaptation.
"""

_README = Template("""\
# $name

$network, for TensorFlow Serving.

```
docker run --rm -p 8500:8500 -p 8501:8501 -v "$$PWD/$name:/models/$name" \\
    -e MODEL_NAME=$name tensorflow/serving \\
    --monitoring_config_file=/models/$name/$version/monitoring_config.txt
```

in the folder that holds `$name/`. Prometheus finds its metrics at
http://localhost:8501/monitoring/prometheus/metrics. While it loads, the model answers
a few requests to itself (`assets.extra/`), so that no client has to wait for the first.

## Signatures

`serving_default` segments images:

- `images` float32 [N, H, W, 3]
- -> `probability` float32 [N, H, W, $channels], `mask` uint8 [N, H, W]

`serve_encoded` segments files, which may differ in size:

- `image_bytes` string [N], each a JPEG or PNG file
- -> `mask_bytes` string [N], 8-bit PNG of the labels; `probability_bytes` string [N],
  16-bit PNG of 65535 times the probability of foreground; `size` int32 [N, 2], heights
  and widths
$adaptation
Images are RGB in 0..255 and may have any size: $sizes
The answer has the images' size. The channels of
`probability` are background, then $classes; a mask holds the number of the
most probable one. JPEG's orientation tags are not applied.

A request may hold $max_images images of up to $max_side x $max_side pixels; a file
whose header says more is refused before it is decoded. Bad input is answered with
INVALID_ARGUMENT (REST: status 400) and a sentence that says what was wrong.

## REST

Files, base64 in JSON:

```
(printf '{"signature_name": "serve_encoded", "instances": [{"b64": "'
 base64 < photo.jpg | tr -d '\\n'
 printf '"}]}') | curl -s -d @- http://localhost:8501/v1/models/$name:predict
```

Numbers (an image of 1 x 2 pixels):

```
curl -s -d '{"instances": [[[[255, 0, 0], [0, 0, 255]]]]}' \\
    http://localhost:8501/v1/models/$name:predict
```
$adaptation_rest
## gRPC

`pip install tensorflow-serving-api pillow`, then

```python
$grpc```

## Batching

$batching
""")

_ADAPTATION = Template("""
`adapt_and_segment` learns from a support set, segments queries, and forgets:

- `support_images` float32 [k, H, W, 3]; `support_masks` uint8 [k, H, W], 0 background,
  $labels object, 255 unknown; `query_images` float32 [n, H2, W2, 3]
- `learning_rate` float32, `steps` int32 of at most $max_steps: 0 (or -1) takes the
  model's own, $own; over gRPC both may be left out
- -> `probability` float32 [n, H2, W2, $channels], `masks` uint8 [n, H2, W2]

Queries are normalized with $statistics. Equal requests get
equal answers.
""")

_ADAPTATION_REST = Template("""
Adaptation; its inputs differ in length, so they are sent in columns:

```
cat > request.py << 'END'
import glob, json
import numpy as np
from PIL import Image

def image(path):
    return np.asarray(Image.open(path).convert("RGB")).tolist()

pictures, masks = sorted(glob.glob("support/*.jpg")), sorted(glob.glob("support/*.png"))
inputs = {
    "support_images": [image(path) for path in pictures],
    "support_masks": [np.asarray(Image.open(path)).tolist() for path in masks],
    "query_images": [image("photo.jpg")],
    "learning_rate": 0,
    "steps": 0,
}
print(json.dumps({"signature_name": "adapt_and_segment", "inputs": inputs}))
END
python3 request.py | curl -s -d @- http://localhost:8501/v1/models/$name:predict
```
""")

_GRPC = Template("""\
import glob
import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

unlimited = [("grpc.max_receive_message_length", -1)]
channel = grpc.insecure_channel("localhost:8500", options=unlimited)
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

def ask(signature, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "$name"
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    outputs = stub.Predict(request, timeout=300).outputs
    return {key: tf.make_ndarray(value) for key, value in outputs.items()}

def image(path):
    return np.asarray(Image.open(path).convert("RGB"), np.float32)

queries = np.stack([image("photo.jpg")])
mask = ask("serving_default", images=queries)["mask"][0]
print(mask.shape, (mask > 0).mean())
""")

_GRPC_ADAPTATION = """\

pictures, masks = sorted(glob.glob("support/*.jpg")), sorted(glob.glob("support/*.png"))
answer = ask(
    "adapt_and_segment",
    support_images=np.stack([image(path) for path in pictures]),
    support_masks=np.stack([np.asarray(Image.open(path)) for path in masks]),
    query_images=queries,
)
mask = answer["masks"][0]
print(mask.shape, (mask > 0).mean())
"""

_BATCHING = {
    True: """\
TensorFlow Serving's batching joins requests along the first axis of every input, and
does so for every signature of a model. The inputs of `adapt_and_segment` share no axis,
so a server with `--enable_batching` cannot load this export; export again with
`--noadaptation` to use `batching_config.txt`.""",
    False: """\
`--enable_batching --batching_parameters_file=.../batching_config.txt` joins requests
that arrive together; see the remarks in that file.""",
}

_STATISTICS = {
    "support": "the statistics of the support set",
    "running": "running averages",
}


def batching_config(config: ExportConfig) -> str:
    """A sample for --batching_parameters_file: the text of a BatchingParameters."""
    return _BATCHING_CONFIG.substitute(
        max_images=config.max_images,
        warning=_NO_BATCHING if config.adaptation else "",
    )


def readme(name: str, version: str, served: SegmentationModel) -> str:
    """The README.md of a model that the server knows by `name` and `version`."""
    config = served.config
    labels = "1" if served.classes == 1 else f"1 to {served.classes}"
    values = {
        "name": name,
        "version": version,
        "network": served.about,
        "sizes": _sizes(served),
        "channels": served.classes + 1,
        "classes": "the object" if served.classes == 1 else f"classes {labels}",
        "batching": _BATCHING[config.adaptation],
        "max_images": config.max_images,
        "max_side": config.max_side,
        "max_steps": config.max_steps,
    }
    grpc, adaptation, adaptation_rest = _GRPC.substitute(values), "", ""
    if config.adaptation:
        rate = f"{served.defaults.learning_rate:g}"
        if served.learned_rates:
            rate = "its learned rates"
        adaptation = _ADAPTATION.substitute(
            values,
            labels=labels,
            own=f"{served.defaults.steps} steps at {rate}",
            statistics=_STATISTICS[served.defaults.batch_norm],
        )
        adaptation_rest = _ADAPTATION_REST.substitute(values)
        grpc += _GRPC_ADAPTATION
    parts = {"grpc": grpc, "adaptation": adaptation, "adaptation_rest": adaptation_rest}
    return _README.substitute(values | parts)


def _sizes(served: SegmentationModel) -> str:
    if served.size is None:
        return "each is read at the sizes that suit the task, and keeps its aspect."
    height, width = served.size
    return f"they are resized to the network's {height} x {width} pixels."
