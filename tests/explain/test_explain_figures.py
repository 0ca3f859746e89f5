"""Figures of Grad-CAM and of feature maps: the right way round, in the image's shape, and what was chosen."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from fpclass.explain import figures
from fpclass.explain.feature_maps import FeatureMaps
from fpclass.explain.figures import feature_map_rows

NOTE = "SYNTHETIC data: drawn, not taken"
TITLE = "photographs/person_000012_left_foot.jpeg\ntrue Barefoot (left), predicted costs $5 & {x_1^} $ (98%)"


def make_stage(name, num_channels, size, first=0):
    maps = np.random.default_rng(0).random((num_channels, *size))
    return FeatureMaps(name, (*size, 3 * num_channels + 1), first + np.arange(num_channels), maps)


STAGES = [make_stage("conv1/relu", 6, (26, 16)), make_stage("squeeze_excitation1/scaled", 16, (13, 8), 100)]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_in_order_panels_in_the_shape_of_the_image(channels):
    image = np.random.default_rng(0).integers(0, 256, (30, 20, channels), np.uint8)
    figure = feature_map_rows(image, STAGES, 2, TITLE, note=NOTE)
    figure.draw_without_rendering()
    whole, first, second = figure.axes
    shown = image[..., 0] if channels == 1 else image
    np.testing.assert_array_equal(whole.images[0].get_array(), shown)
    assert [len(row.images) for row in (first, second)] == [6, 16]
    assert "26 x 16 x 19" in first.get_ylabel()
    assert [text.get_text() for text in second.texts] == [str(100 + i) for i in range(16)]
    assert first.get_window_extent().y0 > second.get_window_extent().y1
    for row, stage in zip((first, second), STAGES, strict=True):
        for i, panel in enumerate(row.images):
            np.testing.assert_array_equal(panel.get_array(), stage.maps[i])
            box = panel.get_window_extent()
            assert box.height / box.width == pytest.approx(1.5, rel=0.02)
    # Channels of the two rows are of one size and stand one below the other.
    assert first.images[3].get_window_extent().x0 == pytest.approx(second.images[3].get_window_extent().x0, abs=1)
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.02
    assert max(box.x1 - width, box.y1 - height) < 0.02


def test_it_says_how_channels_were_chosen_and_scaled_and_what_was_left_out():
    image = np.zeros((30, 20, 1), np.uint8)
    dead = FeatureMaps("conv9/relu", (4, 4, 8), np.array([], int), np.zeros((0, 4, 4)))

    def said(stages, num_stages):
        figure = feature_map_rows(image, stages, num_stages, TITLE, note=NOTE)
        return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())

    assert "standard deviation over the image is largest" in said(STAGES, 2)
    assert "two standard deviations below" in said(STAGES, 2)
    assert NOTE in said(STAGES, 2)
    assert "of 2 stages" not in said(STAGES, 2)
    assert "2 of 9 stages" in said(STAGES, 9)
    assert "every channel is the same everywhere" in said([*STAGES, dead], 3)


def test_maps_are_enlarged_the_right_way_round():
    heat = np.zeros((27, 17))
    heat[2, 14] = 1  # near the upper right corner
    enlarged = figures.resize_map(heat, (120, 80))
    assert enlarged.shape == (120, 80)
    row, column = np.unravel_index(enlarged.argmax(), enlarged.shape)
    # The middle of cell (2, 14) of 27 x 17, in the pixels of 120 x 80.
    assert abs(row + 0.5 - 2.5 * 120 / 27) <= 1
    assert abs(column + 0.5 - 14.5 * 80 / 17) <= 1
    assert enlarged.min() >= 0
    assert enlarged.max() <= 1
    # Smooth: neighbouring pixels of the peak are lit as well.
    assert (enlarged > 0.1).sum() > 20


@pytest.mark.parametrize("size", [(50, 90), (9, 5)])
def test_many_maps_are_resized_as_pillow_resizes_each(size):
    maps = np.random.default_rng(0).random((3, 18, 7)).astype(np.float32)
    alone = [Image.fromarray(heat).resize(size[::-1], Image.Resampling.BICUBIC) for heat in maps]
    np.testing.assert_allclose(figures.resize_map(maps, size), np.clip(np.stack(alone), 0, 1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_overlay_lights_the_place_and_keeps_the_image_visible(channels):
    image = np.full((40, 20, channels), 200, np.uint8)
    image[30:, :] = 0
    heat = np.zeros((4, 2))
    heat[0, 1] = 1
    result = figures.overlay(image, heat)
    assert result.shape == (40, 20, 3)
    assert result.min() >= 0
    assert result.max() <= 255
    lit, dark, ink = result[4, 16], result[20, 4], result[36, 4]
    assert lit.mean() > dark.mean() + 50
    assert dark.mean() > ink.mean() + 50


def test_feature_maps_have_the_shape_of_the_file():
    image = np.zeros((20, 20, 1), np.uint8)
    figure = feature_map_rows(image, STAGES, 2, TITLE, shapes=np.array([[100, 300], [300, 100]]))
    figure.draw_without_rendering()
    whole = figure.axes[0].get_window_extent()
    assert whole.height / whole.width == pytest.approx(1 / 3, rel=0.03)
    left, right, bottom, top = figure.axes[1].images[0].get_extent()
    assert (top - bottom) / (right - left) == pytest.approx(1 / 3, rel=0.03)


@pytest.mark.parametrize("shape", [(60, 40), (30, 90)])
def test_a_sheet_has_each_image_beside_its_map(shape):
    images = np.random.default_rng(0).integers(0, 256, (4, 60, 40, 1), np.uint8)
    maps = np.zeros((4, 6, 4))
    maps[np.arange(4), np.arange(4), 0] = 1
    titles, shapes = [f"title {i}" for i in range(4)], None if shape == (60, 40) else np.array([shape] * 4)
    captions = [f"largest value {i}" for i in range(4)]
    figure = figures.map_sheet(
        images, maps, titles, [False, True, False, False], title="A sheet", captions=captions, shapes=shapes
    )
    assert figure.get_suptitle() == "A sheet"
    figure.draw_without_rendering()
    pairs = np.array(figure.axes[:8]).reshape(4, 2)
    for i, (plain, overlaid) in enumerate(pairs):
        np.testing.assert_array_equal(plain.images[0].get_array(), images[i, ..., 0])
        shown = figures.overlay(images[i], maps[i]).astype(np.uint8)
        np.testing.assert_array_equal(overlaid.images[0].get_array(), shown)
        left, right = plain.get_window_extent(), overlaid.get_window_extent()
        assert left.x1 <= right.x0
        assert left.y0 == pytest.approx(right.y0)
        # The aspect of the array, 60 high and 40 wide, or that of the file.
        assert left.height / left.width == pytest.approx(shape[0] / shape[1], rel=0.02)
        assert plain.figure.get_suptitle() == f"title {i}"
        assert overlaid.get_xlabel() == captions[i]
        (title,) = (text for text in plain.figure.findobj(Text) if text.get_text() == f"title {i}")
        red, green, _ = to_rgb(title.get_color())
        assert (green > red) == (i == 1)
