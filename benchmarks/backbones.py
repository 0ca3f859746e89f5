"""The ports against torchvision and timm: inference, a fine-tuning step, and epochs behind a frozen backbone.

Both sides have the same weights (drawn from a seed, through the real mapping tables) and the same images; their
logits are compared first, but for EfficientNetV2, whose drawn weights make too much of the last digit. Each side is a
process of its own: in one, memory that one side gives back may go to the host of a virtual machine, and the other one
waits for it. They take turns, three calls each, and the best of several rounds counts: on a shared machine anything
slower is somebody else's work.
A fine-tuning step is forward, backward and an SGD update of everything, in training mode. Frozen epochs train a new
head: PyTorch runs the backbone without gradients for every batch of every epoch; here its features are computed once,
which is shown beside it.

Run: pip install -e '.[parity]' && pip install --no-deps torchvision==0.28.0 timm==1.0.31
     python benchmarks/backbones.py                          (all networks at 224 x 224; on CPU half an hour)
     python benchmarks/backbones.py --networks resnet18 alexnet efficientnet_b0 --size 120 80
     python benchmarks/backbones.py --only step --devices 2  (train.num_devices)
     python benchmarks/backbones.py --dtype=bfloat16         (PyTorch in float32 and by autocast in bfloat16)
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "models"))

from backbone_cases import CASES
from reference_networks import build_torch
from test_parity import network_of, shapes_of, variables_of

from fpclass.common.huge_pages import restart_with_huge_pages
from fpclass.common.parallel import BATCH, batch_mesh, launch_each, put, use_all_cores
from fpclass.models.convolution import divided_over
from fpclass.models.network import Network, split_variables
from fpclass.models.parts import part_size
from fpclass.train.finetune import compute_in

LEARNING_RATE, MOMENTUM = 1e-3, 0.9
IN_A_ROW = 3
"""Calls of one side before it is the other one's turn."""


def best_times(
    ways: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Seconds of each way, the best of several rounds in turn, after one that does not count."""
    return best_of({name: functools.partial(_seconds, run, clock) for name, run in ways.items()}, rounds)


def best_of(measured: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """As `best_times`, of ways that give the seconds that they took."""
    times = [{name: measure() for name, measure in measured.items()} for _ in range(rounds + 1)]
    return {name: min(of_round[name] for of_round in times[1:]) for name in measured}


def _seconds(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


class Elsewhere(contextlib.AbstractContextManager["Elsewhere"]):
    """An object in a process of its own, which ends with the `with` block."""

    def __init__(self, make: Callable[..., Any], *args: Any):
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_obey, args=(theirs, make, args), daemon=True
        )
        self._process.start()
        theirs.close()

    def call(self, method: str, *args: Any) -> tuple[Any, float]:
        """What a method of it gives, and the seconds that it took there; what it raises is raised here."""
        self._pipe.send((method, args))
        result, seconds = self._pipe.recv()
        if isinstance(result, Exception):
            raise result
        return result, seconds

    def seconds(self, method: str) -> float:
        """What a method takes, the best of several calls in a row: in the first one memory may have to be fetched."""
        return min(self.call(method)[1] for _ in range(IN_A_ROW))

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _obey(pipe: Any, make: Callable[..., Any], args: Any) -> None:
    made = None
    while True:
        try:
            method, given = pipe.recv()
            made = made or make(*args)
            start = time.perf_counter()
            answer = getattr(made, method)(*given)
            pipe.send((answer, time.perf_counter() - start))
        except EOFError:  # who asked is gone
            return
        except Exception as error:
            pipe.send((error, 0.0))


class Ours:
    """The port, compiled."""

    def __init__(
        self,
        case: Any,
        arrays: dict[str, np.ndarray],
        images: np.ndarray,
        labels: np.ndarray,
        dtype: str,
        num_devices: int = 1,
    ):
        if num_devices > 1:
            use_all_cores()
        size = images.shape[1:3]
        self.model = network_of(case, size)
        self.dtype, self.num_devices = dtype, num_devices
        self.variables = jax.device_put(variables_of(case, shapes_of(self.model, size), arrays))
        self.images, self.labels = jnp.asarray(images), jnp.asarray(labels)
        self.optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)
        self.opt_state = self.optimizer.init(self.variables["params"])
        self.trained = jax.tree.map(jnp.copy, self.variables)
        self.key = jax.random.key(0)
        mesh = batch_mesh(num_devices)
        self.batch = put((self.images, self.labels), mesh, BATCH)
        self.trained, self.opt_state, self.key = put((self.trained, self.opt_state, self.key), mesh)
        # As prediction and the features of frozen stages do it: parts that the cache holds, a thread for each core.
        part = part_size(len(images), images.shape, self.variables["params"])
        self.parts = [jnp.asarray(of) for of in np.split(images, range(part, len(images), part))]
        self._forward = jax.jit(self._apply)
        self._step = jax.jit(self._train, donate_argnums=(0, 1))

    def _apply(self, variables: Any, images: Any) -> Any:
        variables = {**variables, "params": compute_in(variables["params"], self.dtype)}
        return self.model.apply(variables, compute_in(images, self.dtype), train=False)

    def _train(self, variables: Any, opt_state: Any, images: Any, labels: Any, key: Any) -> Any:
        rest = {kind: tree for kind, tree in variables.items() if kind != "params"}

        def loss_fn(params: Any) -> Any:
            inputs = {"params": compute_in(params, self.dtype), **rest}
            images_in = compute_in(images, self.dtype)
            logits, updated = self.model.apply(
                inputs, images_in, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
            return losses.mean(), updated

        (loss, updated), gradients = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
        updates, opt_state = self.optimizer.update(gradients, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), **rest, **updated}, opt_state, loss

    def infer(self) -> Any:
        logits = launch_each(lambda i: self._forward(self.variables, self.parts[i]), len(self.parts))
        return np.concatenate([np.asarray(part) for part in logits])

    def step(self) -> None:
        with divided_over(self.num_devices):
            self.trained, self.opt_state, loss = self._step(self.trained, self.opt_state, *self.batch, self.key)
        jax.block_until_ready((self.trained, loss))

    def make_frozen_epoch(self, num_batches: int) -> float:
        """Prepares `frozen_epoch`, of the head behind cached features; the seconds that computing them took."""
        names = self.model.stage_names
        frozen, _ = split_variables(self.variables, names)
        assert self.model.head is not None
        prefix, head = self.model.prefix(len(names)), Network((), self.model.head.clone(num_classes=2))
        features_of = jax.jit(lambda v, x: prefix.apply(v, x, train=False))
        jax.block_until_ready(features_of(frozen, self.parts[0]))
        start, parts = time.perf_counter(), self.parts * num_batches
        computed = [np.asarray(of) for of in launch_each(lambda i: features_of(frozen, parts[i]), len(parts))]
        features = jnp.asarray(np.stack(computed)).reshape(num_batches, -1, *computed[0].shape[1:])
        seconds = time.perf_counter() - start
        optimizer = self.optimizer

        @jax.jit
        def epoch(params: Any, opt_state: Any) -> Any:
            def step(carry: Any, batch: Any) -> Any:
                params, opt_state = carry

                def loss_fn(params: Any) -> Any:
                    logits = head.apply({"params": params}, batch, train=True, rngs={"dropout": self.key})
                    return optax.softmax_cross_entropy_with_integer_labels(logits, self.labels % 2).mean()

                loss, gradients = jax.value_and_grad(loss_fn)(params)
                updates, opt_state = optimizer.update(gradients, opt_state)
                return (optax.apply_updates(params, updates), opt_state), loss

            return jax.lax.scan(step, (params, opt_state), features)

        params = head.init(self.key, features[0], train=False)["params"]
        opt_state = optimizer.init(params)
        self.frozen_epoch = lambda: jax.block_until_ready(epoch(params, opt_state)) and None
        return seconds


class Theirs:
    """The network of torchvision, or of another PyTorch package, with weights drawn from a seed."""

    def __init__(self, original: str, options: dict[str, Any], images: np.ndarray, labels: np.ndarray):
        import torch

        self.torch = torch
        network, self._arrays = build_torch(original, **options)
        self.device = torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")
        self.dtype = torch.float32
        self.network = network.to(self.device)
        self.images = torch.tensor(images.transpose(0, 3, 1, 2).copy(), device=self.device)
        self.labels = torch.tensor(labels, device=self.device)
        if self.device.type == "cuda":  # what its own guide recommends there
            torch.set_float32_matmul_precision("high")  # TF32, as JAX takes it by itself
            self.network = self.network.to(memory_format=torch.channels_last)
            self.images = self.images.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights, by name."""
        return self._arrays

    def compute_in(self, dtype: str) -> None:
        """What everything after it is computed in."""
        self.dtype = getattr(self.torch, dtype)

    def _autocast(self) -> Any:
        return self.torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != self.torch.float32)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def infer(self) -> Any:
        self.network.eval()
        with self.torch.inference_mode(), self._autocast():
            logits = self.network(self.images)
        return logits.float().cpu().numpy()

    def step(self) -> None:
        self.network.train()
        self.optimizer.zero_grad()
        with self._autocast():
            output = self.network(self.images)
            logits = output[0] if isinstance(output, tuple) else output
            loss = self.torch.nn.functional.cross_entropy(logits, self.labels)
        loss.backward()
        self.optimizer.step()
        self._wait()

    def make_frozen_epoch(self, num_batches: int) -> None:
        """Prepares `frozen_epoch`: the backbone without gradients, and its head."""
        torch = self.torch
        head = torch.nn.Linear(1000, 2).to(self.device)  # small beside the backbone, whatever it is
        optimizer = torch.optim.SGD(head.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

        def epoch() -> None:
            self.network.eval()
            for _ in range(num_batches):
                with torch.no_grad(), self._autocast():
                    features = self.network(self.images)
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(head(features.float()), self.labels % 2)
                loss.backward()
                optimizer.step()
            self._wait()

        self.frozen_epoch = epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = {case.name: case for case in CASES if not case.parity.original.startswith("keras:")}
    parser.add_argument("--networks", nargs="+", default=list(cases), choices=list(cases), metavar="NAME")
    parser.add_argument("--size", nargs=2, type=int, default=(224, 224), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts; default %(default)s")
    parser.add_argument("--frozen-batches", type=int, default=4, help="of a frozen epoch; default %(default)s")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--devices", type=int, default=1, help="that share the batch of a step; of a CPU cores")
    parser.add_argument("--only", nargs="+", choices=["inference", "step", "frozen"], help="leave the others out")
    args = parser.parse_args()
    height, width = args.size
    device = jax.devices()[0].device_kind
    print(f"{device}, {args.dtype}, batch {args.batch}, {height} x {width}; milliseconds, ours over PyTorch's")
    columns = columns_for(args.dtype)
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in args.networks:
        print(row_of(cases[name], args), flush=True)


def dtypes_of_pytorch(dtype: str) -> list[str]:
    """What PyTorch computes in: what is asked for, and float32 beside it."""
    return list(dict.fromkeys(["float32", dtype]))


def columns_for(dtype: str) -> list[str]:
    """The columns of `row_of`."""
    return ["network", *columns_of("inference", dtype), *columns_of("step", dtype), "frozen epoch: ratio", "once"]


def columns_of(what: str, dtype: str) -> list[str]:
    theirs = [f"PyTorch {each}" if dtype != "float32" else "PyTorch" for each in dtypes_of_pytorch(dtype)]
    return [f"{what}: {theirs[0]}", *theirs[1:], "ours", *(f"ours / {each}" for each in theirs)]


def row_of(case: Any, args: argparse.Namespace) -> str:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((args.batch, *args.size, 3)).astype(np.float32)
    labels = rng.integers(0, 1000, args.batch)
    with Elsewhere(Theirs, case.parity.original, case.options_for(args.size), images, labels) as theirs:
        arrays, _ = theirs.call("arrays")
        with Elsewhere(Ours, case, arrays, images, labels, args.dtype, args.devices) as ours:
            if case.parity.dtype == "float32":  # others make too much of the last digit (docs/backbones.md)
                check_logits(case.name, ours.call("infer")[0], theirs.call("infer")[0], args.dtype)
            return f"| {' | '.join([case.name, *_cells(ours, theirs, args)])} |"


def check_logits(name: str, found: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    """Raises AssertionError where the two sides do not compute the same."""
    error = np.abs(found.astype(np.float32) - expected).max() / np.abs(expected).max()
    assert error < (1e-3 if dtype == "float32" else 0.1), f"{name}: the logits differ by {error:.2g}"


def _cells(ours: Elsewhere, theirs: Elsewhere, args: argparse.Namespace) -> list[str]:
    def theirs_in(dtype: str, method: str) -> float:
        theirs.call("compute_in", dtype)
        return theirs.seconds(method)

    cells, dtypes = [], dtypes_of_pytorch(args.dtype)
    for what, method in {"inference": "infer", "step": "step"}.items():
        if args.only and what not in args.only:
            cells += [""] * len(columns_of(what, args.dtype))
            continue
        ways = {dtype: functools.partial(theirs_in, dtype, method) for dtype in dtypes}
        times = best_of({**ways, "ours": functools.partial(ours.seconds, method)}, args.rounds)
        cells += [f"{1e3 * seconds:.0f}" for seconds in times.values()]
        cells += [f"{times['ours'] / times[dtype]:.2f}" for dtype in dtypes]
    if not args.only or "frozen" in args.only:
        once, _ = ours.call("make_frozen_epoch", args.frozen_batches)
        theirs.call("compute_in", args.dtype)
        theirs.call("make_frozen_epoch", args.frozen_batches)
        ways = {
            name: functools.partial(side.seconds, "frozen_epoch") for name, side in (("theirs", theirs), ("ours", ours))
        }
        times = best_of(ways, min(args.rounds, 3))
        cells += [f"1/{times['theirs'] / times['ours']:.0f}", f"{once / times['theirs']:.2f} epochs"]
    return cells


if __name__ == "__main__":
    restart_with_huge_pages()  # as fpclass does; PyTorch's side gets them too
    main()
