"""Operations and bytes of a training step of the main recipes, and the least time they take on an accelerator.

The step is that of `launch.py train`, augmentation and optimiser included, in the form that accelerators get: XLA's own
convolutions. Operations are those of XLA's cost analysis of the lowered program. Its bytes count every operation by
itself, as if nothing were fused ("unfused"). "MB" are what products, convolutions, reductions, gathers and sorts take
and give, all that is element by element fused into them, and the training state, read and written. Nothing is compiled.
The least time is the longer of those bytes over the bandwidth and the operations over the rate.

Run: python benchmarks/costs.py [--only baseline vit_b_16]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from fpclass.config import Config
from fpclass.experiment import load_config
from fpclass.train.device_engine import make_functions
from fpclass.train.memory import num_bytes
from fpclass.train.state import Dataset, Member
from fpclass.train.task import build_network

BASE = "configs/base.py"
RECIPES = {
    "baseline": ("configs/footprints/baseline.py",),
    "exp08, batch norm": ("configs/footprints/exp08_random_erasing_batch_norm_early_stopping.py",),
    "exp24_all_useful": ("configs/footprints/exp24_all_useful.py",),
    "vehicles_model1": ("configs/vehicles_animals/vehicles_model1.py",),
    "vehicles_airbench": ("configs/vehicles_animals/vehicles_airbench.py",),
    "everything (Lite0)": ("configs/transfer/everything.py",),
    "resnet18_proper": ("configs/footprints/resnet18_proper.py",),
    "resnet50": (BASE, "--config.model.name=resnet50", "--config.data.image_size=(224,224)"),
    "vit_b_16": (BASE, "--config.model.name=vit_b_16", "--config.data.image_size=(224,224)"),
}
"""Recipes by their names, with config and overrides; base.py stands for the whole network, trained from the start."""
BANDWIDTH, FLOAT32, RATES = 4.8e12, 66.9e12, {"float32": 494.7e12, "bfloat16": 989.4e12}
"""Of an H200 (SXM) as NVIDIA publishes them: bytes a second; operations a second without tensor cores, and with them,
dense, for float32 (which is then multiplied as TF32: JAX's default there) and for bfloat16."""


MOVES = (
    "dot_general",
    "conv_general_dilated",
    "gather",
    "scatter",
    "sort",
    "reduce",
    "arg",
    "cum",
    "select_and_scatter",
)
"""How the names of operations begin that take their operands from memory, and put their results there."""


class Cost(NamedTuple):
    """Of a step: operations, the least bytes, bytes with nothing fused, and images."""

    operations: float
    bytes: float
    unfused: float
    batch: int


def shape(*sizes: int, dtype: Any = jnp.int32) -> Any:
    return jax.ShapeDtypeStruct(sizes, dtype)


def cost_of(config: Config) -> Cost:
    """What a step of a config costs; nothing is computed."""
    batch, num_classes = config.train.batch_size, max(2, len(config.data.classes))
    size = (2 * batch, *config.data.image_size, config.data.channels)
    dataset = Dataset(
        shape(*size, dtype=jnp.uint8), shape(2 * batch), {}, shape(2 * batch) if config.model.subclasses else None
    )
    weights = shape(num_classes, dtype=jnp.float32)
    member = Member(shape(dtype=jnp.uint32), shape(2 * batch), shape(0), shape(batch), weights)
    with mock.patch.object(jax, "default_backend", return_value="gpu"):  # the forms that accelerators get
        functions = make_functions(build_network(config, num_classes), config)
        state = jax.eval_shape(functions.init, member, dataset)
        traced = jax.jit(functions.train_steps[-1]).trace(state, member, dataset, shape(batch))
        analysis = traced.lower().cost_analysis()
    least = moved(traced.jaxpr.jaxpr) + 2 * num_bytes(state)
    return Cost(analysis["flops"], least, analysis["bytes accessed"], batch)


def moved(jaxpr: Any) -> int:
    """Bytes that the operations of a traced program move, loops as often as they run, the larger branch of two."""
    total = 0
    for equation in jaxpr.eqns:
        values = [x for value in equation.params.values() for x in (value if isinstance(value, tuple) else (value,))]
        inner = [moved(getattr(x, "jaxpr", x)) for x in values if hasattr(getattr(x, "jaxpr", x), "eqns")]
        if inner:
            total += max(inner) * equation.params.get("length", 1)
        elif equation.primitive.name.startswith(MOVES):
            total += num_bytes([x.aval for x in (*equation.invars, *equation.outvars)])
    return total


def rows(names: list[str]) -> Iterator[str]:
    """The lines of the table, the head first."""
    columns = ("recipe", "computes in", "batch", "GFLOP", "MB", "MB unfused", "FLOP/byte")
    columns += ("bytes: ms", "tensor cores: ms", "float32: ms", "bound by")
    yield f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    for name in names:
        path, *overrides = RECIPES[name]
        if path == BASE:
            overrides += ["--config.data.channels=3", "--config.data.classes=('0','1')"]
        for dtype, rate in RATES.items() if path == BASE else [("float32", RATES["float32"])]:
            cost = cost_of(load_config(path, [*overrides, f"--config.model.compute_dtype={dtype}"]))
            by_bytes, by_rate = 1e3 * cost.bytes / BANDWIDTH, 1e3 * cost.operations / rate
            cells = [name, dtype, str(cost.batch), f"{cost.operations / 1e9:.2f}", f"{cost.bytes / 1e6:.0f}"]
            cells += [f"{cost.unfused / 1e6:.0f}"]
            cells += [f"{cost.operations / cost.bytes:.1f}", f"{by_bytes:.3f}", f"{by_rate:.3f}"]
            cells += [f"{1e3 * cost.operations / FLOAT32:.3f}" if dtype == "float32" else ""]
            yield f"| {' | '.join([*cells, 'bytes' if by_bytes > by_rate else 'operations'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    args = parser.parse_args()
    print(f"jax {jax.__version__}, limits of an H200\n")
    for row in rows(args.only):
        print(row, flush=True)


if __name__ == "__main__":
    main()
