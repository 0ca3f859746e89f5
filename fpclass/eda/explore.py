"""Exploration of a data set: the audit, suspected label errors and outliers, and the tables of them."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from fpclass.common.console import say
from fpclass.config import Config
from fpclass.data import splits
from fpclass.data.audit import Audit
from fpclass.data.decode import Images
from fpclass.data.sources.excluded import list_to_edit
from fpclass.data.table import Table
from fpclass.eda.detail import Detail, detail_of
from fpclass.eda.features import Features, make_features
from fpclass.eda.judgement import Judgement, quick_judgement, read_judgement
from fpclass.eda.label_errors import LabelErrors, find_label_errors
from fpclass.eda.outliers import METHOD, Strangeness, extreme_looks, find_strange
from fpclass.errors import DataError
from fpclass.stats.intervals import Bootstrap, Interval

WEAK_ACCURACY = 0.85
"""Predictions that agree with fewer labels are called weak: docs/eda.md has the measurements behind it."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Suspected label errors, and the predictions behind them.

    Attributes:
      accuracy: how often they agree with the labels as given.
      baseline: how often the commonest class alone would.
      verdict: what to make of weak predictions, in a sentence; "" where they are good.
    """

    judgement: Judgement
    accuracy: Interval
    baseline: float
    verdict: str
    errors: LabelErrors


@dataclasses.dataclass(frozen=True)
class Exploration:
    """Results of the exploration of a data set.

    Attributes:
      images: of all rows of the table.
      feature_rows: usable rows, which features and strangeness are about.
      features: what images were compared by; None, as strangeness, where there are fewer than three.
      labels: None where there is nothing to predict by; `why_no_labels` says why.
      extremes: by row, what is extreme about size, shape, brightness or contrast.
      detail: the finest that the images hold; None where there is none to look at.
    """

    name: str
    audit: Audit
    images: Images
    feature_rows: Int[np.ndarray, " n"]
    features: Features | None
    labels: Labels | None
    why_no_labels: str
    strangeness: Strangeness | None
    extremes: dict[int, list[str]]
    detail: Detail | None
    confidence: float

    @property
    def table(self) -> Table:
        """The audited table."""
        return self.audit.table

    @property
    def filenames(self) -> list[str]:
        """Of all rows, fit for any file: what is not Unicode in a name is replaced."""
        return [printable(name) for name in self.table.rows["filename"]]


def printable(text: str) -> str:
    """The text without what UTF-8 or a page cannot hold: lone surrogates and control characters become U+FFFD."""
    text = text.encode("utf-8", "replace").decode()
    return "".join("\ufffd" if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in text)


def explore(config: Config, audit: Audit, images: Images, predictions: pathlib.Path | None) -> Exploration:
    """Looks for label errors and outliers in an audited data set.

    `predictions` is the folder of a study or a run; None for the quick built-in predictions.

    Raises:
      RunError: `predictions` does not fit.
      WeightsError: the weights of the config cannot be had.
    """
    table = audit.table
    groups = splits.find_groups(table, grouped=True)  # people, whatever split.grouped says: a leak hides label errors
    given = read_judgement(predictions, table, groups) if predictions else None
    rows = np.flatnonzero(table.usable_mask)
    features = strangeness = None
    if len(rows) > 2:
        say(f"features of {len(rows)} images: {config.model.weights or 'simple ones'}")
        features = make_features(config, images, rows)
        strangeness = find_strange(features.statistics)
    labels, why = None, ""
    try:
        labels = _look_at_labels(config, table, groups, rows, features, given)
    except DataError as error:
        why = str(error)
    extremes = extreme_looks(table.rows.iloc[rows])
    confidence = config.evaluate.confidence
    detail = detail_of(table)
    return Exploration(
        config.name, audit, images, rows, features, labels, why, strangeness, extremes, detail, confidence
    )


def _look_at_labels(
    config: Config,
    table: Table,
    groups: np.ndarray,
    rows: Int[np.ndarray, " n"],
    features: Features | None,
    judgement: Judgement | None,
) -> Labels:
    """Compares labels with predictions.

    Raises:
      DataError: there are too few images to predict anything.
    """
    if judgement is None:
        is_labelled = table.labelled_mask[rows]
        if features is None or not is_labelled.any():
            raise DataError(f"{table.source}: there are too few labelled images that can be read")
        say("quick predictions, cross-validated")
        judgement = quick_judgement(
            features.values[is_labelled],
            table,
            rows[is_labelled],
            groups[rows[is_labelled]],
            features.description,
            config.split.seed,
        )
    labels = table.labels[judgement.rows]
    accuracy = judgement.accuracy(labels, Bootstrap(config.evaluate.num_resamples, config.evaluate.confidence))
    baseline = float(np.bincount(labels).max() / len(labels))
    advice = better_predictions(judgement, features is not None and features.is_pretrained)
    verdict = ""
    if accuracy.low is not None and accuracy.low <= baseline:
        verdict = f"That cannot be told from guessing: the suspicions are worth nothing; {advice}."
    elif accuracy.value is not None and accuracy.value < WEAK_ACCURACY:
        verdict = f"That is weak: most of the suspected labels will turn out to be right; better, {advice}."
    errors = find_label_errors(labels, judgement.probabilities)
    return Labels(judgement, accuracy, baseline, verdict, errors)


def better_predictions(judgement: Judgement, is_pretrained: bool) -> str:
    """What would find more of the wrong labels than the predictions at hand."""
    if not judgement.is_quick:
        return "give those of a better model (--predictions)"
    advice = "give the predictions of a study (--predictions)"
    return advice if is_pretrained else f"{advice} or a pretrained network (--config.model.weights)"


def label_frame(exploration: Exploration) -> pd.DataFrame:
    """Every judged label, the most suspicious first, with what it is suspected to be and the probabilities of both."""
    if exploration.labels is None:
        columns = ["filename", "label", "suspected_instead", "probability_label", "probability_instead", "is_suspected"]
        return pd.DataFrame(columns=pd.Index(columns))
    errors, judgement = exploration.labels.errors, exploration.labels.judgement
    order = errors.order
    rows, instead = judgement.rows[order], errors.suggested[order]
    names, classes = exploration.filenames, np.array(exploration.table.classes, object)
    return pd.DataFrame(
        {
            "filename": [names[row] for row in rows],
            "label": classes[exploration.table.labels[rows]],
            "suspected_instead": classes[instead],
            "probability_label": errors.quality[order].round(6),
            "probability_instead": judgement.probabilities[order, instead].round(6),
            "is_suspected": errors.is_suspected[order],
        }
    )


def suspects_to_exclude(exploration: Exploration) -> str:
    """The suspected label errors as a list for `data.exclude`, every line commented out, the most suspicious first."""
    frame = label_frame(exploration)
    suspected = frame[frame["is_suspected"].astype(bool)].drop(columns="is_suspected")
    labels = exploration.labels
    by = f"{labels.judgement.source}, which never saw the label" if labels else f"nothing: {exploration.why_no_labels}"
    about = [f"{len(suspected)} suspected label errors, the most suspicious first.", f"By {printable(by)}."]
    if labels and labels.verdict:
        about.append(labels.verdict)
    return list_to_edit(suspected.itertuples(index=False), list(suspected), about)


def outlier_frame(exploration: Exploration) -> pd.DataFrame:
    """Every usable image, the strangest first, with its distance and what is extreme about it."""
    strangeness = exploration.strangeness
    if strangeness is None:
        columns = ["filename", "label", "robust_z", "percentile", "is_suspected", "extremes"]
        return pd.DataFrame(columns=pd.Index(columns))
    names, labels = exploration.filenames, exploration.table.rows["raw_label"].tolist()
    order = strangeness.order
    rows = exploration.feature_rows[order]
    return pd.DataFrame(
        {
            "filename": [names[row] for row in rows],
            "label": [printable(labels[row]) for row in rows],
            "robust_z": strangeness.z[order].round(4),
            "percentile": strangeness.percentile[order].round(3),
            "is_suspected": strangeness.is_suspected[order],
            "extremes": ["; ".join(exploration.extremes.get(int(row), [])) for row in rows],
        }
    )


def to_json(exploration: Exploration) -> dict[str, Any]:
    """Content of eda.json: the audit, spreads by class, accuracy of the predictions, and suspicions."""
    audit = exploration.audit.to_json()
    labels, strangeness, features = exploration.labels, exploration.strangeness, exploration.features
    keys = ("source", "is_synthetic", "classes", "class_names", "summary", "findings", "quarantined")
    result: dict[str, Any] = {
        "experiment": exploration.name,
        **{key: audit[key] for key in keys},
        "spread_by_class": _spreads(exploration.table),
        "detail": _of_detail(exploration.detail),
        "features": features.description if features else None,
        "label_errors": {"reason": exploration.why_no_labels},
        "outliers": {"method": None, "num_suspected": 0, "suspected": [], "extreme": []},
    }
    if labels:
        result["label_errors"] = {
            "predictions": labels.judgement.source,
            "is_quick": labels.judgement.is_quick,
            "accuracy": {**labels.accuracy.to_json(), "confidence": exploration.confidence},
            "accuracy_of_the_commonest_class": labels.baseline,
            "verdict": labels.verdict,
            "notes": list(labels.judgement.notes),
            "num_judged": len(labels.judgement.rows),
            "num_suspected": labels.errors.num_suspected,
            "suspected": _suspected(label_frame(exploration)),
        }
    if strangeness is not None:
        names = exploration.filenames
        result["outliers"] = {
            "method": METHOD,
            "num_suspected": int(strangeness.is_suspected.sum()),
            "suspected": _suspected(outlier_frame(exploration)),
            "extreme": [{"filename": names[row], "reasons": reasons} for row, reasons in exploration.extremes.items()],
        }
    return _plain(result)


def _of_detail(detail: Detail | None) -> dict[str, Any] | None:
    return detail and {**dataclasses.asdict(detail), "is_coarse": detail.is_coarse, "text": detail.text}


def _suspected(frame: Any) -> list[dict[str, Any]]:
    return frame[frame["is_suspected"]].drop(columns="is_suspected").to_dict("records")


def _spreads(table: Table) -> dict[str, Any]:
    result = {}
    for k, value in enumerate(table.classes):
        rows = table.rows[table.labelled_mask & (table.labels == k)]
        if not len(rows):
            continue
        quantities = {
            "brightness": rows["mean"],
            "contrast": rows["std"],
            "width_over_height": rows["width"] / rows["height"],
            "longer_side_px": rows[["width", "height"]].max(axis=1),
        }
        levels = (0.025, 0.25, 0.5, 0.75, 0.975)
        result[value] = {
            name: {f"q{100 * level:g}": float(np.quantile(values, level)) for level in levels}
            for name, values in quantities.items()
        }
    return result


def _plain(value: Any) -> Any:
    """The same in Python's own types, with texts that UTF-8 can hold."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return printable(value)
    return value.item() if isinstance(value, np.generic) else value
