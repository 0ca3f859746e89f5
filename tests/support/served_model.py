"""A server's application in this process, for tests."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from starlette.testclient import TestClient

from fpclass.deploy.serve.app import make_app
from fpclass.deploy.serve.served import Served, open_served
from fpclass.deploy.serve.service import Service
from fpclass.deploy.serve.settings import Settings


@contextlib.contextmanager
def client_of(model: pathlib.Path | Served, **settings: Any) -> Iterator[TestClient]:
    """A client of a server that is ready, of a model or of its folder."""
    served = model if isinstance(model, Served) else open_served(model)
    failures: list[BaseException] = []
    app = make_app(Service(served, Settings(**settings)), failures.append)
    with TestClient(app, raise_server_exceptions=False) as client:
        deadline = time.monotonic() + 120
        while client.get("/ready").status_code == 503 and time.monotonic() < deadline and not failures:
            time.sleep(0.05)
        assert not failures
        yield client
