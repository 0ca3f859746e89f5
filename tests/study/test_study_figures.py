import dataclasses

import numpy as np
import pytest
from drawn_predictions import people_predictions
from matplotlib.figure import Figure
from matplotlib.text import Text

from configs import base
from fpclass.report import side_by_side
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.report import decision_report
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.reliability import calibration_report
from fpclass.stats.scrutiny.learning_curve import Curve
from fpclass.study.figures import curve_figure, reliability_diagram, risk_coverage_curve
from fpclass.study.gallery import draw_gallery
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study

pytestmark = pytest.mark.figures

NOTE = "SYNTHETIC data: drawn, not taken, so that nobody mistakes this for a result about people"


def make_reports(num_people=60, num_classes=2, num_resamples=50, skill=1.5):
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(num_people), 2)
    labels = people % num_classes
    logits = rng.normal(size=(len(people), num_classes))
    logits[np.arange(len(people)), labels] += skill
    arguments = 3 * logits, Cohort(labels, people, people // num_classes % 3), Bootstrap(num_resamples, 0.95)
    return calibration_report(*arguments), decision_report(*arguments)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize(("num_classes", "num_resamples", "skill"), [(2, 50, 1.5), (4, 0, 1.0), (3, 50, 40.0)])
def test_nothing_is_clipped_and_every_figure_carries_its_note(num_classes, num_resamples, skill):
    calibration, decision = make_reports(60, num_classes, num_resamples, skill)
    for figure in (reliability_diagram(calibration, note=NOTE), risk_coverage_curve(decision, note=NOTE)):
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.02
        assert box.x1 < width + 0.02
        assert box.y1 < height + 0.02
        assert any(" ".join(text.split()) == NOTE for text in texts(figure))


@pytest.mark.parametrize(("num_classes", "left"), [(2, 0.5), (4, 0.0)])
def test_reliability_diagram_shows_the_bins_of_both_stages(num_classes, left):
    report, _ = make_reports(num_classes=num_classes)
    axes = reliability_diagram(report).axes
    assert len(axes) == (6 if num_classes == 2 else 4), "two classes have a row about the second one"
    for panel, stage in zip(axes[4:], ("before", "after"), strict=False):
        of_class = report[stage]["of_class"]
        points = [(b["confidence"], b["accuracy"]["value"]) for b in of_class["bins"]]
        np.testing.assert_allclose(panel.lines[-1].get_xydata(), points)
        assert f"ECE {Interval.of(of_class['ece'])};" in panel.get_title(loc="left")
        assert panel.get_xlim()[0] < 0.01
    for panel, histogram, stage in zip(axes[:2], axes[2:4], ("before", "after"), strict=True):
        points = [(b["confidence"], b["accuracy"]["value"]) for b in report[stage]["bins"]]
        np.testing.assert_allclose(panel.lines[-1].get_xydata(), points)
        bounds = [line.get_ydata() for line in panel.lines[1:-1]]
        np.testing.assert_allclose(bounds, [[b["accuracy"][k] for k in ("low", "high")] for b in report[stage]["bins"]])
        assert [bar.get_height() for bar in histogram.patches] == report[stage]["confidence_counts"]
        assert histogram.get_xlim()[0] == left
        ece = report[stage]["ece"]
        assert f"ECE {Interval.of(ece)};" in panel.get_title(loc="left")
        assert f"{ece['expected_if_calibrated']:.3f} by chance" in panel.get_title(loc="left")


def test_risk_curve_shows_curve_band_and_chosen_point():
    _, report = make_reports(300, skill=2.5)
    (axes,) = risk_coverage_curve(report).axes
    abstention = report["abstention"]
    curve = abstention["curve"]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.stack([curve["coverage"], curve["risk"]], axis=1))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert corners[corners[:, 0] == 1.0][:, 1].max() == pytest.approx(curve["high"][-1])
    assert corners[corners[:, 0] == 1.0][:, 1].min() == pytest.approx(curve["low"][-1])
    chosen = [abstention["coverage"]["value"], abstention["risk"]["value"]]
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [chosen])
    assert f"{abstention['aurc']['value']:.3f} [" in axes.get_title(loc="left")
    promise = f"at most 5 % errors, 90 % confidence: from {abstention['smallest_confidence']:.3f} on"
    assert promise in axes.get_title(loc="left")


def test_curves_over_epochs_are_of_configs_that_have_epochs(tmp_path):
    """Where none has, the figure of an earlier start goes: nobody would draw it again."""
    logits, of_folds = people_predictions(20, 2)
    cohort = Cohort(of_folds.labels, of_folds.groups, None, ("a", "b"))

    def drawn(**heads):
        configs = {}
        for name, head in heads.items():
            configs[name] = base.get_config()
            configs[name].model.head = head
        study = Study(tmp_path, configs, 0, 1, next(iter(configs)))
        for name in heads:
            run = study.members(name)[0].run
            run.folder.mkdir(parents=True, exist_ok=True)
            run.path("log.jsonl").write_text('{"epoch": 1, "train_loss": 0.5, "validation_loss": 0.6}\n')
        predictions = OutOfFold([], cohort, dict.fromkeys(heads, logits[None]), cohort)
        return draw_gallery(study, predictions, log_softmax(logits), None, "validation images", NOTE)

    figure = tmp_path / "figures" / "learning_curves.png"
    assert "learning_curves" in drawn(network="gap", probe="probe")
    assert figure.is_file()
    assert drawn(probe="probe") == ["confusion_matrices", "roc"]
    assert not figure.exists()


def test_the_ensemble_has_its_roc_curve(tmp_path, monkeypatch):
    logits, of_folds = people_predictions(20, 2)
    cohort = Cohort(of_folds.labels, of_folds.groups, of_folds.folds, ("a", "b"))
    config = base.get_config()
    config.model.head = "probe"
    drawn = []
    monkeypatch.setattr(side_by_side, "roc_curves", lambda members, *_, **__: drawn.append(members) or Figure())
    predictions = OutOfFold([], cohort, {"probe": logits[None]}, cohort)
    study = Study(tmp_path, {"probe": config}, 5, 1, "probe")
    draw_gallery(study, predictions, log_softmax(-logits), None, "validation images", NOTE)
    ((probe, ensemble),) = [members.values() for members in drawn]
    assert list(drawn[0]) == ["probe", "the ensemble"]
    assert len(probe) == len(ensemble) == cohort.num_folds
    np.testing.assert_allclose(ensemble[0][0], log_softmax(-logits)[cohort.folds == 0])


def test_a_learning_curve_of_hardly_any_height_looks_flat():
    points = tuple(Interval(0.5 + 1e-4 * i) for i in range(3))
    curve = Curve(np.array([10.0, 20, 40]), points, 0.0, np.array([40.0, 80]), (), Interval(), "three shares")
    (axes,) = curve_figure(curve, "log_loss", "probe", confidence=0.95).axes
    assert np.diff(axes.get_ylim()) == pytest.approx(0.05)
    tall = dataclasses.replace(curve, scores=tuple(Interval(0.5 + 0.1 * i) for i in range(3)))
    assert np.diff(curve_figure(tall, "log_loss", "probe", confidence=0.95).axes[0].get_ylim()) > 0.2


def test_risk_curve_where_nothing_is_decided():
    _, report = make_reports(skill=0.0)
    assert report["abstention"]["risk"]["value"] is None
    (axes,) = risk_coverage_curve(report).axes
    assert "no threshold can promise it" in axes.get_title(loc="left")
    assert len(axes.lines) == 2, "no point stands for what nobody promises"
