"""A server as a process: what it does with bad clients, with too many, when it is ended, and with trainings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from conftest import SMALLEST
from tiny_disk import tiny_disk

from fpclass import cli

pytestmark = pytest.mark.promise
TOKEN = "a token of many letters"


class Process:
    """A server that is ready."""

    def __init__(self, folder: pathlib.Path, log: pathlib.Path, *flags: str):
        self.log = log
        command = [sys.executable, "-m", "fpclass", "serve", str(folder), "--port=0", "--page=no", *flags]
        environment = {**os.environ, "FPCLASS_TRAIN_TOKEN": TOKEN}
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        self.port = int(self.wait_for(r"listening on http://127.0.0.1:(\d+)"))
        self.wait_for('"(ready)"')
        self.address = f"http://127.0.0.1:{self.port}"

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.log.read_text()):
                return found[1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())


@contextlib.contextmanager
def serving(folder: pathlib.Path, log: pathlib.Path, *flags: str) -> Iterator[Process]:
    server = Process(folder, log, *flags)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def request_of(photo: bytes) -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(photo)}\r\n\r\n"
    return head.encode() + photo


async def send(port: int, data: bytes, then: Any = None) -> bytes:
    """What the server answers to some bytes; `then` may do something before the answer is waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    if then:
        await then(writer)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # pyright: ignore
        return head + await reader.readexactly(length)
    finally:
        writer.close()


def test_bad_clients_cost_nobody_anything(photo_run, photos, tmp_path):
    whole = request_of(sorted(photos.glob("cat/*"))[0].read_bytes())
    with serving(photo_run, tmp_path / "log", "--seconds=5") as server:

        async def half_and_away() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(whole[: len(whole) // 2])
            await writer.drain()
            writer.close()

        async def until_closed(begin: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(begin)
            try:
                async with asyncio.timeout(30):
                    return await reader.read()
            finally:
                writer.close()

        async def answers_to_who_reads_late(count: int) -> int:
            asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * count
            with socket.socket() as late:
                late.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                late.setblocking(False)
                loop, found = asyncio.get_running_loop(), b""
                await loop.sock_connect(late, ("127.0.0.1", server.port))
                sending = asyncio.create_task(loop.sock_sendall(late, asked))
                await asyncio.sleep(9)
                with contextlib.suppress(OSError):
                    async with asyncio.timeout(30):
                        while chunk := await loop.sock_recv(late, 2**20):
                            found += chunk
                await asyncio.gather(sending, return_exceptions=True)
                return found.count(b"HTTP/1.1 200")

        async def bad_clients() -> list[Any]:
            for _ in range(5):
                await half_and_away()
            slow = [whole[:-10], b"", b"POST /predict HTTP/1.1\r\nHost:", whole + whole[:20]]
            late = answers_to_who_reads_late(2000)
            return await asyncio.gather(*(until_closed(begin) for begin in slow), send(server.port, whole), late)

        slow, silent, without_headers, second, fine, num_read = asyncio.run(bad_clients())
        assert num_read < 2000, "closed, as nobody read"
        assert (silent, without_headers) == (b"", b""), "closed, though no request was ever there to time"
        assert second.startswith(b"HTTP/1.1 200")
        assert slow.startswith(b"HTTP/1.1 408")
        assert fine.startswith(b"HTTP/1.1 200")
        assert "defect" not in server.log.read_text()


def test_connections_beyond_the_limit_are_told_to_come_back(photo_run, photos, tmp_path):
    whole = request_of(sorted(photos.glob("cat/*"))[0].read_bytes())
    with serving(photo_run, tmp_path / "log", "--max-connections=20") as server:

        async def crowd() -> tuple[bytes, bytes, bytes]:
            idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
            refused = await send(server.port, whole)
            reader, silent = await asyncio.open_connection("127.0.0.1", server.port)
            async with asyncio.timeout(20):  # of the 30 s that others have
                nothing = await reader.read()
            silent.close()
            for _, writer in idle:
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(0.5)
            return refused, nothing, await send(server.port, whole)

        refused, nothing, fine = asyncio.run(crowd())
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in refused.lower()
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"].startswith("too many connections")
        assert nothing == b""
        assert fine.startswith(b"HTTP/1.1 200")


def test_a_thousand_connections_and_the_last_answer_after_the_signal(photo_run, photos, tmp_path):
    whole = request_of(sorted(photos.glob("cat/*"))[0].read_bytes())
    with serving(photo_run, tmp_path / "log", "--seconds=60") as server:

        async def crowd() -> list[bytes]:
            rooms = asyncio.Semaphore(400)  # of this process's own descriptors
            begun = asyncio.Barrier(400)  # so that, however fast it answers, they are there at once

            async def end_together(writer: asyncio.StreamWriter) -> None:
                await begun.wait()
                await asyncio.sleep(1)
                writer.write(whole[-10:])

            async def one(number: int) -> bytes:
                async with rooms:
                    if number < begun.parties:
                        return await send(server.port, whole[:-10], end_together)
                    return await send(server.port, whole)

            return await asyncio.gather(*(one(number) for number in range(1000)))

        answers = asyncio.run(crowd())
        assert {answer[:12] for answer in answers} == {b"HTTP/1.1 200", b"HTTP/1.1 429"}
        assert all(b"retry-after: " in answer.lower() for answer in answers if answer[9:12] == b"429")

        async def end_and_send_the_rest(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1)  # so that the server has begun to read
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            writer.write(whole[-10:])

        async def last() -> list[bytes]:
            return await asyncio.gather(*(send(server.port, whole[:-10], end_and_send_the_rest) for _ in range(20)))

        assert {answer[:12] for answer in asyncio.run(last())} == {b"HTTP/1.1 200"}
        assert server.process.wait(60) == 0
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        assert lines[-1]["event"] == "stopped"
        assert not [line for line in lines if line["event"] == "defect"]
        assert {line["status"] for line in lines if line["event"] == "request"} == {200, 429}


def test_a_training_on_request_is_one_at_a_time_and_says_why_it_failed(photo_run, photos, tmp_path):
    config = tmp_path / "mine.py"
    keys = {
        **SMALLEST,
        "data.root": str(photos),
        "data.source": "folder",
        "data.image_size": (24, 20),
        "data.channels": 3,
    }
    lines = [f"    config.{key} = {value!r}" for key, value in keys.items()]
    config.write_text(
        "from configs import base\n\n\ndef get_config():\n    config = base.get_config()\n" + "\n".join(lines)
    )
    config.write_text(config.read_text() + "\n    return config\n")
    with tiny_disk(tmp_path / "disk", 300) as jobs:
        flags = (f"--allow-train={config}", f"--jobs={jobs}")
        with (
            serving(photo_run, tmp_path / "log", *flags) as server,
            httpx2.Client(base_url=server.address, headers={"authorization": f"Bearer {TOKEN}"}) as client,
        ):
            started = client.post("/train", json={"config": "mine"})
            assert started.status_code == 202, started.text
            assert client.post("/train", json={"config": "mine"}).status_code == 409
            (child,) = _children(server.process.pid)
            os.kill(child, signal.SIGKILL)
            killed = _end_of(client, f"/jobs/{started.json()['id']}")
            assert killed["error"] == "killed by signal 9 (SIGKILL)"
            full = client.post("/train", json={"config": "mine"}).json()
            told = _end_of(client, f"/jobs/{full['id']}")
            assert told["status"] == "failed"
            assert "No space left" in told["error"], told
            assert str(tmp_path) not in json.dumps(told)


def test_an_altered_bundle_is_not_served(photo_run, tmp_path, capsys):
    assert cli.main(["bundle", str(photo_run), f"--output={tmp_path / 'bundle'}"]) == 0
    weights = tmp_path / "bundle" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert cli.main(["serve", f"--bundle={tmp_path / 'bundle'}"]) == 2
    said = capsys.readouterr().err
    assert "was altered: sha256" in said
    assert said.count("\n") == 1


def _children(process: int) -> list[int]:
    tasks = pathlib.Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _end_of(client: httpx2.Client, path: str) -> dict[str, Any]:
    for _ in range(600):
        told = client.get(path).json()
        if told["status"] != "running":
            return told
        time.sleep(0.1)
    raise AssertionError(told)
