"""What visitors of the page may ask: the guard in front of Gradio, around an application that answers everything."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from fpclass.deploy.serve import guard
from fpclass.deploy.serve.guard import FILE, JOIN, UPLOAD, Guarded


async def anything(scope, receive, send):
    body = await Request(scope, receive).body()
    await JSONResponse({"bytes": len(body)})(scope, receive, send)


@pytest.fixture
def uploads(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"a")
    (tmp_path / "secret.png").write_bytes(b"s")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


@pytest.fixture
def client(uploads):
    return TestClient(Guarded(anything, uploads, keep_seconds=60))


def test_the_page_may_ask_what_it_asks_and_nothing_else(client, uploads):
    for path in ("/", "/config", "/assets/index.js", "/gradio_api/queue/data?session_hash=a", f"{FILE}{uploads}/a.png"):
        assert client.get(path).status_code == 200, path
        assert client.head(path).status_code == 200, path
    foreign = ["http://127.0.0.1:9/a.png", "/etc/passwd", f"{uploads}/../secret.png", f"{uploads}/link.png", "a%00"]
    others = ["proxy=http://a", "runs", "openapi.json", "file/etc/passwd", "deep_link", "custom_component/a/b/c/d"]
    for path in [FILE + name for name in foreign] + [f"/gradio_api/{name}" for name in others] + ["/monitoring"]:
        assert client.get(path).status_code == 404, path
    for path in ("/gradio_api/run/answer", "/gradio_api/call/answer", "/gradio_api/component_server", "/login"):
        assert client.post(path, json={}).status_code == 404, path


def test_a_click_names_uploaded_pictures_alone(client, uploads):
    def click(**file):
        return client.post(JOIN, json={"data": [[{"image": file, "caption": None}], 24], "fn_index": 0})

    told = click(path=f"{uploads}/a.png", url="http://127.0.0.1/gradio_api/file=a.png")
    assert told.status_code == 200
    assert told.json()["bytes"] > 50, "what was looked at is handed on"
    for path in ("/etc/passwd", f"{uploads}/../secret.png", f"{uploads}/link.png", "http://127.0.0.1:9/a.png", None, 3):
        assert click(path=path, meta={"_type": "gradio.FileData"}).status_code == 403, path
        assert click(path=path).status_code == 403, path
    for body in (b"", b"{", json.dumps({"path": ["a"]}).encode(), b"[" * 100_000):
        assert client.post(JOIN, content=body).status_code == 403


def test_uploads_end_where_the_disk_would_be_full(client, monkeypatch):
    monkeypatch.setattr(guard, "MAX_KEPT_BYTES", 2000)
    answers = [client.post(UPLOAD, content=b"a" * 1000) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"] == "60"
