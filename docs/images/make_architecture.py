"""Draws architecture.png: the packages of fpclass in their layers, with the imports between them as arrows.

The layers are those that import-linter checks (pyproject.toml); the arrows are read from the files. An arrow that
follows from others is left out.

Run: python docs/images/make_architecture.py
"""

from __future__ import annotations

import ast
import pathlib
import re
import tomllib

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "fpclass"
ABOUT = {
    "cli": "the registry of commands",
    "api": "what Python calls",
    "search": "the best within minutes",
    "eda": "a data set, looked at",
    "tune": "a search over keys",
    "deploy": "bundles, exports, server",
    "study": "many configs x folds x seeds",
    "run": "one run folder, its commands",
    "train": "states, steps, engines",
    "experiment": "a config, loaded and checked",
    "explain": "what a network sees",
    "data": "files to tables to pixels",
    "report": "what things look like",
    "stats": "predictions to numbers",
    "augment": "image operations",
    "models": "networks, published weights",
}
PARTS = {"__main__": "cli", "conditions": "experiment", "unread": "experiment"}
"""Modules that are drawn as a part of another one."""


def layers() -> list[list[str]]:
    """The layers of the import contract, the top first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = [re.split(r" [|:] ", layer) for layer in contracts[0]["layers"]]
    return [rooms for rooms in found if not set(rooms) <= PARTS.keys()]


def imports() -> set[tuple[str, str]]:
    """Pairs (who, whom) of packages and modules at the top of fpclass."""
    pairs = set()
    for file in {*PACKAGE.rglob("*.py")} - {PACKAGE / "__init__.py"}:  # which only exports names of `api`
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fpclass"):
                parts = node.module.split(".")[1:2] if node.module != "fpclass" else [a.name for a in node.names]
                ends = [(PARTS.get(room, room), PARTS.get(part, part)) for part in parts]
                pairs |= {(one, other) for one, other in ends if one != other}
    return pairs


def without_detours(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The transitive reduction of an acyclic relation: pairs that no longer way replaces."""

    def reach(start: str) -> set[str]:
        nearest = {b for a, b in pairs if a == start}
        return nearest.union(*map(reach, nearest))

    return {(a, b) for a, b in pairs if not any(b in reach(c) for x, c in pairs if x == a and c != b)}


def draw() -> Figure:
    """The figure."""
    rows = layers()
    figure = Figure(figsize=(11, 9.5), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(-4, 11 * len(rows) - 2))
    axes.axis("off")
    centre, room = {}, {}
    for height, names in enumerate(reversed(rows)):
        width = 100 / len(names)
        for i, name in enumerate(names):
            centre[name] = (width * (i + 0.5), 11 * height + 2)
            room[name] = width / 2 - 0.7
    among = {(who, whom) for who, whom in imports() if who in ABOUT and whom in ABOUT}
    for who, whom in sorted(without_detours(among)):
        (x0, y0), (x1, y1) = centre[who], centre[whom]
        is_far = abs(x0 - x1) < 1 and y0 - y1 > 12  # past the boxes between
        start, end = ((x0 - 13.5, y0), (x1 - 13.5, y1)) if is_far else ((x0, y0 - 3), (x1, y1 + 3))
        arrow = FancyArrowPatch(
            start, end, connectionstyle=f"arc3,rad={0.5 if is_far else 0.05}", arrowstyle="-|>", mutation_scale=12,
            color="#5b7f9e", linewidth=1.3, zorder=1,
        )  # fmt: skip
        axes.add_patch(arrow)
    for name, (x, y) in centre.items():
        half = 13.5 if name in ABOUT else min(6.5, room[name])
        box = FancyBboxPatch(
            (x - half, y - 2.6), 2 * half, 5.2, boxstyle="round,pad=0.3", edgecolor="#2f4858", linewidth=1, zorder=2,
            facecolor="#eef3f7" if name in ABOUT else "#f7f7f4",
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(
            x,
            y + (0.9 if name in ABOUT else 0),
            name,
            ha="center",
            va="center",
            fontsize=12 if name in ABOUT else 10.5,
            weight="bold",
            zorder=3,
        )
        if name in ABOUT:
            axes.text(x, y - 1.4, ABOUT[name], ha="center", va="center", fontsize=9, color="#444", zorder=3)
    axes.text(
        1,
        -3.4,
        "Arrows: imports, as the files have them, but for those to the lowest layers and what follows from others",
        fontsize=9,
        color="#555",
    )
    return figure


if __name__ == "__main__":
    draw().savefig(pathlib.Path(__file__).with_name("architecture.png"))
