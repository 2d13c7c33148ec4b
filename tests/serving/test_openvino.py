"""Another runtime than TensorFlow runs the same SavedModel."""

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.conftest import photos

openvino = pytest.importorskip("openvino", reason="pip install .[dev]")


def test_openvino_runs_serving_default(exported, signatures):
    core = openvino.Core()
    # Otherwise it computes in bfloat16 where the processor can.
    network = core.compile_model(
        core.read_model(str(exported.folder)),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )
    for count, height, width in (1, 32, 32), (2, 50, 70), (1, 17, 90):
        images = photos(count, height, width).astype(np.float32)
        found = network({"images": images})
        expected = signatures["serving_default"](images=tf.constant(images))
        probability = expected["probability"].numpy()
        np.testing.assert_allclose(found["probability"], probability, rtol=0, atol=1e-3)
        sure = np.abs(probability[..., 1] - 0.5) > 1e-3
        np.testing.assert_array_equal(
            found["mask"][sure], expected["mask"].numpy()[sure]
        )
