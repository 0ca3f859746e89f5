"""The model card of a bundle: what it is for, what it must not be used for, and what was measured of its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fpclass.report.text_tables import markdown_table
from fpclass.stats.intervals import Interval

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "brier")
"""Scores that the card has, of those that metrics.json has."""


def model_card(facts: Mapping[str, Any], metrics: Mapping[str, Any], num_bytes: int) -> str:
    """README.md of a bundle, Markdown.

    Args:
      facts: what bundle.json holds.
      metrics: what metrics.json holds.
      num_bytes: of the weights.
    """
    sections = {
        f"# {facts['name']}": _what(facts, num_bytes),
        "## Use": USE,
        "## How good it is": _how_good(metrics),
        "## Probabilities and decisions": _decisions(facts),
        "## Limits that were measured": _limits(metrics),
        "## What it is for": _is_for(facts),
        "## What it must not be used for": _is_not_for(facts, metrics),
        "## Licences and origin": _origin(facts),
    }
    return "\n\n".join(f"{title}\n\n{text}" for title, text in sections.items()) + "\n"


USE = """```python
import fpclass

model = fpclass.load_bundle("bundle")  # this folder
model.predict("image.jpg")  # a path, bytes, a picture or an array; or many
```

From the command line: `fpclass predict IMAGE --workdir=bundle`. Nothing in this folder is executed: it is JSON and
arrays, and every file is compared with its sha256 in bundle.json."""


def _what(facts: Mapping[str, Any], num_bytes: int) -> str:
    count = sum(network["members"] for network in facts["networks"].values())
    networks = ", ".join(
        f"{network['members']} x {network['config']['model.name']} ({name}) for images of "
        f"{network['config']['data.image_size'][0]} x {network['config']['data.image_size'][1]} pixels (height, width)"
        for name, network in facts["networks"].items()
    )
    kind = f"An ensemble of {count} networks" if count > 1 else "A network"
    if facts.get("distilled_from"):
        kind += f", distilled from an ensemble of {facts['distilled_from']},"
    drawn = "**SYNTHETIC: it was trained on drawn images, and says nothing about real ones.** " * facts["is_synthetic"]
    return (
        f"{drawn}{kind} that classifies images as {_listed(facts['class_names'])}: {networks}; "
        f"{num_bytes / 1e6:.3g} MB of weights. Trained on: {facts['trained_on']}."
    )


def _how_good(metrics: Mapping[str, Any]) -> str:
    if not metrics["scores"]:
        return f"Nobody has measured it. {metrics['note']}"
    rows = [["", metrics["images"], *(["test images"] if metrics["test"] else [])]]
    for name in SHOWN:
        if name in metrics["scores"]:
            of = [metrics["scores"], *([metrics["test"]["scores"]] if metrics["test"] else [])]
            rows.append([name.replace("_", " "), *(str(Interval.of(scores[name])) for scores in of)])
    about = f"{metrics['num_images']} images, none of which the members that predict them were trained on"
    table = "\n".join(markdown_table(rows))
    distilled = "".join(f"\n- {sentence}" for sentence in (metrics.get("distilled") or {}).get("sentences", [])[1:])
    return f"{table}\n\n{about}; in brackets: {metrics['interval']}." + f"\n{distilled}" * bool(distilled)


def _decisions(facts: Mapping[str, Any]) -> str:
    thresholds = facts["rule"]["thresholds"]
    lines = [facts["words"] + "."]
    if thresholds:
        listed = ", ".join(f"{value:.3f} for {name}" for name, value in thresholds.items())
        lines.append(
            f"The class is the most probable one. Thresholds for {facts['class_names'][1]} that suit another aim: "
            f"{listed} (`--config.submit.threshold_for`)."
        )
    return "\n\n".join(lines)


def _limits(metrics: Mapping[str, Any]) -> str:
    lines = [
        f"- {name}: {recall} of its images are recognised, {precision} of those called so are so"
        for name, of_class in (metrics.get("per_class") or {}).items()
        for recall, precision in [[Interval.of(of_class[score]) for score in ("recall", "precision")]]
    ]
    lines += [f"- {warning}" for warning in metrics.get("warnings", [])]
    for piece in metrics["limits"]:
        lines += [f"- {piece.get('title', '')}: {sentence}" for sentence in piece.get("sentences", [])]
    if not metrics["limits"]:
        lines.append(
            "- not measured: what disturbed images do to it, and whether it looks at something beside the thing itself "
            "(`fpclass robustness`, `fpclass shortcuts`)"
        )
    return "\n".join(lines)


def _is_for(facts: Mapping[str, Any]) -> str:
    return (
        f"Images like those that it was trained on ({facts['trained_on']}), taken the same way, each of which shows "
        f"{_listed(facts['class_names'])}; as a second opinion, a first sorting, or a measurement whose error is the "
        "one above."
    )


def _is_not_for(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    lines = [
        "images of something else, or taken another way: it answers with one of its classes all the same, and its "
        "probabilities hold for images like those that it was trained on alone",
        "people, places or devices of another kind, before `fpclass validate` has judged it on labelled images of them",
        "decisions about a person without somebody who looks and may overrule it",
    ]
    if not metrics["scores"]:
        lines.insert(0, "anything that needs to know how often it is wrong")
    lines += [f"commercial use ({entry['name']}: {entry['terms']})" for entry in facts["pretrained"] if _is_nc(entry)]
    if facts["is_synthetic"]:
        lines.insert(0, "real images of any kind")
    return "\n".join(f"- {line}" for line in lines)


def _origin(facts: Mapping[str, Any]) -> str:
    lines = [
        f"- begun with the weights {entry['name']}: {entry['terms'] or entry['license']} {entry['url']}".strip()
        for entry in facts["pretrained"]
    ] or ["- begun with random weights"]
    lines.append("- the licence of the images that it was trained on: whoever hands this on has to say")
    lines.append(f"- data: sha256 {facts['data_sha256']}")
    lines.append(f"- made with {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}")
    return "\n".join(lines)


def _is_nc(entry: Mapping[str, str]) -> bool:
    return "NOT for commercial use" in entry["terms"]


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 10 else [*names[:8], f"{len(names) - 8} more"]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"
