"""What a run's calibration and pooling are fitted on: its inner split, or what its probe said out of fold."""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Any

import numpy as np
import pytest

from fpclass.data.splits import SELECTION, TRAIN
from fpclass.errors import RunError
from fpclass.experiment import load_config
from fpclass.run.decisions.held_out import held_out_images
from fpclass.run.decisions.people import PeopleOfRun
from fpclass.run.decisions.rule import fit_rule_of_run
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, prepare
from fpclass.run.probe import INNER
from fpclass.stats.cohort import group_codes
from fpclass.stats.evidence.pooling import fit_pooling

PROBE = (
    "--config.data.label_column=SEX",
    "--config.data.group_column=ID",
    "--config.data.image_size=(24,20)",
    "--config.model.name=blocks",
    "--config.model.conv_features=(4,)",
    "--config.model.head=probe",
    "--config.predict.pool=calibrated",
)


class Made:
    """A run of noisy blobs that nobody trained, whose predictions are made up."""

    def __init__(self, folder: Any, noisy: Any, *flags: str):
        config = load_config("configs/base.py", [f"--config.data.root={noisy}", *PROBE, *flags])
        self.prepared: Prepared = prepare(config)
        self.run = Run.create(folder, config)
        self.rows = np.random.default_rng(0).permutation(self.prepared.splits.rows(TRAIN))
        self.best: Any = types.SimpleNamespace(run=self.run, epoch=3, predict_once=self.predict_once)

    def predict_once(self, prepared: Prepared, role: str) -> np.ndarray:
        assert role == SELECTION
        return np.full((len(prepared.splits.rows(role)), 2), 0.25, np.float32)

    def write_inner(self, rows: np.ndarray) -> Predictions:
        """What a probe might say of these rows: sure, mostly right, and much alike of a person's images."""
        table, splits, rng = self.prepared.table, self.prepared.splits, np.random.default_rng(1)
        people = group_codes(splits.frame["group"].to_numpy(str)[rows])
        noise = 3 * rng.normal(size=people.max(initial=0) + 1)[people] + rng.normal(size=len(rows))
        log_odds = 4 * table.labels[rows] - 2 + noise
        predictions = Predictions.make(table, splits, rows, np.stack([-log_odds, log_odds], 1) / 2, "seed-0")
        self.run.write_csv(INNER, predictions.frame)
        return Predictions.read(self.run, INNER, table.classes)

    def decide(self) -> tuple[Any, PeopleOfRun, dict[str, Any]]:
        """The rule, what is said of people, and pooling.json."""
        held_out = held_out_images(self.best, self.prepared)
        rule = fit_rule_of_run(self.best, self.prepared, held_out)
        people = PeopleOfRun(self.best, self.prepared, held_out, rule)
        return rule, people, json.loads(self.run.path("pooling.json").read_text())


@pytest.fixture
def made(tmp_path, noisy) -> Made:
    return Made(tmp_path / "run", noisy)


def test_a_probe_is_calibrated_and_pooled_by_what_it_said_out_of_fold(made):
    inner = made.write_inner(made.rows)
    held_out = held_out_images(made.best, made.prepared)
    np.testing.assert_array_equal(held_out.rows, made.rows)
    np.testing.assert_array_equal(held_out.logits, inner.logits)
    rule, people, written = made.decide()
    codes = group_codes(made.prepared.splits.frame["group"].to_numpy(str)[made.rows])
    log_p = rule.calibration.apply(inner.logits)
    expected = fit_pooling(log_p, made.prepared.table.labels[made.rows], codes)
    assert people.pooling.method == written["method"] == "calibrated"
    assert (written["scale"], written["correlation"]) == pytest.approx((expected.scale, expected.correlation))
    assert written["bias"] == pytest.approx(expected.bias)
    assert abs(people.pooling.of_people(log_p, codes) - expected.of_people(log_p, codes)).max() < 1e-6
    mean = dataclasses.replace(people.pooling, method="mean")
    assert abs(people.pooling.of_people(log_p, codes) - mean.of_people(log_p, codes)).max() > 0.1
    assert set(written["thresholds"]) == {"accuracy", "f1", "balanced_accuracy"}
    assert rule.fitted_on == "the inner cross-validation (80 images, out of fold)"
    assert written["fitted_on"] == "the inner cross-validation (40 people, out of fold)"


def test_an_inner_split_is_what_a_trained_network_is_fitted_on(tmp_path, noisy):
    flags = "--config.model.head=own", "--config.train.early_stopping=restore_best"
    made = Made(tmp_path / "run", noisy, *flags)
    made.write_inner(made.rows)  # of a probe that was never there
    held_out = held_out_images(made.best, made.prepared)
    np.testing.assert_array_equal(held_out.rows, made.prepared.splits.rows(SELECTION))
    assert (held_out.logits == 0.25).all()
    assert held_out.by_image.startswith(f"the inner split ({len(held_out.rows)} images of ")
    assert held_out.by_person(7) == "the inner split (7 people)"


def test_a_network_trained_on_from_a_probe_has_nothing_left(tmp_path, noisy):
    made = Made(tmp_path / "run", noisy, "--config.finetune.from_probe=True")
    made.write_inner(made.rows)  # it learnt from these since
    rule, people, written = made.decide()
    assert rule.why_not.startswith("nothing was set aside to choose an epoch on")
    assert (written["method"], written["why_not"]) == ("mean", rule.why_not)
    assert people.cohort is None


def test_augmented_copies_are_no_further_images_of_a_person(made):
    """Else a person with one image would be pooled over copies, which no new image has."""
    table = made.prepared.table
    names = table.rows["filename"].to_numpy(str)
    first, second = made.rows[: len(made.rows) // 2], made.rows[len(made.rows) // 2 :]
    inner = made.write_inner(made.rows)
    copy_of = np.full(len(table), "", object)
    copy_of[second] = names[first]
    audit = dataclasses.replace(made.prepared.audit, table=table.with_columns(copy_of=copy_of))
    held_out = held_out_images(made.best, dataclasses.replace(made.prepared, audit=audit))
    np.testing.assert_array_equal(held_out.rows, first)
    np.testing.assert_array_equal(held_out.logits, inner.logits[: len(first)])
    assert held_out.by_image == f"the inner cross-validation ({len(first)} images, out of fold)"


@pytest.mark.parametrize(
    ("num_images", "rule_says", "pooling_says"),
    [
        (0, "the inner cross-validation (0 images, out of fold) is too small, it takes 20 images", None),
        (30, "", "{} people to fit on, it takes 20"),
    ],
)
def test_too_few_to_pool_by_are_said(made, num_images, rule_says, pooling_says):
    rows = np.sort(made.rows)[:num_images]
    made.write_inner(rows)
    rule, _, written = made.decide()
    num_people = len(set(made.prepared.splits.frame["group"].to_numpy(str)[rows]))
    assert rule.why_not == rule_says
    assert written["method"] == "mean"
    assert written["why_not"] == (pooling_says.format(num_people) if pooling_says else rule_says)


def test_people_of_several_classes_are_not_pooled(made):
    inner, rows = made.write_inner(made.rows), made.rows
    groups = made.prepared.splits.frame["group"].to_numpy(str)
    labels = np.array(made.prepared.table.labels)
    torn = rows[groups[rows] == groups[rows[0]]][0]
    labels[torn] = 1 - labels[torn]
    table = made.prepared.table.with_columns(label=labels)
    made.prepared = dataclasses.replace(made.prepared, audit=dataclasses.replace(made.prepared.audit, table=table))
    rule, _, written = made.decide()
    assert rule.fitted_on.startswith(f"the inner cross-validation ({len(inner.labels)} images")
    assert (written["method"], written["why_not"][:16]) == ("mean", "1 of 40 people h")


def test_predictions_of_other_images_are_refused(made):
    frame = made.write_inner(made.rows).frame
    made.run.write_csv(INNER, frame.assign(filename=["other.png", *frame["filename"][1:]]))
    with pytest.raises(RunError, match=r"inner_predictions.csv: other.png is no image of .*train again"):
        held_out_images(made.best, made.prepared)
