"""Summary of a network as a table: parts, output shapes, numbers of parameters, when they learn."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from fpclass.common.extension import bare
from fpclass.config import Config
from fpclass.models.network import OUTPUT, variable_shapes
from fpclass.report.text_tables import align_columns
from fpclass.train.finetune import Plan, make_plan
from fpclass.train.task import build_network


def summarise_model(config: Config, num_classes: int) -> str:
    """The table as text: part, output, parameters, learns.

    Raises:
      ConfigError: a network or a stage that does not exist.
    """
    model = build_network(config, num_classes)
    plan = make_plan(model, config)
    size = (*config.data.image_size, config.data.channels)
    variables = variable_shapes(model, size)
    params: dict[str, Any] = variables["params"]
    parts = [*plan.stages, *(name for name in params if name not in plan.stages)]
    rows = [("part", "output", "parameters", "learns"), ("image", _shape(size), "", "")]
    for name in parts:
        own = params.get(name, {})
        rows.append((name, _output(variables, name), f"{_count(own):,}" if own else "", _learns(plan, name, own)))
    lines = align_columns(rows)
    weights = f"weights {config.model.weights}" if config.model.weights else "random weights"
    total = f"{bare(config.model.name)}: {_count(params):,} parameters, {weights}"
    return "\n".join([total, "", lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _shape(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _output(variables: dict[str, Any], name: str) -> str:
    output = variables.get("perturbations", {}).get(f"{name}{OUTPUT}")
    return _shape(output.shape[1:]) if output is not None else ""


def _learns(plan: Plan, name: str, params: Any) -> str:
    if not params:
        return ""
    paths = [(name, *(key.key for key in path)) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    phases = {plan.phase_of(path) for path in paths}
    if phases == {None}:
        return "frozen"
    first = min(phase for phase in phases if phase is not None)
    when = f"from epoch {plan.starts[first] + 1}" if plan.starts[first] else "yes"
    return f"{when}, in part" if None in phases else when


def count_parameters(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Parameters of a network for images of (height, width, channels), without computing any of them."""
    return _count(variable_shapes(model, input_shape)["params"])
