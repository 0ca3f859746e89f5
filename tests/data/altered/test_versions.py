"""A version keeps what it says and nothing else: what a quick model can know from it, where the truth is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from drawn_prints import draw_prints
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fpclass.data.altered.prints import find_print, moved
from fpclass.data.altered.versions import KEEP, VERSIONS, WHOLE, kind_of, make_version, versions_of
from fpclass.data.decode import _cache_settings, decode_bytes
from fpclass.data.resize import Decoding
from fpclass.errors import ConfigError
from fpclass.experiment import load_config

TELLS = {
    "size": {"size", "outline"},  # a silhouette is as large as its print
    "texture": {"texture"},
    "frame": {"frame"},
}
"""The versions in which a class can be seen that only this thing tells."""


def scene(side=80):
    """A photograph of nothing: smooth colours without a paper."""
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def known(images, labels):
    """The area under the ROC curve of a logistic regression on coarse pixels, brightness and how steep it is."""
    grey = images[..., 0].astype(float)
    coarse = grey.reshape(len(grey), 8, grey.shape[1] // 8, 8, grey.shape[2] // 8).mean((2, 4)).reshape(len(grey), -1)
    steep = [np.abs(np.diff(grey, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    features = np.column_stack([coarse, *steep, grey.mean((1, 2)), grey.std((1, 2)), grey[:, 0].mean(1)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05))
    scores = cross_val_predict(model, features, labels, cv=4, method="decision_function")
    return roc_auc_score(labels, scores)


@pytest.mark.parametrize("thing", TELLS)
def test_what_tells_the_class_stands_out_in_its_version_and_in_no_other(thing):
    images, labels = draw_prints(thing, 96, side=48)
    assert kind_of(images) == "prints"
    assert known(images, labels) > 0.95
    found = {name: known(np.stack([make_version(image, name) for image in images]), labels)
             for name in ("size", "outline", "texture", "frame")}  # fmt: skip
    for name, area in found.items():
        assert area > 0.95 if name in TELLS[thing] else 0.3 < area < 0.7, found


def test_neither_ink_nor_paper_is_kept_by_size_and_outline():
    (image,) = draw_prints("size", 1)[0]
    paler = (image // 2 + 100).astype(np.uint8)
    for name in ("size", "outline"):
        version = make_version(image, name)
        assert set(np.unique(version)) == {0, 255}
        np.testing.assert_array_equal(version, make_version(paler, name))
        np.testing.assert_array_equal(255 - version, make_version(255 - image, name))


def test_the_polarity_is_found_by_itself():
    (image,) = draw_prints("size", 1)[0]
    dark, light = find_print(image), find_print(255 - image)
    assert dark is not None
    assert light is not None
    assert dark.is_dark
    assert not light.is_dark
    np.testing.assert_array_equal(dark.silhouette, light.silhouette)


def test_an_erased_print_leaves_no_hole_in_noisy_paper():
    (image,) = draw_prints("size", 1)[0]
    found = find_print(image)
    assert found
    erased = make_version(image, "frame")[..., 0].astype(float)
    is_paper = ~found.silhouette & (np.arange(64) > 4)[:, None]  # below the mark
    inside, outside = erased[found.silhouette], erased[is_paper]
    assert inside.mean() == pytest.approx(outside.mean(), abs=1.5)
    assert 0.5 < inside.std() / outside.std() < 2


@pytest.mark.parametrize("value", [0, 255])
def test_empty_paper_has_no_print_and_every_version(value):
    image = np.full((40, 30, 1), value, np.uint8)
    assert find_print(image) is None
    assert (make_version(image, "size") == 255).all()
    np.testing.assert_array_equal(make_version(image, "frame"), image)
    assert all(make_version(image, name).shape == image.shape for name in KEEP)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 3), (40, 30, 3)])
def test_every_version_has_the_shape_of_its_image(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for name in KEEP:
        version = make_version(image, name)
        assert version.shape == shape, name
        assert version.dtype == np.uint8, name
    assert make_version(image, WHOLE) is image


def test_a_photograph_is_none_of_prints():
    photograph = scene()
    assert kind_of(photograph[None]) == "photographs"
    assert not {"size", "outline", "texture", "frame"} & set(versions_of("photographs", 3))
    assert "grey" not in versions_of("photographs", 1)
    centre, background = (make_version(photograph, name).astype(int) for name in ("centre", "background"))
    np.testing.assert_array_equal(centre + background - 128, photograph)
    grey = make_version(photograph, "grey")
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    low, high = (make_version(photograph, name).astype(int) for name in ("low_pass", "high_pass"))
    assert np.abs(low + high - 128 - photograph).max() <= 1


@pytest.mark.parametrize("paper", [255, 200, 10])
def test_what_comes_in_from_beyond_the_border_is_paper(paper):
    image = np.full((60, 40, 1), paper, np.uint8)
    image[20:40, 15:25] = 255 - paper if paper != 200 else 20
    for turned in (moved(image, degrees=30), moved(image, scale=0.9), make_version(image, "scale_90")):
        border = np.concatenate([turned[0], turned[-1], turned[:, 0], turned[:, -1]])
        assert (border == paper).all()


def test_a_scaled_print_is_as_much_larger_as_it_says():
    image = np.full((200, 200, 1), 255, np.uint8)
    image[60:140, 70:130] = 0
    for percent in (90, 95, 105, 110):
        ink = (make_version(image, f"scale_{percent}") < 128).sum()
        assert ink / (80 * 60) == pytest.approx((percent / 100) ** 2, rel=0.03)
    np.testing.assert_array_equal(moved(image), image)


def test_a_photograph_that_is_moved_goes_on_beyond_its_border():
    photograph = scene()
    turned = moved(photograph, degrees=20).astype(int)
    assert turned[:8, :8].std() > 0
    assert not (turned == 0).all(axis=-1).any()
    back = moved(moved(photograph, degrees=20), degrees=-20).astype(int)
    assert np.abs(back - photograph)[20:60, 20:60].mean() < 8


def test_decoding_makes_the_version_that_the_config_says():
    (image,) = draw_prints("size", 1)[0]
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "PNG")
    whole, outline = (Decoding((64, 64), 1, "nearest", keep=name) for name in (WHOLE, "outline"))
    decoded = decode_bytes(stream.getvalue(), outline)
    np.testing.assert_array_equal(decoded.image, make_version(image, "outline"))
    plain = decode_bytes(stream.getvalue(), whole)
    assert decoded.facts == plain.facts, "copies are found in the images as they were"
    assert _cache_settings(whole) != _cache_settings(outline)
    config = load_config("configs/base.py", ["--config.data.keep=outline"])
    assert Decoding.of(config.data).keep == "outline"
    with pytest.raises(ConfigError, match=r"data\.keep"):
        load_config("configs/base.py", ["--config.data.keep=toes"])


def test_every_version_that_takes_something_away_says_what_it_would_mean():
    assert all(bool(version.means) == version.is_reduced for version in VERSIONS.values())
