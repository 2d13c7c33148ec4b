"""The files of examples/serving: parsed, and held against what an export writes.

Neither Docker nor a cluster is needed, so nothing of it runs here, but for the health
check's own command.
"""

import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from google.protobuf import text_format

from efficientlab_tf.config import ExportConfig
from efficientlab_tf.serving import documents
from tests.serving.test_folder import messages

model_server_config_pb2 = pytest.importorskip(
    "tensorflow_serving.config.model_server_config_pb2", reason="pip install .[dev]"
)
yaml = pytest.importorskip("yaml", reason="pip install .[dev]")

FOLDER = Path(__file__).parents[2] / "examples" / "serving"
NAME = "icons"


def read(name):
    return (FOLDER / name).read_text("utf-8")


def metrics_path() -> str:
    """Where an export's monitoring configuration puts the metrics."""
    classes = messages(
        PrometheusConfig={"enable": (1, "bool"), "path": (2, "string")},
        MonitoringConfig={"prometheus_config": (1, "PrometheusConfig")},
    )
    parsed = text_format.Parse(
        documents.MONITORING_CONFIG, classes["MonitoringConfig"]()
    )
    assert parsed.prometheus_config.enable
    return parsed.prometheus_config.path


def instruction(name: str) -> list[str]:
    """The words of an instruction of the Dockerfile."""
    text = re.sub(r"\\\n\s*", "", read("Dockerfile"))
    (line,) = [one for one in text.splitlines() if one.startswith(name)]
    return json.loads(line[line.index("[") :])


def test_the_models_are_where_the_image_has_them():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(read("models.config"), config)
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == (NAME, "tensorflow")
    assert model.base_path == f"/models/{NAME}"
    assert model.model_version_policy.latest.num_versions == 1
    assert "COPY served /models\n" in read("Dockerfile")


def test_the_servers_flags_name_files_that_are_there():
    binary, *given = instruction("ENTRYPOINT")
    assert binary == "tensorflow_model_server"
    options = dict(word[2:].split("=") for word in given if "=" in word)
    assert (options["port"], options["rest_api_port"]) == ("8500", "8501")
    assert "--enable_batching" in given
    assert Path(options["model_config_file"]).name in read("Dockerfile")
    version = f"/models/{NAME}/1"
    assert options["monitoring_config_file"] == f"{version}/monitoring_config.txt"
    assert options["batching_parameters_file"] == f"{version}/batching_config.txt"
    # With adaptation a model does not load under --enable_batching.
    assert "NOT" in documents.batching_config(ExportConfig())
    assert "NOT" not in documents.batching_config(ExportConfig(adaptation=False))
    page = (FOLDER.parents[1] / "docs" / "serving.md").read_text("utf-8")
    assert f"--output=served/{NAME}/1 --adaptation=false" in re.sub(
        r"\\\n\s*", "", page
    )


@pytest.mark.parametrize("state", ["AVAILABLE", "LOADING"])
def test_the_health_check(state):
    class Status(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            assert self.path == f"/v1/models/{NAME}"
            status = {"model_version_status": [{"version": "1", "state": state}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(status, indent=1).encode())

        def log_message(self, *_):
            pass

    def check(port):
        *command, script = instruction("HEALTHCHECK")
        assert command == ["bash", "-c"] and "/8501 " in script
        script = script.replace("/8501 ", f"/{port} ")
        return subprocess.run([*command, script], timeout=30, capture_output=True)

    server = HTTPServer(("127.0.0.1", 0), Status)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert (check(server.server_port).returncode == 0) == (state == "AVAILABLE")
    server.shutdown()
    server.server_close()
    assert check(server.server_port).returncode != 0


def test_compose_and_prometheus():
    services = yaml.safe_load(read("compose.yaml"))["services"]
    serving, prometheus = services["serving"], services["prometheus"]
    assert (FOLDER / serving["build"] / "Dockerfile").is_file()
    assert {port.split(":")[-1] for port in serving["ports"]} == {"8500", "8501"}
    assert prometheus["depends_on"] == {"serving": {"condition": "service_healthy"}}
    (volume,) = prometheus["volumes"]
    source, target, _ = volume.split(":")
    assert prometheus["command"] == [f"--config.file={target}"]
    (job,) = yaml.safe_load((FOLDER / source).read_text("utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["serving:8501"]}]
    assert job["metrics_path"] == metrics_path()


def test_kserve():
    service = yaml.safe_load(read("kserve.yaml"))
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert service["kind"] == "InferenceService"
    predictor = service["spec"]["predictor"]
    assert 1 <= predictor["minReplicas"] < predictor["maxReplicas"]
    assert predictor["scaleMetric"] == "concurrency" and predictor["scaleTarget"] > 0
    model = predictor["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["storageUri"].endswith(f"/{NAME}")
    (argument,) = model["args"]
    assert argument == "--monitoring_config_file=/mnt/models/1/monitoring_config.txt"
    probe = model["readinessProbe"]["httpGet"]
    notes = service["metadata"]["annotations"]
    assert notes["prometheus.kserve.io/port"] == str(probe["port"])
    assert notes["prometheus.kserve.io/path"] == metrics_path()
    assert probe["path"] == f"/v1/models/{service['metadata']['name']}"
