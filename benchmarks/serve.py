"""The server's latency, throughput and memory, against the same network in a plain Flask and PyTorch handler.

Both servers get the same files from the same clients, in turns, on the same cores, which the clients share.
The handler is what one writes first: Pillow, a tensor, the network, JSON, Flask's own threaded server. Its answers are
compared with the server's before anything is timed. CPU milliseconds of a server per image say more than times on a
machine with other work.

Run: python benchmarks/serve.py [--run RUN] [--requests 2000] [--seconds 21] [--memory 20000]

RUN is a run of the baseline; without it one is trained for two epochs on drawn prints. It needs the extras `serve` and
`parity`, and Flask.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

CLIENTS = 16
ROUNDS = 7


class Connection(asyncio.Protocol):
    """A connection on which one request waits for its answer at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.is_over = False
        self._buffer = b""
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def post(self, request: bytes) -> bytes:
        """The body of the answer to a request."""
        self._buffer, self._answer = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        headers = head.lower()
        if not end or self._answer.done() or len(body) < int(headers.split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        self.is_over = head.startswith(b"HTTP/1.0") or b"connection: close" in headers
        if b" 200 " in head[:13]:
            self._answer.set_result(body)
        else:
            self._answer.set_exception(RuntimeError(self._buffer[:500].decode(errors="replace")))


class Client:
    """Sends one request after the other, and connects again where the server hangs up."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes]):
        self._address, self._requests = address, requests
        self._connection: Connection | None = None

    async def post(self, number: int) -> bytes:
        """The body of the answer to a request."""
        if self._connection is None or self._connection.is_over:
            _, self._connection = await asyncio.get_running_loop().create_connection(Connection, *self._address)
        return await self._connection.post(self._requests[number % len(self._requests)])


async def one_after_the_other(client: Client, count: int) -> list[float]:
    """Seconds of each request of a single client."""
    seconds = []
    for number in range(count):
        started = time.perf_counter()
        await client.post(number)
        seconds.append(time.perf_counter() - started)
    return seconds


async def all_at_once(clients: Sequence[Client], count: float, seconds: float) -> tuple[int, float]:
    """How many requests several clients got answers to, in how many seconds; until `count` or `seconds` are reached."""
    started, num_done = time.perf_counter(), 0

    async def keep_asking(client: Client) -> None:
        nonlocal num_done
        while num_done < count and time.perf_counter() - started < seconds:
            num_done += 1
            await client.post(num_done)

    await asyncio.gather(*map(keep_asking, clients))
    return num_done, time.perf_counter() - started


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(process: int) -> float:
    """Memory of a process, MB."""
    return int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def server(command: Sequence[str], port: int) -> Iterator[int]:
    """A server process that is ready; gives its id."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            asyncio.run(_until_ready(port, process))
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


async def _until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    request = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with contextlib.suppress(OSError, RuntimeError):
            await Client(("127.0.0.1", port), [request]).post(0)
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{process.args} is not ready")


def requests_of(files: Sequence[pathlib.Path]) -> list[bytes]:
    """A request of each file's bytes."""
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n"
    return [head.format(file.stat().st_size).encode() + file.read_bytes() for file in files]


def latency(name: str, process: int, port: int, requests: Sequence[bytes], count: int) -> None:
    """Prints a row of the table of a single client."""

    async def run() -> tuple[list[float], float]:
        client = Client(("127.0.0.1", port), requests)
        await one_after_the_other(client, 50)
        begun = cpu_seconds(process)
        return await one_after_the_other(client, count), cpu_seconds(process) - begun

    seconds, cpu = asyncio.run(run())
    p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
    print(f"| {name} | {p50:.1f} | {p99:.1f} | {1e3 * cpu / count:.1f} |", flush=True)


def throughput(servers: dict[str, tuple[int, int]], requests: Sequence[bytes], seconds: float) -> None:
    """Prints a row for each server, by name its process and port, with how many times the last one's images it answers.

    In turns, so that what else the machine does is shared; the middle one of the rounds counts.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}

    async def ask(process: int, port: int, seconds: float) -> tuple[float, float]:
        clients = [Client(("127.0.0.1", port), requests) for _ in range(CLIENTS)]
        await all_at_once(clients, 100, 60)
        begun = cpu_seconds(process)
        num_done, took = await all_at_once(clients, float("inf"), seconds)
        return num_done / took, 1e3 * (cpu_seconds(process) - begun) / num_done

    for _ in range(ROUNDS):
        for name, (process, port) in servers.items():
            found[name].append(asyncio.run(ask(process, port, seconds / ROUNDS)))
    print(f"\n| server | {CLIENTS} clients: images/s | CPU ms an image | times the last |\n|---|---|---|---|")
    last = np.array(list(found.values())[-1])
    for name, rounds in found.items():
        rate, cpu = np.median(rounds, axis=0)
        ratios = np.sort(np.array(rounds)[:, 0] / last[:, 0])
        print(f"| {name} | {rate:.0f} | {cpu:.2f} | {np.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |")


def memory(process: int, port: int, requests: Sequence[bytes], count: int) -> None:
    """Prints the memory of a server before, while and after so many requests of several clients."""

    async def run() -> list[float]:
        clients = [Client(("127.0.0.1", port), requests) for _ in range(CLIENTS)]
        seen = []
        for _ in range(10):
            await all_at_once(clients, count / 10, float("inf"))
            seen.append(resident_mb(process))
        return seen

    before = resident_mb(process)
    seen = asyncio.run(run())
    print(f"\nmemory: {before:.0f} MB before {count} requests, then {', '.join(f'{mb:.0f}' for mb in seen)} MB")


# --- the plain handler ----------------------------------------------------------------------------


def serve_flask(weights: pathlib.Path, port: int) -> None:
    """The baseline in PyTorch behind a route of Flask."""
    import io

    import torch
    from flask import Flask, jsonify, request
    from PIL import Image
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 27 * 17, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 2),
    ).eval()  # fmt: skip
    model.load_state_dict({name: torch.from_numpy(value) for name, value in np.load(weights).items()})
    app = Flask(__name__)

    @app.get("/ready")
    def ready() -> Any:
        return jsonify(status="ready")

    @app.post("/predict")
    def predict() -> Any:
        image = Image.open(io.BytesIO(request.get_data()))
        if image.mode == "RGBA":  # transparency over white, as in training
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L").resize((80, 120), Image.Resampling.BICUBIC)
        tensor = torch.from_numpy(np.array(image, np.float32)[None, None]).div_(255).sub_(0.5).div_(0.5)
        with torch.no_grad():
            probabilities = torch.softmax(model(tensor)[0], 0).tolist()
        return jsonify(label=int(np.argmax(probabilities)), probabilities=probabilities)

    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app.run(port=port, threaded=True)


def write_weights(run: pathlib.Path, path: pathlib.Path) -> None:
    """The weights of a run of the baseline, as PyTorch's layers of `serve_flask` have them."""
    from fpclass.deploy.source import open_source, predictor_of

    ((network,),) = predictor_of(open_source(run)).members.values()
    params: dict[str, Any] = network.variables["params"]
    found = {}
    for layer, name in ((0, "conv1"), (3, "conv2")):
        inner = params[name].get("conv", params[name])
        found[f"{layer}.weight"] = np.asarray(inner["kernel"]).transpose(3, 2, 0, 1)
        found[f"{layer}.bias"] = np.asarray(inner["bias"])
    for layer, name in ((7, "dense1"), (9, "dense2"), (11, "logits")):
        inner = params[name].get("dense", params[name])
        kernel = np.asarray(inner["kernel"])
        if layer == 7:  # Flax flattens places before channels
            kernel = kernel.reshape(27, 17, 16, 120).transpose(2, 0, 1, 3).reshape(-1, 120)
        found[f"{layer}.weight"], found[f"{layer}.bias"] = kernel.T, np.asarray(inner["bias"])
    np.savez(path, **found)


def compare(ports: tuple[int, int], requests: Sequence[bytes]) -> None:
    """Raises where the two servers answer differently."""

    async def answers(port: int) -> list[dict[str, Any]]:
        client = Client(("127.0.0.1", port), requests)
        return [json.loads(await client.post(number)) for number in range(8)]

    ours, theirs = (asyncio.run(answers(port)) for port in ports)
    for one, other in zip(ours, theirs, strict=True):
        expected = list(one["predictions"][0]["probabilities"].values())
        np.testing.assert_allclose(other["probabilities"], expected, atol=0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, help="of the baseline")
    parser.add_argument("--requests", type=int, default=2000, help="of one client")
    parser.add_argument("--seconds", type=float, default=21, help="of 16 clients, of each server")
    parser.add_argument("--memory", type=int, default=20_000, help="requests while memory is looked at")
    parser.add_argument("--images", type=pathlib.Path, help="folder of prints; default: drawn ones")
    parser.add_argument("--flask", nargs=2, metavar=("WEIGHTS", "PORT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.flask:
        serve_flask(pathlib.Path(args.flask[0]), int(args.flask[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        fpclass = [sys.executable, "-m", "fpclass"]
        if args.images is None:
            args.images = scratch / "prints"
            subprocess.run([*fpclass, "synthesize", str(args.images)], check=True, stdout=subprocess.DEVNULL)
        if args.run is None:
            args.run = scratch / "run"
            keys = ["--config=configs/footprints/baseline.py", "--config.train.num_epochs=2"]
            train = [*fpclass, "train", str(args.images), *keys, f"--workdir={args.run}", "--until=evaluate"]
            subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
        requests = requests_of(sorted(args.images.rglob("*.png"))[:200])
        write_weights(args.run, scratch / "weights.npz")
        ours, theirs = 8731, 8732
        flask = [sys.executable, __file__, "--flask", str(scratch / "weights.npz"), str(theirs)]
        with (
            server([*fpclass, "serve", str(args.run), f"--port={ours}"], ours) as process,
            server(flask, theirs) as other,
        ):
            compare((ours, theirs), requests)
            print("| server | one client: p50 ms | p99 ms | CPU ms an image |\n|---|---|---|---|")
            servers = {"fpclass serve": (process, ours), "Flask, PyTorch": (other, theirs)}
            for name, (its_process, port) in servers.items():
                latency(name, its_process, port, requests, args.requests)
            throughput(servers, requests, args.seconds)
            memory(process, ours, requests, args.memory)


if __name__ == "__main__":
    main()
