"""The page of an exploration, one HTML file that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

import fpclass
from fpclass.data.files import some_of
from fpclass.data.table import FATAL, QUARANTINE, Finding
from fpclass.eda import figures as figures_eda
from fpclass.eda.explore import Exploration, printable
from fpclass.eda.outliers import MAX_Z, METHOD
from fpclass.eda.thumbnails import make_thumbnails
from fpclass.report.grids import mean_image
from fpclass.report.html import render as render_template
from fpclass.report.pictures import PIXELATED_PX, array_uri, uri_of
from fpclass.report.style import MAX_CLASS_ROWS
from fpclass.run.prepare import note_of

COPY_KINDS = {
    "byte_identical": "The same file more than once",
    "pixel_identical": "The same pixels in different files",
    "near_duplicate": "Nearly the same picture",
}
MAX_CARDS = 48
"""Images of a list that the page shows; the tables beside it have all."""
MAX_CLUSTERS, MAX_PER_CLUSTER = 24, 6
MAX_FINDINGS = 60
NUM_SAMPLES = 6

_Card = dict[str, Any]


def render(exploration: Exploration) -> str:
    """The page as HTML: no script, no other file, every text of the data set escaped."""
    return render_template("eda/page.html", _Page(exploration).context())


class _Page:
    """Collects what the template shows."""

    def __init__(self, exploration: Exploration):
        self.exploration = exploration
        self.table = exploration.table
        self.names = exploration.filenames
        self.labels = exploration.table.labels
        self.class_names = [printable(name) for name in exploration.table.class_names]
        self.row_of = {name: row for row, name in enumerate(exploration.table.rows["filename"])}
        self.cards: list[tuple[int, _Card]] = []

    def context(self) -> dict[str, Any]:
        exploration, summary = self.exploration, self.exploration.audit.summary
        labels, outliers, extremes = self._labels(), self._outliers(), self._extremes()
        copies, people = self._copies(), self._people()
        content = {
            "title": printable(self.table.source),
            "name": printable(exploration.name),
            "source": f"{summary['num_bytes'] / 1e6:,.1f} MB of images that can be read",
            "note": note_of(self.table.is_synthetic),
            "numbers": self._numbers(),
            "overview": self._overview(labels, outliers, extremes, copies, people),
            **self._classes(),
            "charts": self._charts(),
            "sizes": _counts(summary["sizes"]),
            "detail": exploration.detail.text if exploration.detail else "",
            "formats": f"{_counts(summary['modes'])}; {_counts(summary['formats'])}",
            "means": self._means(),
            "means_note": self._as_read(),
            "samples": self._samples(),
            "samples_note": self._only_some_classes(),
            **self._findings(),
            "copies": copies,
            "people": people,
            "labels": labels,
            "why_no_labels": printable(exploration.why_no_labels),
            "outliers": outliers,
            "extremes": extremes,
            "version": fpclass.__version__,
            "date": time.strftime("%Y-%m-%d %H:%M"),
        }
        uris = make_thumbnails(self.table, exploration.images, [row for row, _ in self.cards])
        for row, card in self.cards:
            card["uri"] = uris[row]
        return content

    # --- cards ------------------------------------------------------------------------------------

    def _card(self, row: int, lines: Iterable[str] = (), suspicion: str = "") -> _Card:
        """A card without its picture, which comes last, when all that are needed are known."""
        facts = self.table.rows.iloc[row]
        label = self.labels[row]
        name = self.class_names[label] if label >= 0 else printable(facts["raw_label"])
        original = printable(facts.get("original", ""))
        name = f"{name} ({original})" if original and original != name else name
        card = {
            "is_tiny": max(facts["width"], facts["height"]) <= PIXELATED_PX,
            "filename": self.names[row],
            "label": name,
            "lines": list(lines),
            "suspicion": suspicion,
        }
        self.cards.append((row, card))
        return card

    def _of_kind(self, kind: str) -> list[Finding]:
        return [finding for finding in self.exploration.audit.findings if finding.kind == kind]

    def _clusters(self, findings: Sequence[Finding]) -> list[dict[str, Any]]:
        people = self.table.rows["group"]
        clusters = []
        for finding in findings[:MAX_CLUSTERS]:
            names = finding.filenames[:MAX_PER_CLUSTER]
            rows = [self.row_of[name] for name in names if name in self.row_of]
            cards = [self._card(r, [f"person {printable(people.iloc[r])}"] if people.iloc[r] else []) for r in rows]
            more = len(finding.filenames) - len(cards)
            clusters.append({"reason": printable(finding.reason), "cards": cards, "num_more": more})
        return clusters

    # --- sections ---------------------------------------------------------------------------------

    def _numbers(self) -> list[tuple[str, str]]:
        summary = self.exploration.audit.summary
        numbers = [
            ("images", summary["num_images"]),
            ("classes", self.table.num_classes),
            ("labelled", summary["num_labelled"]),
            ("to predict", summary["num_to_predict"]),
            ("in quarantine", summary["num_quarantined"]),
            ("people", summary["num_people"]),
        ]
        return [(label, f"{value:,}") for label, value in numbers if value or label not in ("to predict", "people")]

    def _overview(self, labels: Any, outliers: Any, extremes: Any, copies: Any, people: Any) -> list[dict[str, str]]:
        findings = self.exploration.audit.findings
        num_fatal = sum(f.severity == FATAL for f in findings)
        num_out = len({name for f in findings if f.severity == QUARANTINE for name in f.filenames})
        num_torn_copies = sum("CONTRADICTORY" in f.reason for kind in COPY_KINDS for f in self._of_kind(kind))
        items = []
        if num_fatal:
            items.append(("findings", "Cannot be trained on", f"{num_fatal} findings, see there"))
        items.append(("findings", "Files that cannot be used", f"{num_out:,}" if num_out else "none"))
        num_copies = sum(kind["number"] for kind in copies)
        text = f"{num_copies:,} groups" if num_copies else "none"
        items.append(
            ("copies", "Copies", text + (f", {num_torn_copies} with CONTRADICTORY LABELS" * (num_torn_copies > 0)))
        )
        if people:
            items.append(("people", "People with more than one label", str(people["num_torn"] or "none")))
        if labels:
            text = f"{labels['num_suspected']} of {labels['num_judged']}; {labels['short']}"
        else:
            text = "not looked for, see there"
        items.append(("labels", "Suspected label errors", text))
        detail = self.exploration.detail
        if detail and detail.is_coarse:
            items.append(("looks", "Detail", detail.text))
        strange = f"{outliers['num_suspected']} unlike all others, " if outliers else ""
        items.append(("outliers", "Suspected outliers", f"{strange}{extremes['count']} extreme in size or looks"))
        return [{"anchor": anchor, "what": what, "text": text} for anchor, what, text in items]

    def _classes(self) -> dict[str, Any]:
        counts = list(self.exploration.audit.summary["images_per_class"].values())
        total, highest = max(sum(counts), 1), max([*counts, 1])
        rows = [
            {"name": name, "count": f"{n:,}", "share": f"{n / total:.1%}", "width": round(100 * n / highest, 1)}
            for name, n in zip(self.class_names, counts, strict=True)
        ]
        lowest = min(counts, default=0)
        text = f"The largest class has {highest / lowest:.1f} times as many images as the smallest." if lowest else ""
        return {"classes": rows, "balance": text}

    def _charts(self) -> list[dict[str, str]]:
        mask = self.table.labelled_mask
        if not mask.any():
            return []
        rows = self.table.rows[mask]
        width, height = rows["width"].to_numpy(float), rows["height"].to_numpy(float)
        grey, whole = "mean grey level, 0 to 255", (0.0, 255.0)
        charts = (
            ("Longer side", np.maximum(width, height), "pixels", None),
            ("Width / height", width / height, "width / height", None),
            ("Brightness", rows["mean"].to_numpy(float), grey, whole),
            ("Contrast", rows["std"].to_numpy(float), "standard deviation of the grey levels", None),
        )
        labels = self.table.labels[mask]
        # What is the same for nearly all images is a line of text, not a chart.
        return [self._spread(*chart, labels) for chart in charts if np.ptp(np.quantile(chart[1], (0.025, 0.975))) > 0]

    def _spread(
        self,
        title: str,
        values: Float[np.ndarray, " n"],
        unit: str,
        limits: tuple[float, float] | None,
        labels: Int[np.ndarray, " n"],
    ) -> dict[str, str]:
        shown = [k for k in range(len(self.class_names)) if (labels == k).any()][:MAX_CLASS_ROWS]
        medians = [f"{self.class_names[k]} {np.median(values[labels == k]):.3g}" for k in shown]
        figure = figures_eda.spreads(values, labels, self.class_names, title, unit, limits)
        return {"uri": _svg_uri(figure), "alt": f"{title} ({unit}); medians: {', '.join(medians)}"}

    def _means(self) -> list[_Card]:
        """The mean of the images as the config resizes them."""
        labels = np.where(self.table.labelled_mask, self.table.labels, -1)
        cards = []
        for k, name in enumerate(self.class_names[:MAX_CLASS_ROWS]):
            rows = np.flatnonzero(labels == k)
            if len(rows):
                picture = np.rint(mean_image(self.exploration.images, rows)).astype(np.uint8)
                tiny = max(picture.shape[:2]) <= PIXELATED_PX
                about = {"filename": f"{len(rows):,} images", "label": name, "lines": [], "suspicion": ""}
                cards.append({"uri": array_uri(picture), "is_tiny": tiny, **about})
        return cards

    def _as_read(self) -> str:
        """Size and channels as the config reads the images, which need not be what they are."""
        height, width, channels = self.exploration.images.shape[1:]
        text = "This, and what images are compared by below, is of the images as the config reads them: "
        text += f"{height} x {width} pixels (height x width), "
        if channels == 3:
            return text + "in colour."
        has_colours = set(self.exploration.audit.summary["modes"]) & {"RGB", "RGBA", "CMYK", "YCbCr"}
        return text + "grey." + (" For their colours: --config.data.channels=3." if has_colours else "")

    def _samples(self) -> list[dict[str, Any]]:
        """By class, images drawn at random, the same in every run."""
        labels = np.where(self.table.labelled_mask, self.table.labels, -1)
        rng = np.random.default_rng(0)
        samples = []
        for k, name in enumerate(self.class_names[:MAX_CLASS_ROWS]):
            members = np.flatnonzero(labels == k)
            if len(members):
                drawn = rng.choice(members, min(NUM_SAMPLES, len(members)), replace=False)
                cards = [self._card(row) for row in sorted(drawn.tolist())]
                for card in cards:
                    card["label"] = ""  # the heading has it
                samples.append({"name": name, "cards": cards})
        return samples

    def _only_some_classes(self) -> str:
        more = self.table.num_classes - MAX_CLASS_ROWS
        return f"The first {MAX_CLASS_ROWS} classes; {more} more are not shown." if more > 0 else ""

    def _findings(self) -> dict[str, Any]:
        """All but the copies and people, which have sections of their own."""
        elsewhere = (*COPY_KINDS, "group_with_two_labels")
        findings = [f for f in self.exploration.audit.findings if f.kind not in elsewhere]
        rows = [
            {
                "severity": f.severity,
                "kind": f.kind.replace("_", " "),
                "reason": printable(f.reason),
                "files": printable(some_of(f.filenames, limit=4)) if f.filenames else "",
            }
            for f in findings[:MAX_FINDINGS]
        ]
        more = len(findings) - len(rows)
        return {"findings": rows, "findings_more": f"and {more} more, see eda.json" if more else ""}

    def _copies(self) -> list[dict[str, Any]]:
        copies = []
        for kind, title in COPY_KINDS.items():
            findings = self._of_kind(kind)
            if findings:
                count = f"{len(findings):,} groups" if len(findings) > 1 else "1 group"
                more = max(0, len(findings) - MAX_CLUSTERS)
                about = {"title": title, "number": len(findings), "count": count, "num_more": more}
                copies.append({**about, "clusters": self._clusters(findings)})
        return copies

    def _people(self) -> dict[str, Any] | None:
        usable = self.table.rows[self.table.usable_mask]
        counts = usable.loc[usable["group"] != "", "group"].value_counts().to_numpy()
        if not len(counts):
            return None
        torn = self._of_kind("group_with_two_labels")
        text = (
            f"{len(counts):,} people with {counts.min()} to {counts.max()} images each, median {np.median(counts):g}. "
            "All images of a person stay on one side of every split."
        )
        return {
            "text": text,
            "chart": {"uri": _svg_uri(figures_eda.images_per_person(counts)), "alt": f"Images per person: {text}"},
            "num_torn": len(torn),
            "clusters": self._clusters(torn),
            "num_more": max(0, len(torn) - MAX_CLUSTERS),
        }

    def _labels(self) -> dict[str, Any] | None:
        labels = self.exploration.labels
        if labels is None:
            return None
        errors, judgement = labels.errors, labels.judgement
        shown = errors.order[: min(MAX_CARDS, errors.num_suspected) or 12]
        probabilities = judgement.probabilities
        cards = []
        for i in shown:
            row, instead = int(judgement.rows[i]), int(errors.suggested[i])
            sure = f"{_percent(float(probabilities[i, instead]))} against {_percent(float(errors.quality[i]))}"
            cards.append(self._card(row, [sure], f"rather {self.class_names[instead]}?"))
        accuracy, interval = labels.accuracy, ""
        if accuracy.low is not None:
            interval = f" ({100 * self.exploration.confidence:g}% interval {accuracy.low:.1%} to {accuracy.high:.1%})"
        return {
            "num_suspected": f"{errors.num_suspected:,}",
            "num_judged": f"{len(judgement.rows):,}",
            "source": printable(judgement.source),
            "accuracy": f"{accuracy.value:.1%}{interval}",
            "short": f"the predictions behind that agree with {accuracy.value:.1%} of the labels",
            "baseline": f"{labels.baseline:.1%}",
            "verdict": labels.verdict,
            "notes": [printable(note) for note in judgement.notes],
            "cards": cards,
            "is_below": errors.num_suspected == 0,
            "num_more": max(0, errors.num_suspected - MAX_CARDS),
        }

    def _outliers(self) -> dict[str, Any] | None:
        strange = self.exploration.strangeness
        if strange is None:
            return None
        num_suspected = int(strange.is_suspected.sum())
        cards = []
        for i in strange.order[: min(MAX_CARDS, num_suspected) or 12]:
            lines = [f"stranger than {strange.percentile[i]:.1f}% of the images", f"z {strange.z[i]:.1f}"]
            cards.append(self._card(int(self.exploration.feature_rows[i]), lines))
        return {
            "num_suspected": num_suspected,
            "method": METHOD,
            "rule": f"Suspected is what is more than {MAX_Z:g} robust standard deviations (z) above the median.",
            "cards": cards,
            "is_below": num_suspected == 0,
            "num_more": max(0, num_suspected - MAX_CARDS),
        }

    def _extremes(self) -> dict[str, Any]:
        extremes = self.exploration.extremes
        cards = [self._card(row, reasons) for row, reasons in list(extremes.items())[:MAX_CARDS]]
        return {"count": len(extremes), "cards": cards, "num_more": max(0, len(extremes) - MAX_CARDS)}


def _percent(share: float) -> str:
    """A share in per cent that does not claim certainty."""
    if share > 0.999:
        return "over 99.9%"
    return "under 0.1%" if share < 0.001 else f"{share:.1%}"


def _counts(counts: dict[str, int]) -> str:
    """Values with how often they occur, the commonest ones; "" of none."""
    shown = [f"{printable(str(value))} ({count:,})" for value, count in counts.items()]
    return some_of(shown, limit=8) if shown else ""


def _svg_uri(figure: Figure) -> str:
    return uri_of("svg+xml", figures_eda.to_svg(figure).encode())
