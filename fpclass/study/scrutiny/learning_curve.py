"""A learning curve over people: one config, trained on shares of the people of every fold, and judged on the same ones.

A study whose configs differ in `split.train_share` alone; smaller shares are part of the larger ones.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment, files
from fpclass.config import Config
from fpclass.data.splits import SELECTION, TRAIN
from fpclass.errors import ConfigError
from fpclass.report.style import save_figure
from fpclass.run.prepare import note_of, read_model
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.scrutiny.learning_curve import Curve, curve_findings, learning_curve
from fpclass.study.figures import curve_figure
from fpclass.study.metric import metric_of, name_of
from fpclass.study.out_of_fold import collect, write_tables
from fpclass.study.study import Study, assemble
from fpclass.train.task import check_network

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the people of each fold, by default."""


def plan_curve(
    folder: pathlib.Path,
    config_path: str,
    overrides: Sequence[str],
    *,
    num_folds: int,
    num_seeds: int,
    shares: Sequence[float] = SHARES,
) -> Study:
    """Makes one config per share of the training people; the baseline has the largest.

    Raises:
      ConfigError: fewer than three shares, one twice, or one that is not in (0, 1].
    """
    (config,) = experiment.load_configs([config_path], overrides)
    check_network(config)
    if len(set(shares)) < max(3, len(shares)):
        raise ConfigError(f"--shares={','.join(f'{s:g}' for s in shares)}: give three different ones or more")
    by_name: dict[str, Config] = {}
    for share in sorted(shares, reverse=True):
        of_share: Config = ConfigDict(config.to_dict())
        of_share.split.train_share = share
        of_share.name = f"{config.name}-people-{1000 * share:04.0f}"
        by_name[of_share.name] = experiment.check(of_share.lock())
    first = next(iter(by_name))
    return assemble(folder, by_name, num_folds=num_folds, num_seeds=num_seeds, baseline=first, compare_splits=False)


def conclude_curve(study: Study, failures: dict[str, str]) -> str:
    """Writes learning_curve.csv, learning_curve.json and its figure; returns what they say.

    Raises:
      RunError: a member's files are missing or damaged.
    """
    trained = [name for name in study.names if name not in failures]
    lines = [f"{name}: FAILED: {failures[name]}" for name in study.names if name in failures]
    if len(trained) < 2:
        return "\n".join([*lines, "no learning curve: it takes two shares or more"])
    settings = study.configs[study.baseline]
    described = read_model(study.members(trained[0])[0].run)
    metric = metric_of(settings, described["classes"], described["class_names"])
    predictions = collect(study, trained, described["class_names"])
    write_tables(study, trained)
    bootstrap = Bootstrap(settings.evaluate.num_resamples, settings.evaluate.confidence)
    shares = {name: study.configs[name].split.train_share for name in trained}
    counts = {shares[name]: count_trained(study, name) for name in trained}
    curve = learning_curve(
        {shares[name]: predictions.logits[name] for name in trained},
        {share: people for share, (people, _) in counts.items()},
        predictions.cohort,
        metric,
        bootstrap,
    )
    name = name_of(metric, described["class_names"])
    frame = _frame(curve, sorted(shares.values()), counts, name, described["trained_on"])
    files.write_csv(study.path("learning_curve.csv"), frame)
    findings = curve_findings(curve, name, bootstrap.confidence)
    record: dict[str, Any] = {"metric": name, "data": described["trained_on"], "findings": findings}
    files.write_json(study.path("learning_curve.json"), record | curve.to_json())
    note = note_of(described["is_synthetic"])
    save_figure(
        curve_figure(curve, name, confidence=bootstrap.confidence, note=note), study.path("figures/learning_curve.png")
    )
    lines += [*([note] if note else []), *findings]
    written = f"written     {study.path('learning_curve.csv')}, learning_curve.json, figures/learning_curve.png"
    return "\n".join(["", *lines, "", written])


def count_trained(study: Study, name: str) -> tuple[float, float]:
    """People (or independent images) and images that a config's members learn from, the epoch's choice included.

    Means over the folds.
    """
    people, images = [], []
    for member in study.members(name):
        splits = member.run.read_csv("splits.csv", ("filename", "unit", "role"))
        units = splits.loc[splits["role"].isin([TRAIN, SELECTION]), "unit"]
        people.append(units.nunique())
        images.append(len(units))
    return float(np.mean(people)), float(np.mean(images))


def _frame(
    curve: Curve, shares: Sequence[float], counts: dict[float, tuple[float, float]], metric: str, source: str
) -> pd.DataFrame:
    """A row per share, and one per number of people ahead."""
    first = {"metric": metric, "data": source}
    rows: list[dict[str, Any]] = [
        first | {"kind": "trained", "share": share, "num_people": n, "num_images": counts[share][1]}
        | score.columns("score")
        for share, n, score in zip(shares, curve.num_people, curve.scores, strict=True)
    ]  # fmt: skip
    rows += [
        first | {"kind": "curve", "share": None, "num_people": n, "num_images": None} | at.columns("score")
        for n, at in zip(curve.ahead, curve.curve, strict=False)
    ]
    return pd.DataFrame(rows)
