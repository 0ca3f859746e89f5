"""A learning curve over people: one config, trained on shares of the people of every fold, and judged on the same ones.

A study whose configs differ in `split.train_share` alone, or twins of a study's config that do; smaller shares are part
of the larger ones.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.common import files
from fpclass.config import Config
from fpclass.data.splits import SELECTION, TRAIN
from fpclass.errors import ConfigError
from fpclass.report.style import save_figure
from fpclass.report.text_tables import markdown_table
from fpclass.run.prepare import note_of, read_model
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.scrutiny.learning_curve import Curve, curve_findings, learning_curve
from fpclass.study.evidence.referee import Referee
from fpclass.study.figures import curve_figure
from fpclass.study.metric import metric_of, name_of
from fpclass.study.out_of_fold import collect, write_tables
from fpclass.study.plan import assemble
from fpclass.study.report import failure_of
from fpclass.study.study import OF_PEOPLE, Study
from fpclass.train.task import check_network

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the people of each fold, by default."""
ABOUT = (
    "The config, trained again on a part of the {units} of each fold, smaller parts inside larger ones, and judged on "
    "the same {units} as in the table above. Intervals hold the {units} and the noise of training, and not the overlap "
    "of training sets, which the table's do. The curve is an inverse power law; docs/statistics.md says how often its "
    "band holds."
)


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


def with_curves(study: Study, names: Sequence[str]) -> Study:
    """The study with twins of some configs (none named: the baseline) that train on a part of the people of each fold.

    The whole of them is trained anyway.

    Raises:
      ConfigError: no config of that name, or a study without folds.
    """
    if not study.num_folds:
        raise ConfigError(
            "--learning-curve: this study has one split, and it takes folds to tell what more people bring from the "
            "luck of a training; give --folds=5, and where the data set brings its own validation images only its "
            "training folder"
        )
    by_name = dict(study.configs)
    for name in names or [study.baseline]:
        if name not in study.names:
            raise ConfigError(f"--learning-curve {name}: no config of that name; there are {', '.join(study.names)}")
        for share in sorted(set(SHARES) - {1.0}, reverse=True):
            twin: Config = ConfigDict(study.configs[name].to_dict())
            twin.split.train_share *= share
            by_name[f"{name}{OF_PEOPLE}{1000 * share:04.0f}"] = experiment.check(twin.lock())
    return dataclasses.replace(study, configs=by_name)


def conclude_curve(study: Study, failures: dict[str, str]) -> str:
    """Writes learning_curve.csv, learning_curve.json and its figure; returns what they say.

    Raises:
      RunError: a member's files are missing or damaged.
    """
    trained = [name for name in study.names if name not in failures]
    lines = [f"{name}: FAILED: {failures[name]}" for name in study.names if name in failures]
    if len(trained) < 2:
        return "\n".join([*lines, "no learning curve: it takes two shares or more"])
    described = read_model(study.members(trained[0])[0].run)
    frame, record = _judge_curve(study, trained, described, study.baseline.partition("-people-")[0], "learning_curve")
    write_tables(study, trained)
    files.write_csv(study.path("learning_curve.csv"), frame)
    files.write_json(study.path("learning_curve.json"), record)
    note = note_of(described["is_synthetic"])
    lines += [*([note] if note else []), *record["findings"]]
    written = f"written     {study.path('learning_curve.csv')}, learning_curve.json, figures/learning_curve.png"
    return "\n".join(["", *lines, "", written])


def _judge_curve(
    study: Study, names: Sequence[str], described: Mapping[str, Any], of: str, figure: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of a curve, and for JSON the curve with its findings; draws it.

    Args:
      of: name of the config, for the title.
      names: of configs that differ in the share of the people that they train on; all trained.
      described: as `read_model`.
      figure: name of its file.
    """
    settings = study.configs[study.baseline]
    metric = metric_of(settings, described["classes"], described["class_names"])
    predictions = collect(study, names, described["class_names"])
    bootstrap = Bootstrap(settings.evaluate.num_resamples, settings.evaluate.confidence)
    shares = {name: study.configs[name].split.train_share for name in names}
    counts = {shares[name]: count_trained(study, name) for name in names}
    curve = learning_curve(
        {shares[name]: predictions.logits[name] for name in names},
        {share: people for share, (people, _) in counts.items()},
        predictions.cohort,
        metric,
        bootstrap,
    )
    called, note = name_of(metric, described["class_names"]), note_of(described["is_synthetic"])
    units = predictions.cohort.groups_are
    drawn = curve_figure(curve, called, of, confidence=bootstrap.confidence, units=units, note=note)
    save_figure(drawn, study.path(f"figures/{figure}.png"))
    findings = curve_findings(curve, called, bootstrap.confidence, units)
    frame = _frame(curve, sorted(shares.values()), counts, called, described["trained_on"])
    about = {"metric": called, "data": described["trained_on"], "groups_are": units, "findings": findings}
    return frame, about | curve.to_json()


def add_curves(
    found: Referee, study: Study, failures: Mapping[str, str], described: Mapping[str, Any], best: str
) -> None:
    """Adds the learning curves that a study has the trainings for, or why there is none; writes learning_curve.csv.

    Args:
      described: as `read_model`.
      best: name of the config that the scores choose.
    """
    by_config: dict[str, list[str]] = {}
    units = "people"
    for name in study.configs:
        if OF_PEOPLE in name:
            by_config.setdefault(name.partition(OF_PEOPLE)[0], []).append(name)
    frames: list[pd.DataFrame] = []
    parts: list[str] = []
    records: dict[str, Any] = {}
    for config, twins in by_config.items():
        trained = [name for name in (config, *twins) if name not in failures]
        lines = [f"{name} {failure_of(failures[name])}" for name in (config, *twins) if name in failures]
        table, figure = [], f"learning_curve_{config}"
        if config in trained and len(trained) > 1:
            frame, records[config] = _judge_curve(study, trained, described, config, figure)
            frames.append(frame.assign(config=config))
            lines = [*records[config]["findings"][1:], *lines]
            units = records[config]["groups_are"]
            table = [*markdown_table(curve_cells(frame, units)), "", f"![{figure}](figures/{figure}.png)", ""]
        else:
            lines = [f"no curve: {'; '.join(lines)}"]
            records[config] = {"why_not": lines[0]}
        if table and config == best != study.baseline:
            lines.append(
                f"{config} has the best score of this table: who asks for its curve because of that has picked the "
                "last point for being high, and not the others, so that the curve rises too steeply"
            )
        found.findings.extend(f"learning curve of {config}: {line}" for line in lines)
        parts += [f"### {config}", "", *table, *(f"- {line}" for line in lines), ""]
    if records:
        found.values["learning_curve"] = records
        found.sections["Learning curve"] = "\n".join([ABOUT.format(units=units), "", *parts]).rstrip()
    if frames:
        files.write_csv(study.path("learning_curve.csv"), pd.concat(frames))


def curve_cells(frame: Any, units: str) -> list[list[str]]:
    """What was trained, and the curve at twice as many people, or what else `units` are, its header first."""
    rows = [[f"share of the {units}", units, "images", frame["metric"].iloc[0].replace("_", " ")]]
    for row in frame[frame["kind"] == "trained"].to_dict("records"):
        score = Interval(*(row[f"score{end}"] for end in ("", "_low", "_high")))
        rows.append([f"{row['share']:.0%}", f"{row['num_people']:.0f}", f"{row['num_images']:.0f}", str(score)])
    ahead = frame[frame["kind"] == "curve"].tail(1).to_dict("records")
    for row in ahead:
        score = Interval(*(row[f"score{end}"] for end in ("", "_low", "_high")))
        rows.append(["not trained: the curve", f"{row['num_people']:.0f}", "", str(score)])
    if units == "images":  # each of its own
        return [[*row[:2], *row[3:]] for row in rows]
    return rows


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
