"""What is downloaded from the page: masks, annotations, adapted models."""

import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_api

from efficientlab_tf.api.baselines import LINEAR
from efficientlab_tf.app.annotations import FOREGROUND
from efficientlab_tf.app.downloads import write_annotations, write_masks, write_model
from efficientlab_tf.errors import UserError
from tests.app.untrained import (
    EARLY,
    GUIDED,
    LINEAR_SIZE,
    SIZE,
    SIZES,
    STEPPED,
    encoded,
    fitted,
    mark_all,
    picture,
)


def test_masks_as_zip(workspace):
    workspace.add("0.jpg", encoded(picture((30, 20), 4), "JPEG"))
    mark_all(workspace)
    workspace.adapt(GUIDED)
    with zipfile.ZipFile(write_masks(workspace)) as archive:
        names = ["0_png", "1", "2", "0_jpg"]
        assert archive.namelist() == [f"masks/{name}.png" for name in names]
        for i, name in enumerate(archive.namelist()):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.mode == "P"
                assert image.size == workspace.pictures[i].size[::-1]
                np.testing.assert_array_equal(np.asarray(image), workspace.mask(i))


def test_masks_for_annotation_tools(workspace):
    mark_all(workspace)
    workspace.adapt(GUIDED)
    with zipfile.ZipFile(write_annotations(workspace, "coco")) as archive:
        document = json.loads(archive.read("instances.json"))
    sure = [picture.confidence for picture in workspace.pictures]
    by_name = {f"{i}.png": workspace.mask(i) for i in range(len(SIZES))}
    named = [image["file_name"] for image in document["images"]]
    assert named == [f"{i}.png" for i in np.argsort(sure, kind="stable")]
    names = {image["id"]: image["file_name"] for image in document["images"]}
    for one in document["annotations"]:
        found = coco_api.decode(one["segmentation"])
        np.testing.assert_array_equal(found, by_name.pop(names[one["image_id"]]))
    assert not any(mask.any() for mask in by_name.values())
    with zipfile.ZipFile(write_annotations(workspace, "labelme")) as archive:
        documents = [json.loads(archive.read(name)) for name in archive.namelist()]
    assert {document["imagePath"] for document in documents} == set(names.values())
    assert any(document["shapes"] for document in documents)


ALONE = """
import sys
import numpy as np
import tensorflow as tf
for images, model, output in zip(*(sys.argv[i::3] for i in (1, 2, 3))):
    images = np.load(images)
    served = tf.saved_model.load(model).signatures["serving_default"]
    answer = served(tf.constant(images, tf.float32))
    np.savez(output, **{name: value.numpy() for name, value in answer.items()})
assert not any(name.startswith("efficientlab") for name in sys.modules)
"""


def test_adapted_models_run_alone(workspace, tmp_path):
    mark_all(workspace)
    arguments, probabilities = [], {}
    for name in (GUIDED, EARLY, STEPPED, LINEAR):
        workspace.adapt(name)
        probabilities[name] = [p.probability for p in workspace.pictures]
        path = write_model(workspace)
        assert path.name == f"{name}_adapted.zip"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path)
        images = tmp_path / f"{name}.npy"
        np.save(images, fitted(LINEAR_SIZE if name == LINEAR else SIZE))
        output = str(images.with_suffix(".npz"))
        arguments += [str(images), str(tmp_path / name / "1"), output]
        text = (tmp_path / name / "1" / "README.md").read_text()
        assert "serve_encoded" in text and "adapt_and_segment" not in text
    subprocess.run(
        [sys.executable, "-c", ALONE, *arguments],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
        timeout=300,
    )
    for name, own in probabilities.items():
        with np.load(tmp_path / f"{name}.npz") as answer:
            np.testing.assert_allclose(answer["probability"], own, atol=1e-4)
            sure = np.abs(np.stack(own)[..., 1] - 0.5) > 1e-4
            masks = np.stack(own)[..., 1] > 0.5
            np.testing.assert_array_equal(answer["mask"][sure], masks[sure])
    workspace.mark(0, 0, 0, FOREGROUND)
    with pytest.raises(UserError, match="press adapt first"):
        write_model(workspace)
