"""The version folder: what is in it, and that it is there whole or not at all."""

import os
from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)

from efficientlab_tf.checkpoint.run import build_inner_loop
from efficientlab_tf.config import ExportConfig, LearnerConfig, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.serving import documents, folder, warmup
from efficientlab_tf.serving.saved_model import ServedModel
from tests.models.tiny import tiny_network
from tests.serving.conftest import SIZE, run_export


def test_the_command_says_what_it_wrote(exported):
    written = {path.name for path in exported.folder.iterdir()}
    assert written >= {
        *("saved_model.pb", "variables", "assets.extra", "README.md"),
        *("batching_config.txt", "monitoring_config.txt"),
    }
    assert f"written: {exported.folder}" in exported.printed
    for line in (
        *("adapt_and_segment", "serve_encoded", "serving_default"),
        "  <- images            float32 [?, ?, ?, 3]",
        "  -> probability       float32 [?, ?, ?, 2]",
        "  <- steps             int32 []",
    ):
        assert line in exported.printed.splitlines()
    assert [path.name for path in exported.folder.parent.iterdir()] == ["1"]


def test_a_server_under_another_user_can_read_it(exported):
    usual = os.umask(0)
    os.umask(usual)
    assert exported.folder.stat().st_mode & 0o777 == 0o777 & ~usual


def test_the_command_refuses_with_a_sentence(tmp_path):
    status, _, err = run_export("--model=nowhere", f"--output={tmp_path / '1'}")
    assert status == 2
    assert "no model 'nowhere'; expected a run's folder" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_warmup_requests_run(exported, signatures):
    path = exported.folder / warmup.FILE
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    assert len(records) == 4
    prediction_log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2", reason="pip install .[dev]"
    )
    asked = []
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        asked.append(request.model_spec.signature_name)
        inputs = {
            name: tf.constant(tf.make_ndarray(value))
            for name, value in request.inputs.items()
        }
        signatures[asked[-1]](**inputs)
        # All of it was understood: nothing is lost without the unknown fields.
        log.DiscardUnknownFields()
        assert len(log.SerializeToString()) == len(record)
    assert asked == [
        *("serving_default", "serve_encoded", "serve_encoded", "adapt_and_segment")
    ]


def messages(**fields: dict[str, tuple[int, str]]) -> dict[str, type]:
    """Message classes of the fields that a sample uses, as TensorFlow Serving has them.

    Args:
      **fields: message name to field name to number and type: "bool", "string", or
        the name of a message.
    """
    file = descriptor_pb2.FileDescriptorProto(name="sample.proto", syntax="proto3")
    kinds = {"int64": 3, "bool": 8, "string": 9}
    for message, described in fields.items():
        descriptor = file.message_type.add(name=message)
        for name, (number, kind) in described.items():
            field = descriptor.field.add(name=name, number=number, label=1)
            field.type = kinds.get(kind, 11)
            if kind not in kinds:
                field.type_name = f".{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["sample.proto"], pool)


def test_sample_configurations_are_text_protos(exported):
    # From session_bundle_config.proto and monitoring_config.proto.
    names = (
        *("max_batch_size", "batch_timeout_micros", "max_enqueued_batches"),
        "num_batch_threads",
    )
    classes = messages(
        Int64Value={"value": (1, "int64")},
        BatchingParameters={
            name: (i, "Int64Value") for i, name in enumerate(names, start=1)
        },
        PrometheusConfig={"enable": (1, "bool"), "path": (2, "string")},
        MonitoringConfig={"prometheus_config": (1, "PrometheusConfig")},
    )
    text = (exported.folder / "batching_config.txt").read_text()
    batching = text_format.Parse(text, classes["BatchingParameters"]())
    assert batching.max_batch_size.value == 32
    assert "NOT for this export" in text
    text = (exported.folder / "monitoring_config.txt").read_text()
    monitoring = text_format.Parse(text, classes["MonitoringConfig"]())
    assert monitoring.prometheus_config.enable


def test_without_adaptation_everything_can_be_batched():
    network = Network(tiny_network(SIZE))
    config = ExportConfig(adaptation=False, max_images=5, max_side=20)
    inner = build_inner_loop(LearnerConfig(), network)
    model = ServedModel(inner, network.weights(), Settings(1, 0.1, "support"), config)
    signatures = model.signatures()
    assert set(signatures) == {"serving_default", "serve_encoded"}
    requests = warmup.warmup_requests(SIZE, SIZE, config)
    assert {name for name, _ in requests} == set(signatures)
    # Each respects the limits of the export.
    assert requests[0][1]["images"].shape == (1, 20, 20, 3)
    text = documents.batching_config(config)
    assert "NOT" not in text and "max_batch_size { value: 5 }" in text
    text = documents.readme("x", "1", model)
    assert "adapt_and_segment" not in text and "support" not in text


@pytest.fixture
def quick(monkeypatch):
    """Exports everything but the network, which is not what these tests are about."""
    network = Network(tiny_network(SIZE))
    inner = build_inner_loop(LearnerConfig(), network)

    def save(served, path, signatures):
        (Path(path) / "saved_model.pb").write_text("new")

    monkeypatch.setattr(tf.saved_model, "save", save)

    def export(output: Path, **options) -> None:
        defaults = Settings(1, 0.1, "support")
        served = ServedModel(inner, network.weights(), defaults, ExportConfig())
        folder.export(output, served, **options)

    return export


def test_a_model_is_overwritten_only_on_demand(tmp_path, quick):
    output = tmp_path / "1"
    output.mkdir()  # empty: nothing to lose
    quick(output)
    (output / "saved_model.pb").write_text("old")
    with pytest.raises(UserError, match="holds a model already.*`overwrite`"):
        quick(output)
    assert (output / "saved_model.pb").read_text() == "old"
    quick(output, overwrite=True)
    assert (output / "saved_model.pb").read_text() == "new"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_model_stays(tmp_path, quick, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not an exported model"):
        quick(tmp_path, overwrite=overwrite)
    file = tmp_path / "thesis.tex"
    with pytest.raises(UserError, match="is not an exported model"):
        quick(file, overwrite=overwrite)
    assert file.read_text() == "years of work"


def test_a_failure_leaves_what_was_there(tmp_path, quick, monkeypatch):
    output = tmp_path / "1"
    quick(output)
    (output / "saved_model.pb").write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_warmup", fail)
    with pytest.raises(UserError, match="No space left on device"):
        quick(output, overwrite=True)
    assert (output / "saved_model.pb").read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_the_name_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder.model_name(Path("saved_models/icons/12")) == "icons"
    assert folder.model_name(Path("saved_models/icons")) == "icons"
    assert folder.model_name(Path("1")) == tmp_path.name
