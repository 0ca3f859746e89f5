"""Charts of several configs side by side: what they show, and that nothing is cut off."""

import numpy as np
import pytest
from matplotlib.text import Text
from sklearn.metrics import auc, roc_auc_score

from fpclass.report import side_by_side

NOTE = "SYNTHETIC data: drawn, not taken" + 4 * ", and said at some length"


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def make_members(num_classes, num_members=2):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, 60)
    return [(np.eye(num_classes)[labels] + rng.normal(size=(60, num_classes)), labels) for _ in range(num_members)]


def history(num_epochs, shift=0.0):
    epochs = range(1, num_epochs + 1)
    return [{"epoch": e, "train_loss": 1 / e + shift, "train_accuracy": None, "validation_loss": 2 / e} for e in epochs]


@pytest.mark.parametrize(("num_configs", "num_classes"), [(1, 2), (3, 2), (7, 5)])
def test_nothing_is_cut_off_and_every_figure_carries_its_note(num_configs, num_classes):
    names = [f"configuration_with_a_long_name_{i}" for i in range(num_configs)]
    class_names = [f"class {k}" for k in range(num_classes)]
    matrices = {name: np.full((num_classes, num_classes), 7) for name in names}
    members = {name: make_members(num_classes) for name in names}
    for figure in (
        side_by_side.learning_curves({name: [history(4), history(3, 0.2)] for name in names}, note=NOTE),
        side_by_side.confusion_matrices(matrices, class_names, "test images", note=NOTE),
        side_by_side.roc_curves(members, class_names, "test images", note=NOTE),
    ):
        figure.draw_without_rendering()
        legends = [legend for part in (figure, *figure.subfigs) for legend in part.legends]
        assert not any(legend.get_window_extent().overlaps(figure._supxlabel.get_window_extent()) for legend in legends)
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.02
        assert box.x1 < width + 0.02
        assert box.y1 < height + 0.02
        assert any(" ".join(text.split()) == NOTE for text in texts(figure))


def test_the_mean_of_learning_curves_is_of_the_members_that_go_on():
    figure = side_by_side.learning_curves({"a": [history(3), history(2, shift=1.0)], "b": [history(2)]})
    loss = next(axes for axes in figure.axes if axes.get_title(loc="left") == "a")
    thick = [line for line in loss.lines if line.get_linewidth() > 2 and len(line.get_xdata())]
    assert list(thick[0].get_xdata()) == [1, 2, 3]
    np.testing.assert_allclose(thick[0].get_ydata(), [1.5, 1.0, 1 / 3])
    ranges = {axes.get_ylim() for axes in figure.axes if axes.get_title(loc="left") in ("a", "b")}
    assert len(ranges) == 1, "one scale for all, or they could not be compared"


@pytest.mark.parametrize("num_classes", [2, 3])
def test_areas_are_means_over_members(num_classes):
    members = make_members(num_classes)
    areas = []
    for logits, labels in members:
        odds = logits[:, 1] - np.logaddexp.reduce(np.delete(logits, 1, axis=1), axis=1)
        areas.append(roc_auc_score(labels == 1, odds))
    figure = side_by_side.roc_curves({"config": members}, ["a", "b", "c"][:num_classes], "out of fold")
    assert f"config {np.mean(areas):.3f}" in texts(figure)
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == (1 if num_classes == 2 else 3)
    x, y = panels[0 if num_classes == 2 else 1].lines[1].get_data()
    assert auc(x, y) == pytest.approx(np.mean(areas), abs=0.01)


@pytest.mark.parametrize(("num_classes", "num_panels", "num_empty"), [(2, 1, 0), (3, 3, 0), (4, 4, 0), (5, 6, 1)])
def test_few_curves_leave_no_panel_empty_but_for_a_last_one(num_classes, num_panels, num_empty):
    members = dict.fromkeys(("probe", "tuned", "the ensemble"), make_members(num_classes))
    figure = side_by_side.roc_curves(members, [f"class {k}" for k in range(num_classes)], "out of fold")
    assert len(figure.axes) == num_panels
    assert sum(not axes.axison for axes in figure.axes) == num_empty
    assert all(axes.get_legend() for axes in figure.axes if axes.axison)


@pytest.mark.parametrize("num_configs", [3, 12])
def test_curves_that_are_the_same_are_all_seen(num_configs):
    members = {f"config {i}": make_members(2) for i in range(num_configs)}
    figure = side_by_side.roc_curves(members, ["a", "b"], "out of fold")
    widths = [line.get_linewidth() for line in figure.axes[0].lines[1:]]
    assert len(set(widths)) == num_configs
    assert widths == sorted(widths, reverse=True), "the widest lies below"


def test_a_class_without_images_has_no_curve():
    logits, labels = make_members(3)[0]
    kept = labels != 2
    figure = side_by_side.roc_curves({"config": [(logits[kept], labels[kept])]}, ["a", "b", "c"], "test images")
    assert "config undefined" in texts(figure)


def test_a_confusion_matrix_of_every_config():
    matrices = {"one": np.array([[3, 1], [0, 4]]), "the ensemble": np.array([[4, 0], [0, 4]])}
    figure = side_by_side.confusion_matrices(matrices, ["ship", "cat"], "validation images")
    assert {"one", "the ensemble", "3\n75%", "1\n25%", "4\n100%"} <= set(texts(figure))
