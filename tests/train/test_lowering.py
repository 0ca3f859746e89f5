"""Every program lowers for accelerators that are not at hand: no operation and no form that one of them lacks.

XLA's compilers for them are not run; what is checked is what JAX hands to them. The forms are those that the code
chooses there, which it asks `jax.default_backend` for.
"""

from __future__ import annotations

import pathlib
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fpclass.experiment import load_config
from fpclass.models.build import matrix_form
from fpclass.models.registry import ARCHITECTURES
from fpclass.train.device_engine import make_evaluate_epoch, make_functions, make_judge, make_train_part
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.placement import are_batched
from fpclass.train.state import Dataset, Member
from fpclass.train.task import build_network

PLATFORMS = ("cuda", "tpu")
QUICK = ("footprints/exp24_all_useful", "vehicles_animals/vehicles_airbench", "transfer/linear_probe")
CONFIGS = [
    pytest.param(str(path), marks=() if str(path.with_suffix("")).endswith(QUICK) else pytest.mark.slow, id=path.stem)
    for path in sorted(pathlib.Path("configs").glob("*/*.py"))
    if not path.stem.startswith("_")
]


def shape(*sizes: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


class Accelerator(str):
    """What `jax.default_backend` says where it is no CPU: one trace is that of all of them, if nobody asks for more."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        assert other == "cpu", "who tells accelerators from one another needs a trace for each"
        return False

    def __ne__(self, other: object) -> bool:
        return not self == other


def programs(config: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """Yields name and lowered texts of every program of an engine, as it would be made on each of the platforms."""
    monkeypatch.setattr(jax, "default_backend", lambda: Accelerator("accelerator"))
    num_classes = max(2, len(config.data.classes))
    device = types.SimpleNamespace(platform=Accelerator("accelerator"))
    is_batched = are_batched(config, types.SimpleNamespace(devices=types.SimpleNamespace(flat=[device])))
    model = build_network(config, num_classes, matrix_form(config.model) if is_batched else None)
    functions = make_functions(model, config)
    size = (*config.data.image_size, config.data.channels)
    sublabels = shape(40) if config.model.subclasses else None
    dataset: Any = Dataset(shape(40, *size, dtype=jnp.uint8), shape(40), {}, sublabels)
    member: Any = Member(
        shape(dtype=jnp.uint32), shape(20), shape(10), shape(10), shape(num_classes, dtype=jnp.float32)
    )
    state = jax.eval_shape(functions.init, member, dataset)

    def stacked(tree: Any) -> Any:
        return jax.tree.map(lambda x: shape(3, *x.shape, dtype=x.dtype), tree) if is_batched else tree

    evaluate = make_evaluate_epoch(functions.predict, make_judge(config), config)
    calls = {
        "predict": (functions.predict, (state.params, state.batch_stats), (dataset.images, shape(40))),
        "init": (functions.init, (member,), (dataset,)),
        "evaluate": (evaluate, (state, member), (dataset,)),
    }
    for i, step in enumerate(functions.train_steps):
        shared = (dataset, Hyperparameters.of(config), shape(), shape())
        calls[f"train {i}"] = (make_train_part(step, config), (state, member), shared)
    for name, (function, mapped, shared) in calls.items():
        whole = jax.vmap(function, (0,) * len(mapped) + (None,) * len(shared)) if is_batched else function
        traced = jax.jit(whole).trace(*stacked(mapped), *shared)
        yield name, [traced.lower(lowering_platforms=(platform,)).as_text() for platform in PLATFORMS]


@pytest.mark.promise
@pytest.mark.parametrize("path", CONFIGS)
def test_every_recipe_lowers(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, texts in programs(load_config(path), monkeypatch):
        assert all("stablehlo" in text for text in texts), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_lowers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(
        "configs/base.py",
        [f"--config.model.name={name}", "--config.data.image_size=(224,224)", "--config.data.channels=3",
         "--config.data.classes=('0','1')"],
    )  # fmt: skip
    for part, texts in programs(config, monkeypatch):
        assert all("stablehlo" in text for text in texts), part


def test_accelerators_get_the_library_s_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a single network are convolutions, with XLA's own gradients; depthwise ones are grouped."""
    config = load_config("configs/transfer/everything.py")
    name, texts = next(programs(config, monkeypatch))
    assert name == "predict"
    for text in texts:
        assert "stablehlo.convolution" in text
        assert "feature_group_count = 32" in text
