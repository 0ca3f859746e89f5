"""Weights of several members in one safetensors file; what is the same in several of them is there once.

A stage of a network is the unit: five probes of one frozen network are that network and five heads. An array is called
CONFIG/MEMBER/params/STAGE/…, by the first member that has the stage; the file's own metadata say who else has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fpclass.errors import RunError, one_line
from fpclass.train.checkpoints import digest
from fpclass.train.trained import Variables

SAME = "same"
"""Key of the file's metadata: of stages as CONFIG/MEMBER/STAGE, the CONFIG/MEMBER that they are stored with."""
MAX_HEADER_BYTES = 2**24
"""Of a safetensors file, whose header is parsed before anything else is known of it."""


def pack(members: Mapping[str, Sequence[Variables]]) -> bytes:
    """The contents of a safetensors file with the variables of all members of each config."""
    arrays: dict[str, np.ndarray] = {}
    owners: dict[str, str] = {}
    same: dict[str, str] = {}
    for name, of_config in members.items():
        for i, variables in enumerate(of_config):
            member = f"{name}/{i}"
            for stage in sorted({stage for tree in variables.values() for stage in tree}):
                part = {kind: tree[stage] for kind, tree in variables.items() if stage in tree}
                owner = owners.setdefault(f"{stage} {digest(part)}", member)
                if owner != member:
                    same[f"{member}/{stage}"] = owner
                    continue
                for path, array in flatten_dict(part, sep="/").items() if isinstance(part, dict) else ():
                    kind, _, rest = str(path).partition("/")
                    arrays["/".join(filter(None, (member, kind, stage, rest)))] = np.ascontiguousarray(array)
    return save(arrays, {SAME: json.dumps(same)})


def unpack(data: bytes, shapes: Mapping[str, Sequence[Variables]], where: str) -> dict[str, list[Variables]]:
    """The variables of all members, on the default device; arrays that several share are one.

    Args:
      shapes: of each member of each config, trees of arrays or their shapes.

    Raises:
      RunError: the file is damaged or hostile, or holds other arrays than these.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        if not 2 <= size <= min(MAX_HEADER_BYTES, len(data) - 8):
            raise ValueError(f"a header of {size:,} bytes in a file of {len(data):,}")
        same = json.loads(json.loads(data[8 : 8 + size]).get("__metadata__", {}).get(SAME, "{}"))
        arrays = load(data)
        if not isinstance(same, dict):
            raise TypeError(f"{SAME} is {same!r}")
    except (AttributeError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise RunError(f"{where}: is no safetensors file of a bundle ({one_line(error, 200)}); get it again") from None
    placed: dict[str, jax.Array] = {}

    def find(member: str, path: tuple[str, ...], shape: Any) -> jax.Array:
        kind, stage, *rest = path
        name = "/".join((str(same.get(f"{member}/{stage}", member)), kind, stage, *rest))
        met = arrays.get(name)
        if met is None or met.shape != tuple(shape.shape) or met.dtype != shape.dtype:
            told = "nothing" if met is None else f"{met.shape} {met.dtype}"
            raise RunError(f"{where}: {name} is {told}, expected {tuple(shape.shape)} {shape.dtype}; get it again")
        if name not in placed:
            placed[name] = jax.device_put(met)
        return placed[name]

    def member(name: str, tree: Variables) -> Variables:
        leaves = {path: find(name, path, shape) for path, shape in flatten_dict(tree).items()}
        return {kind: {} for kind in tree} | unflatten_dict(leaves)

    found = {name: [member(f"{name}/{i}", tree) for i, tree in enumerate(trees)] for name, trees in shapes.items()}
    if unknown := arrays.keys() - placed.keys():
        raise RunError(f"{where}: holds {len(unknown)} arrays of no member, for example {min(unknown)}; get it again")
    return found
