"""The sections of benchmarks/accelerator.py: functions from its arguments to lines of Markdown."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

FILES = {
    "within tolerances": (
        "tests/models/test_polyphase.py",
        "tests/models/test_conv.py",
        "tests/augment/test_geometry.py",
    ),
    "bit for bit": ("tests/train/test_engine.py", "tests/train/test_members.py"),
}
"""Of tests, by what they compare."""
CHOSEN = {"within tolerances": "not compiled_loop", "bit for bit": "bit_for_bit or padding_a_member or seed_decides"}
"""Which tests of them, for pytest's -k: not what is about the compiler of CPUs."""
CHOSEN_SMALL = "equals_the_direct or uninterrupted"
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
TOLERANCES = {"highest": 1e-5, "tensorfloat32": 5e-3, "bfloat16": 5e-2}
"""Largest error, over the largest number, by what products of float32 are computed in."""
CONFIGS = ("baseline", *(f"exp{i:02}" for i in range(1, 11)))
"""Of the study, in configs/footprints."""
STEPS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling",
}
"""JAX's names for what comes before a program runs."""
NETWORKS = ("resnet50", "vit_b_16", "efficientnet_b0", "convnext_tiny", "swin_t", "densenet121")
"""Backbones, the most telling first: those that the time is short for are missing."""


def table(*names: str) -> str:
    """The head of a table."""
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def peak_memory() -> str:
    """The most memory that this process has had, of the device where it says, otherwise of the computer."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return f"Peak memory: {stats['peak_bytes_in_use'] / 1e9:.2f} GB of {stats.get('bytes_limit', 0) / 1e9:.0f} GB."
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"Peak memory: {kilobytes / 1e6:.2f} GB of the computer's; the device does not say."


def tests(args: argparse.Namespace) -> Iterator[str]:
    yield table("tests", "passed", "failed", "s")
    precise = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    flags = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    environments = {
        "within tolerances": precise,
        "bit for bit": precise | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
    }
    for name, files in FILES.items():
        for file in files[: 1 if args.small else None]:
            chosen = CHOSEN_SMALL if args.small else CHOSEN[name]
            yield row(f"{name}: {file}", *run_tests(file, environments[name], chosen))
    yield "\n" + table("products of float32 in", *PRODUCTS, "tolerance", "")
    for precision, tolerance in TOLERANCES.items():
        errors = [error_of(product, shapes, precision) for product, shapes in PRODUCTS.values()]
        verdict = "ok" if max(errors) <= tolerance else "**too far off**"
        yield row(precision, *(f"{error:.1e}" for error in errors), f"{tolerance:.0e}", verdict)


def run_tests(file: str, environment: dict[str, str], chosen: str) -> tuple[str, str, str]:
    """How many tests of a file passed and failed, run by a process of its own, and seconds; as far as it came."""
    started, root = time.perf_counter(), Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-vv", "--tb=short", "-k", chosen, file]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | environment
    stopped = ""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            process.wait()
        except SystemExit:
            process.kill()
            stopped = " (stopped)"
        output.seek(0)
        text = output.read()
    found = Counter(word for line in text.splitlines() for word in line.split()[1:2])
    if process.returncode not in (0, 5):
        print(text[-6000:], file=sys.stderr)
    failed = found["FAILED"] + found["ERROR"]
    return str(found["PASSED"]), f"{failed}{stopped}", f"{time.perf_counter() - started:.0f}"


def error_of(product: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], precision: str) -> float:
    """How far a product of drawn numbers is off that in double precision, over the largest number in it."""
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal(shape) for shape in shapes]
    with jax.default_device(jax.devices("cpu")[0]), jax.enable_x64(True):
        exact = np.asarray(product(*map(jnp.asarray, drawn)))
    with jax.default_matmul_precision(precision):
        found = np.asarray(jax.jit(product)(*(jnp.asarray(x, jnp.float32) for x in drawn)))
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    logits = jnp.einsum("qd,kd->qk", query, key) / np.sqrt(query.shape[-1])
    return jax.nn.softmax(logits) @ value


def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "matrices 512 x 512": (jnp.matmul, ((512, 512), (512, 512))),
    "3x3 convolution": (convolve, ((4, 28, 28, 64), (3, 3, 64, 64))),
    "attention": (attend, ((197, 64), (197, 64), (197, 64))),
}
"""Products by their names, with the shapes of what they take."""


def convolution(args: argparse.Namespace) -> Iterator[str]:
    import convolution as gradients
    import engine

    yield table("two 3x3 layers, ms a step", "on the host", "compiled loop", "ratio")
    images, steps = (4, 2) if args.small else (32, 16)
    for name, outside, inside in gradients.measure(images, rounds=2 if args.small else 5, steps=steps):
        yield row(name, f"{outside:.2f}", f"{inside:.2f}", f"{inside / outside:.2f}")
    yield "\n" + table("baseline, form", "members", "first call s", "epoch s", "per member s")
    for count in (1,) if args.small else (1, 25):
        for form in ("polyphase", "direct"):
            first, rest = engine.measure(form, count, epochs=1 if args.small else 5)
            yield row(form, count, f"{first:.1f}", f"{min(rest):.4f}", f"{min(rest) / count:.4f}")


class Stopwatch:
    """Seconds and calls by name; several may run at the same time."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] += seconds  # pyright: ignore[reportArgumentType]
        self.calls[name] += 1

    def timed(self, name: str, function: Callable[..., Any], *, is_put: bool = False) -> Callable[..., Any]:
        """The function, timed from when its arguments are computed; with `is_put`, until its result is there."""

        def call(*args: Any, **options: Any) -> Any:
            jax.block_until_ready(args)
            started = time.perf_counter()
            result = function(*args, **options)
            if is_put:
                jax.block_until_ready(result)
            self.add(name, time.perf_counter() - started)
            return result

        return call


def study(args: argparse.Namespace) -> Iterator[str]:
    from fpclass import cli
    from fpclass.study import conclude, run
    from fpclass.train import checkpoints

    watch = Stopwatch()
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: watch.add(STEPS[event], seconds) if event in STEPS else None
    )
    configs = [next(Path("configs/footprints").glob(f"{name}*.py")) for name in CONFIGS[: 2 if args.small else None]]
    folds, seeds, epochs, images = (2, 1, 2, 60) if args.small else (5, 5, 50, 2628)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.dict(os.environ, {"FPCLASS_CACHE": f"{folder}/cache"}))
        for place, name, what in (
            (run, "train_study", "training, all of it"),
            (conclude, "conclude", "judging and drawing"),
            (checkpoints, "save", "saving, callers wait"),
            (jax, "device_get", "device to host"),
            (jax, "device_put", "host to device"),
        ):
            patched = watch.timed(what, getattr(place, name), is_put=name == "device_put")
            patches.enter_context(mock.patch.object(place, name, patched))
        command = ["study", "--configs", *map(str, configs), f"--folds={folds}", f"--seeds={seeds}"]
        command += [
            f"--workdir={folder}/study",
            "--config.data.source=synthetic",
            f"--config.train.num_epochs={epochs}",
        ]
        command += [f"--config.data.synthetic.num_images={images}", "--config.evaluate.num_resamples=200"]
        started = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            code = cli.main(command)
        total = time.perf_counter() - started
        done = len(list(Path(folder, "study").rglob("predictions.csv")))
    wanted = len(configs) * folds * seeds
    yield f"{done} of {wanted} members trained, {images} images, {epochs} epochs; exit code {code}. Compiling and"
    yield "saving may run beside the training; transfers are without the waiting for what is transferred.\n"
    yield table("what", "s", "times")
    yield row("all of it, data drawn and judged", f"{total:.1f}", 1)
    for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        yield row(name, f"{seconds:.1f}", watch.calls[name])


def airbench(args: argparse.Namespace) -> Iterator[str]:
    import airbench as recipe

    from fpclass.experiment import load_config

    if not args.data:
        yield "Skipped: no --data."
        return
    config = load_config(recipe.CONFIG, recipe.NARROW if args.small else ["--config.train.eval_every_epochs=1"])
    num_train, num_others = (400, 200) if args.small else (40_000, 10_000)
    dataset = recipe.read_images(args.data, config, num_train + num_others)
    yield table("epoch", "s of training", "accuracy", "loss")
    reached = "not reached"
    for epoch, seconds, scores in recipe.train(config, dataset, num_train, seed=0):
        accuracy = scores["validation_accuracy"]
        yield row(epoch, f"{seconds:.2f}", f"{accuracy:.4f}", f"{scores['validation_loss']:.3f}")
        if accuracy >= recipe.GOAL and reached == "not reached":
            reached = f"reached after epoch {epoch}, {seconds:.1f} s"
    yield f"\n{recipe.GOAL:.1%} on {num_others} images that were not trained on: {reached}."


def backbones(args: argparse.Namespace) -> Iterator[str]:
    try:
        import backbones as ports
        from reference_networks import import_torchvision

        import_torchvision()
    except (ImportError, RuntimeError) as error:
        yield f"Skipped: PyTorch with torchvision cannot be had ({error})."
        return
    cases = {case.name: case for case in ports.CASES if not case.parity.original.startswith("keras:")}
    options = argparse.Namespace(only=None, devices=1, frozen_batches=2, rounds=1 if args.small else 5)
    options.batch, options.size = (2, (64, 64)) if args.small else (64, (224, 224))
    yield f"Batch {options.batch}, {options.size[0]} x {options.size[1]}; milliseconds, and this project over PyTorch."
    yield "PyTorch's channels_last and TF32, and its autocast for bfloat16, on a GPU.\n"
    for options.dtype in ("float32", "bfloat16"):
        yield f"Computed in {options.dtype}:\n"
        yield table(*ports.columns_for(options.dtype))
        for name in ("resnet18",) if args.small else NETWORKS:
            yield ports.row_of(cases[name], options)
        yield ""


def costs(args: argparse.Namespace) -> Iterator[str]:
    import costs as of_steps

    yield from of_steps.rows(["baseline"] if args.small else list(of_steps.RECIPES))
