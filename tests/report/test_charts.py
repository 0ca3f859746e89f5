import errno
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fpclass.errors import RunError
from fpclass.explain import figures as explain_figures
from fpclass.report import charts as figures
from fpclass.report import grids
from fpclass.stats.intervals import Interval
from fpclass.stats.metrics import compute_metrics

LONG_NAMES = [
    "a long class name, as the folders of a museum have it",
    "costs $5 & {x_1^} $",
    "_hidden",
    "Barefoot (left)",
]
TEN_NAMES = LONG_NAMES + [f"class {k}" for k in range(4, 10)]
NOTE = "SYNTHETIC data: drawn, not taken, so that nobody mistakes this for a result about people"


def make_images(num_images=12, channels=1, size=(30, 20), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_images, *size, channels), np.uint8)


def make_predictions(num_images, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    logits = rng.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), labels] += 1
    return logits, labels


def make_history(num_epochs=12):
    history = [{"epoch": e, "train_loss": 1 / e} for e in range(1, num_epochs + 1)]
    for entry in history[::5]:
        entry |= {"selection_loss": 0.5, "selection_accuracy": 0.8, "validation_loss": None}
    return history


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def draw_every_figure(channels, class_names, size):
    """Every figure there is, by name."""
    num_classes = len(class_names)
    images = make_images(3 * num_classes, channels, size)
    labels = np.arange(len(images)) % num_classes
    filenames = [f"photographs/person_{i:06d}_left_foot.jpeg" for i in range(len(images))]
    logits, true = make_predictions(50, num_classes)
    counts = dict.fromkeys(class_names, 123_456)
    matrix = np.arange(num_classes**2).reshape(num_classes, num_classes)
    maps = np.random.default_rng(0).random((5, 7, 5))
    titles = [f"{filenames[0]}: {class_names[0]}, called {class_names[1]} (p = 0.98)"] * 5
    rng = np.random.default_rng(0)
    yield "class_balance", figures.class_balance(counts, note=NOTE)
    yield "image_sizes", figures.image_sizes(rng.integers(1, 9999, 50), rng.integers(1, 9999, 50), note=NOTE)
    yield "mean_images", grids.mean_images(images, labels, class_names, note=NOTE)
    yield "sample_grid", grids.sample_grid(images, labels, class_names, filenames, note=NOTE)
    yield "confusion_matrix", figures.confusion_matrix(matrix, class_names, note=NOTE)
    yield "roc_curves", figures.roc_curves(logits, true, class_names, Interval(0.8, 0.7, 0.9), note=NOTE)
    yield "learning_curves", figures.learning_curves(make_history(), 6, note=NOTE)
    yield (
        "map_sheet",
        explain_figures.map_sheet(
            images[:5], maps, titles, [False, True, None, True, False], title=titles[0], captions=titles, note=NOTE
        ),
    )


@pytest.mark.parametrize(
    ("channels", "class_names", "size"),
    [(1, LONG_NAMES[:2], (30, 20)), (3, TEN_NAMES, (20, 45))],
    ids=["grey-2-portrait", "rgb-10-landscape"],
)
def test_nothing_is_clipped_and_every_figure_carries_its_note(channels, class_names, size):
    for name, figure in draw_every_figure(channels, class_names, size):
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.02, name
        assert box.x1 < width + 0.02, name
        assert box.y1 < height + 0.02, name
        assert any(" ".join(text.split()) == NOTE for text in texts(figure)), name


def test_no_window_and_no_global_state(tmp_path):
    # In a process of its own: what a test before this one left behind would hide what is left behind.
    code = """
import sys, matplotlib, numpy as np, fpclass.report.charts as figures
before = matplotlib.rcParams.copy()
figures.save_figure(figures.image_sizes(np.array([2]), np.array([3])), sys.argv[1])
assert matplotlib.rcParams.copy() == before
print([m for m in ("matplotlib.pyplot", "jax", "sklearn") if m in sys.modules])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "sizes.png")]
    assert subprocess.check_output(command, text=True).strip() == "[]"


def test_save_figure_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new folder" / "balance.png"
    for count in (1, 2):
        figures.save_figure(figures.class_balance({"a": count, "b": 1}), path)
    assert [p.name for p in path.parent.iterdir()] == ["balance.png"]
    with Image.open(path) as image:
        assert image.size == (1050, 351)


def test_the_ending_is_the_format_and_without_one_it_is_png(tmp_path):
    begin = {"a": b"\x89PNG", "b.PNG": b"\x89PNG", "c.jpg": b"\xff\xd8", "d.pdf": b"%PDF", "e.svg": b"<?xml"}
    for name, signature in begin.items():
        figures.save_figure(figures.class_balance({"a": 1}), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(signature)
    with pytest.raises(RunError, match=r"f\.xyz: no figure can be written as 'xyz'; choose an ending of png, jpg"):
        figures.save_figure(figures.class_balance({"a": 1}), tmp_path / "f.xyz")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(begin)


def test_a_full_disk_leaves_the_old_figure(tmp_path, monkeypatch):
    path = tmp_path / "balance.png"
    path.write_bytes(b"old")

    def write_half(self, target, **options):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", write_half)
    with pytest.raises(RunError, match=r"balance\.png: cannot write \(No space left"):
        figures.save_figure(figures.class_balance({"a": 1}), path)
    assert [p.name for p in tmp_path.iterdir()] == ["balance.png"]
    assert path.read_bytes() == b"old"


def test_an_impossible_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"x\.png: cannot write"):
        figures.save_figure(figures.class_balance({"a": 1}), tmp_path / "file" / "x.png")


def test_class_balance_shows_counts_in_order():
    (axes,) = figures.class_balance({"first": 30, "second": 10, "none": 0}).axes
    assert [bar.get_width() for bar in axes.patches] == [30, 10, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "none"]
    assert "30 (75.0%)" in texts(axes)
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first class is the uppermost


def test_image_sizes_puts_width_across_and_height_up():
    (axes,) = figures.image_sizes(np.array([10, 10, 40]), np.array([30, 30, 20])).axes
    (dots,) = axes.collections
    np.testing.assert_array_equal(dots.get_offsets(), [[10, 30], [40, 20]])
    assert dots.get_sizes()[0] > dots.get_sizes()[1]
    assert "2 sizes,\nthe commonest 30 x 10 px (height x width), 2 times" in axes.get_title(loc="left")
    (alone,) = figures.image_sizes(np.array([499] * 3), np.array([375] * 3)).axes
    assert "3 images, all 375 x 499 px (height x width)" in alone.get_title(loc="left")


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_images_are_the_means_and_their_difference(channels):
    images = make_images(1200, channels)
    labels = np.arange(1200) % 3 - 1  # a third has no label
    figure = grids.mean_images(images, labels, ["a", "b"])
    first, second, difference = (axes.images[0].get_array() for axes in figure.axes[:3])
    means = [images[labels == k].mean(axis=0).squeeze() for k in (0, 1)]
    # RGB is shown in whole steps.
    np.testing.assert_allclose(np.asarray(first, float), means[0], atol=1 if channels == 3 else 1e-9)
    np.testing.assert_allclose(np.asarray(second, float), means[1], atol=1 if channels == 3 else 1e-9)
    expected = (means[1] - means[0]).reshape(30, 20, channels).mean(axis=-1)
    np.testing.assert_allclose(difference, expected, atol=1e-9)
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high  # white is no difference


def test_mean_images_of_a_class_without_images():
    figure = grids.mean_images(make_images(3), np.zeros(3, np.int64), ["a", "b"])
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 0]
    assert "no images" in texts(figure)


def test_sample_grid_shows_each_class_its_own_images_under_their_names():
    images = make_images(40)
    labels = np.arange(40) % 4 - 1
    filenames = [f"{i}.png" for i in range(40)]
    figure = grids.sample_grid(images, labels, ["a", "b", "c"], filenames, seed=3)
    shown = {}
    for k, row in enumerate(np.array(figure.axes).reshape(3, 8)):
        for axes in row:
            position = filenames.index(axes.get_title())
            assert labels[position] == k
            np.testing.assert_array_equal(axes.images[0].get_array(), images[position, ..., 0])
            shown.setdefault(k, set()).add(position)
        assert row[0].get_ylabel() == "abc"[k]
    assert [len(positions) for positions in shown.values()] == [8, 8, 8]
    again = grids.sample_grid(images, labels, ["a", "b", "c"], filenames, seed=3)
    other = grids.sample_grid(images, labels, ["a", "b", "c"], filenames, seed=4)
    titles = [[axes.get_title() for axes in f.axes] for f in (figure, again, other)]
    assert titles[0] == titles[1] != titles[2]


def test_sample_grid_without_labelled_images():
    figure = grids.sample_grid(make_images(2), np.array([-1, -1]), ["a", "b"], ["x", "y"])
    assert not any(axes.images for axes in figure.axes)


def test_confusion_matrix_has_true_classes_in_rows():
    figure = figures.confusion_matrix([[6, 2], [1, 9]], ["cat", "dog"])
    axes = figure.axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "6\n75%", (1, 0): "2\n25%", (0, 1): "1\n10%", (1, 1): "9\n90%"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0.1, 0.9]])
    # Row 0, that is the largest y on the screen, is on top.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


@pytest.mark.parametrize("num_classes", [2, 4])
def test_roc_curves_enclose_the_reported_area(num_classes):
    logits, labels = make_predictions(80, num_classes)
    names = LONG_NAMES[:num_classes]
    reported = compute_metrics(logits, labels, names)["roc_auc"]
    (axes,) = figures.roc_curves(logits, labels, names, Interval(reported, 0.61, 0.99)).axes
    curves = [line.get_xydata() for line in axes.lines[1:]]
    areas = [np.trapezoid(curve[:, 1], curve[:, 0]) for curve in curves]
    assert len(curves) == (1 if num_classes == 2 else num_classes)
    assert np.mean(areas) == pytest.approx(reported, abs=1e-9)
    assert f"{reported:.3f} [0.610, 0.990]" in axes.get_title(loc="left")
    (without,) = figures.roc_curves(logits, labels, names).axes
    assert without.get_title(loc="left").endswith(f" {reported:.3f}")
    if num_classes == 2:
        # Of class 1: the scores that it gets for being called class 0 would give the same area.
        threshold = (logits[:, 1] > logits[:, 0])[labels == 1].mean()
        assert np.isclose(curves[0][:, 1], threshold).any()


def test_roc_curves_of_a_class_without_images():
    logits, labels = make_predictions(30, 3)
    (axes,) = figures.roc_curves(logits, labels % 2, ["a", "b", "c"], Interval()).axes
    assert any(text.startswith("c: undefined") for text in texts(axes))
    assert axes.get_title(loc="left") == ""


def test_learning_curves_show_what_was_measured_when():
    figure = figures.learning_curves(make_history(), chosen_epoch=6)
    loss, accuracy = figure.axes
    curves = {line.get_label(): line.get_xydata() for line in loss.lines}
    assert list(curves) == ["training (loss as minimised)", "selection", "epoch 6, kept"]
    np.testing.assert_allclose(curves["training (loss as minimised)"], [[e, 1 / e] for e in range(1, 13)])
    np.testing.assert_allclose(curves["selection"], [[1, 0.5], [6, 0.5], [11, 0.5]])
    assert set(curves["epoch 6, kept"][:, 0]) == {6}
    assert [line.get_label() for line in accuracy.lines] == ["selection", "epoch 6, kept"]
    figure.draw_without_rendering()
    ((legend,),) = [part.legends for part in figure.subfigs]
    assert [text.get_text() for text in legend.get_texts()] == list(curves)
    assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_a_probe_has_a_curve_for_each_way_of_weighing_over_its_strengths():
    history = [
        {"epoch": 1, "strength": 0.1, "balance": 0.0, "selection_loss": 0.6, "selection_accuracy": 0.5},
        {"epoch": 2, "strength": 1.0, "balance": 0.0, "selection_loss": 0.5, "selection_accuracy": 0.6},
        {"epoch": 3, "strength": 0.1, "balance": 1.0, "selection_loss": 0.4, "selection_accuracy": 0.7},
    ]
    history[2] |= {"train_loss": 0.1, "validation_loss": 0.45}
    figure = figures.learning_curves(history, chosen_epoch=3)
    loss, _ = figure.axes
    assert "A probe has no epochs: loss and accuracy by the strength of its penalty" in " ".join(texts(figure))
    curves = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert curves["out of fold, features weigh the same"] == [[0.1, 0.6], [1.0, 0.5]]
    assert curves["out of fold, stages weigh the same"] == [[0.1, 0.4]]
    assert (curves["training"], curves["validation"]) == ([[0.1, 0.1]], [[0.1, 0.45]])
    assert loss.get_xscale() == "log"
    figure.draw_without_rendering()
    assert {"0.1", "1"} <= {label.get_text() for label in loss.get_xticklabels()}


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "train_loss": 0.7}]])
def test_learning_curves_of_next_to_nothing(history):
    figure = figures.learning_curves(history)
    assert texts(figure).count("not measured") == 2 - len(history)
    figure.draw_without_rendering()


def test_images_are_shown_in_the_shape_of_their_files():
    """What was stretched for the network is drawn as the photographer took it."""
    images, shapes = make_images(3, channels=3), np.array([[300, 600], [600, 200], [50, 50]])
    labels, names = np.zeros(3, int), ["a", "b", "c"]
    sheets = {
        "samples": grids.sample_grid(images, labels, ["cat"], names, shapes=shapes),
        "predictions": grids.prediction_grid(images, names, [True] * 3, "predictions", shapes=shapes),
        "errors": grids.error_gallery(images, {"cat": np.arange(3)}, names, [True] * 3, "errors", 3, shapes=shapes),
        "copies": grids.augment_sheet(images, images[:, None], ["cat"] * 3, names, "copies", shapes=shapes),
    }
    for name, figure in sheets.items():
        figure.draw_without_rendering()
        panels = np.array([panel for panel in figure.axes if panel.images])
        for i, of_image in enumerate(panels.reshape(3, -1)):
            for panel in of_image:
                box = panel.get_window_extent()
                assert box.height / box.width == pytest.approx(shapes[i, 0] / shapes[i, 1], rel=0.03), name


def test_right_predictions_are_green_and_wrong_ones_red():
    """In the grid of a run and in the galleries of errors, whatever place an image has in them."""
    images, is_right = make_images(4), [True, False, False, True]
    titles = [f"image {i}" for i in range(4)]
    grid = grids.prediction_grid(images, titles, is_right, "predictions")
    gallery = grids.error_gallery(
        images, {"cat": np.array([2, 0]), "dog": np.array([3, 1])}, titles, is_right, "errors"
    )
    for figure in (grid, gallery):
        seen = {panel.get_title(): panel for panel in figure.axes if panel.get_title()}
        assert sorted(seen) == titles
        for title, good in zip(titles, is_right, strict=True):
            red, green, blue = to_rgb(seen[title].title.get_color())
            assert (green > 2 * red) if good else (red > 2 * green)
            assert seen[title].spines["left"].get_edgecolor()[:3] == (red, green, blue)
            assert seen[title].spines["left"].get_linewidth() == (0.8 if good else 2.0)
