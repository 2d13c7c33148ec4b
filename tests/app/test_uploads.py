"""What is sent to the page at once is bounded, whatever each file has."""

import pytest

from efficientlab_tf.app.config import AppConfig

gradio = pytest.importorskip("gradio", reason="gradio is not installed: the extra app")


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A page that takes files of 3 kB, at most 5 kB together."""
    from starlette.testclient import TestClient

    from efficientlab_tf.app.uploads import batch_limit

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with gradio.Blocks(analytics_enabled=False) as page:
        gradio.File(file_count="multiple")
    page.max_file_size = 3000
    middleware = [batch_limit(AppConfig(max_batch_mb=0.005))]
    app = gradio.routes.App.create_app(page, app_kwargs={"middleware": middleware})
    return TestClient(app)


def send(client, *sizes):
    files = [("files", (f"{i}.png", b"x" * size)) for i, size in enumerate(sizes)]
    return client.post("/gradio_api/upload", files=files)


def test_batches_within_the_limit(client, tmp_path):
    answer = send(client, 2000, 2000)
    assert answer.status_code == 200 and len(answer.json()) == 2
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([2000] * 3, "together exceeded the maximum allowed size of 0.005 MB; drop in"),
        ([10] * 60, "together exceeded"),
        ([3500], "File size exceeded"),
    ],
)
def test_batches_beyond_it(client, tmp_path, sizes, message):
    answer = send(client, *sizes)
    assert answer.status_code == 413 and message in answer.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_other_requests_are_bounded_too(client):
    answer = client.post("/gradio_api/queue/join", json={"data": ["x" * 6000]})
    assert answer.status_code == 400
