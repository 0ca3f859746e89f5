"""The one loader: published arrays into the variables of a network, all of them or none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fpclass.errors import WeightsError
from fpclass.models.mapping import Rule, Transform
from fpclass.models.network import Backbone

MAX_SHOWN = 12
"""Mismatches that a message lists before it only counts them."""


def load_weights(
    arrays: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    like: Mapping[str, Any],
    *,
    where: str,
    left_out: Sequence[str] = (),
    stem_kernel: Sequence[str] = (),
    is_bgr: bool = False,
    resize: Mapping[str, Transform] | None = None,
) -> dict[str, Any]:
    """Puts every array in its place.

    Args:
      arrays: by their published names.
      like: params and batch_stats of the network, arrays or their shapes.
      left_out: what may be without a partner, by name: stages, or "head"; or the path of a parameter below `params`,
        joined by "/". What they have in the network stays unfilled; what the file has for them is not used.
      stem_kernel: path, below `params`, of the kernel that sees the image. Where the network takes grey images it is
        summed over the colours, which is what repeating the grey channel gives.
      is_bgr: the published stem expects blue, green, red: it is turned round to take red, green, blue.
      resize: what makes an array fit these images, by path below `params` joined by "/"; see `Backbone.resize`.

    Returns:
      params and batch_stats, float32 NumPy arrays, without what was left out.

    Raises:
      WeightsError: lists every array without a place, place without an array, shape or kind of number that differs,
        and place that is filled twice.
    """
    leaves: dict[tuple[str, ...], Any] = flatten_dict(_plain(like))
    shapes = {"/".join(path): tuple(np.shape(leaf)) for path, leaf in leaves.items()}
    patterns = [(re.compile(rule.source), rule) for rule in rules]  # the cache of `re` holds fewer
    needed = {path for path in shapes if not _is_left_out(path, left_out)}
    filled: dict[str, np.ndarray] = {}
    problems = []
    for name in sorted(arrays):
        target, transform = _place(name, patterns)
        if target is None:
            problems.append(f"{name} {arrays[name].shape}: no place in this architecture")
        elif not target or _is_left_out(target, left_out):
            continue
        elif target not in shapes:
            problems.append(f"{name} {arrays[name].shape}: the network has no {target}")
        elif target in filled:
            problems.append(f"{name}: {target} is filled by another array already")
        elif not np.issubdtype(arrays[name].dtype, np.floating):
            # Those of a quantised file: without their scales they are no weights.
            problems.append(f"{name}: holds {arrays[name].dtype}, but {target} takes floating-point numbers")
            needed.discard(target)
        else:
            array = transform(np.asarray(arrays[name])).astype(np.float32)
            if target == "/".join(("params", *stem_kernel)):
                array = _fit_stem(array, shapes[target], is_bgr=is_bgr)
            if fit := (resize or {}).get(target.removeprefix("params/")):
                array = fit(array).astype(np.float32)
            wrong = _what_is_wrong(array, target, shapes[target])
            problems += [f"{name}: {wrong}"] if wrong else []
            filled[target] = array
    problems += [f"{path} {shapes[path]}: nothing in the file for it" for path in sorted(needed - filled.keys())]
    if problems:
        raise _mismatch(problems, where)
    return unflatten_dict({tuple(path.split("/")): array for path, array in filled.items()})


def resized_for(backbone: Backbone, image_size: tuple[int, int]) -> dict[str, Transform]:
    """The `resize` of `load_weights` that makes published arrays fit images of (height, width) pixels."""
    return {path: lambda array, fit=fit: fit(array, image_size) for path, fit in backbone.resize.items()}


def _mismatch(problems: Sequence[str], where: str) -> WeightsError:
    more = f"; and {len(problems) - MAX_SHOWN} more" if len(problems) > MAX_SHOWN else ""
    return WeightsError(
        f"{where}: {len(problems)} of its arrays or of the network's do not match: "
        f"{'; '.join(problems[:MAX_SHOWN])}{more}. Is it of another architecture?"
    )


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: dict(tree[kind]) for kind in ("params", "batch_stats") if kind in tree}


def _place(name: str, patterns: Sequence[tuple[re.Pattern[str], Rule]]) -> tuple[str | None, Any]:
    """Where an array goes: its path, "" for nowhere on purpose, None for no idea."""
    for pattern, rule in patterns:
        match = pattern.fullmatch(name)
        if match:
            return match.expand(rule.target), rule.transform
    return None, None


def _what_is_wrong(array: np.ndarray, target: str, shape: tuple[int, ...]) -> str:
    if array.shape != shape:
        return f"shape {array.shape}, but {target} is {shape}"
    if not np.isfinite(array).all():
        return "has values that are not finite numbers"
    if target.endswith("/var") and (array < 0).any():
        return f"has negative values, but {target} is a variance"
    return ""


def _is_left_out(path: str, left_out: Sequence[str]) -> bool:
    below = path.partition("/")[2]
    return any(below == part or below.startswith(f"{part}/") for part in left_out)


def _fit_stem(kernel: np.ndarray, shape: tuple[int, ...], *, is_bgr: bool) -> np.ndarray:
    """The kernel [height, width, 3, f] for images of as many channels as the network's has."""
    kernel = kernel[:, :, ::-1] if is_bgr else kernel
    is_grey = len(shape) == 4 and shape[2] == 1 and kernel.shape[2] == 3
    return kernel.sum(axis=2, keepdims=True, dtype=np.float64).astype(np.float32) if is_grey else kernel
