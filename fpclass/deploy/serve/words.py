"""What the page says of answers and maps: HTML, and rows of a table."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fpclass.deploy.serve.maps import HeatMap
from fpclass.explain.methods import METHODS

SHOWN_PX = 400
"""Of the shorter side of a map, at least."""
COLUMNS = ("file", "class", "probability", "rely on it", "why not", "height of the input")
CSS = """
.bar {display: flex; align-items: center; gap: .5em; margin: .15em 0}
.bar > span:first-child {width: 8em; overflow-wrap: anywhere}
.bar > span:last-child {width: 4.5em; text-align: right; white-space: nowrap}
.bar > div {flex: 1; background: var(--border-color-primary)}
.bar > div > div {background: #4477aa; height: 1em}
.unsure {border-left: .4em solid #b4530a; padding-left: .6em; margin: .4em 0}
:focus-visible,
.wrap:has(> .wrap-inner input:focus-visible) {outline: .2em solid #4477aa !important; outline-offset: 1px}
#map figure {margin: 0}
#map img {max-width: 100%; max-height: 75vh; margin: auto}
"""


def how_good(metrics: Mapping[str, Any]) -> str:
    """The accuracy with its interval, Markdown."""
    accuracy = (metrics.get("scores") or {}).get("accuracy")
    if not accuracy:
        return "How good this model is was not measured: see *About the model*."
    low, high = math.floor(100 * accuracy["low"]), math.ceil(100 * accuracy["high"])
    about = f"{metrics['num_images']} {metrics['images']}" if metrics.get("num_images") else metrics["images"]
    return (
        f"Of 100 pictures like those it was judged on, between **{low} and {high}** are answered right "
        f"(accuracy {accuracy['value']:.3f}, 95 % interval [{accuracy['low']:.3f}, {accuracy['high']:.3f}], {about})."
    )


def warning(text: str) -> str:
    """Something to be seen before all else."""
    return f'<div class="unsure" role="alert">{text}</div>'


def other_size(height: int, usual: int) -> str:
    """A warning where pictures are looked at in another size than the network learnt from, pixels; else ""."""
    if height == usual:
        return ""
    return warning(
        f"Evaluated at a height of {height} pixels. The model learnt, was calibrated and was judged at {usual}: "
        "nothing is known of how good this is."
    )


def answer_in_words(number: int, answer: Mapping[str, Any]) -> str:
    """An answer: the class, bars, and what to make of them."""
    title = f"{number}. {html.escape(str(answer['filename']))}"
    if "error" in answer:
        why = html.escape(answer["error"])
        return f'<section><h3>{title}</h3><div class="unsure">cannot be read: {why}</div></section>'
    bars = []
    for name, share in sorted(answer["probabilities"].items(), key=lambda pair: -pair[1]):
        bar = f'<div aria-hidden="true"><div style="width:{100 * share:.1f}%"></div></div>'
        bars.append(f'<div class="bar"><span>{html.escape(name)}</span>{bar}<span>{100 * share:.1f} %</span></div>')
    label = html.escape(answer["label"])
    share = _of_100(answer["probability"])
    said = f"<p><b>{label}</b>: of 100 pictures that are answered like this, {share} are {label}.</p>"
    if answer["abstain"]:
        reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in answer["abstain_because"])
        said = warning(f"Not to be relied on: <b>{label}</b>, but<ul>{reasons}</ul>")
    if len(answer.get("set", [])) > 1:
        said += f"<p>It may be any of {html.escape(', '.join(answer['set']))}.</p>"
    others = [note["text"] for note in answer["notes"] if not note["is_unlike"]]
    said += f"<p>{html.escape('; '.join(others))}</p>" if others else ""
    if answer["calibration"] == "none":
        said += "<p>These probabilities are not calibrated.</p>"
    return f"<section><h3>{title}</h3>{said}{''.join(bars)}</section>"


def _of_100(probability: float) -> str:
    return "more than 99" if probability > 0.995 else f"about {100 * probability:.0f}"


def map_in_words(heat: HeatMap, strength: float) -> str:
    """A map over its picture, with what it is and, where it shows nothing, why."""
    method, explanation = METHODS[heat.method], heat.explanation
    where = f"stage {heat.stage}" if heat.stage else "the pixels"
    about = html.escape(f"{method.title} of {where}, for {explanation.about}")
    nothing = f"Nothing is to be seen: {explanation.problem}." if explanation.problem else ""
    return (
        f'<figure><img alt="{about}. {nothing}" src="{heat.data_url(strength, SHOWN_PX)}">'
        f"<figcaption>{about}: {method.words}.{warning(nothing) if nothing else ''}</figcaption></figure>"
    )


def row_of(answer: Mapping[str, Any], height: int, classes: Sequence[str] = ()) -> list[Any]:
    """An answer as a row of `COLUMNS`, then its probabilities of classes; a spreadsheet computes nothing of it."""
    name = str(answer["filename"])
    name = f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
    if "error" in answer:
        return [name, "", "", "no", answer["error"], height, *("" for _ in classes)]
    why = "; ".join(answer["abstain_because"])
    row = [name, answer["label"], answer["probability"], "no" if answer["abstain"] else "yes", why, height]
    return [*row, *(answer["probabilities"][each] for each in classes)]
