"""Pretraining without labels: the loss of the paper, what it sees, that it learns, and that it is done once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from fpclass.common.console import Interrupted
from fpclass.errors import LossError, TrainingError
from fpclass.models.build import build_model
from fpclass.train import contrastive
from fpclass.train.contrastive import TEMPERATURE, contrastive_loss, crop_size, make_views, pretrain, pretrain_once

SIZE = (20, 16)


def make_config(epochs: int = 8, channels: int = 1):
    config = base.get_config().unlock()
    config.data.image_size, config.data.channels = SIZE, channels
    config.model.name, config.model.conv_features, config.model.batch_norm = "blocks", (4, 8), True
    config.unlabelled.pretrain_epochs = epochs
    return config


@pytest.fixture(scope="module")
def network():
    config = make_config()
    model = build_model(config.model, 2, SIZE).clone(head=None)
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SIZE, 1)), train=False)
    return model, {kind: variables[kind] for kind in ("params", "batch_stats")}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Stripes of many widths and directions, which crops of an image share."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    angle, width, phase = rng.uniform(0, np.pi, 48), rng.uniform(0.5, 2, 48), rng.uniform(0, 6, 48)
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    return (127 + 120 * np.sin(width[:, None, None] * along + phase[:, None, None])).astype(np.uint8)[..., None]


def test_the_loss_is_equation_1_of_simclr():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(10, 6))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    losses, nearest = [], []
    for i in range(10):
        j = (i + 5) % 10
        similar = np.exp(z @ z[i] / TEMPERATURE)
        others = [k for k in range(10) if k != i]
        losses.append(-np.log(similar[j] / similar[others].sum()))
        nearest.append(max(others, key=lambda k: similar[k]) == j)
    loss, share = contrastive_loss(jnp.asarray(z))
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert share == pytest.approx(np.mean(nearest))


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_crops_that_keep_their_scale_and_differ(channels):
    config = make_config(channels=channels)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 255, (3, *SIZE, channels)), jnp.uint8)
    first, second = (make_views(config)(jax.random.key(i), images) for i in range(2))
    assert first.shape == (3, *crop_size(SIZE), channels) == (3, 13, 10, channels)
    assert not np.allclose(first, second)
    if channels == 3:  # a turn of the colour circle: grey images have none
        grey = jnp.asarray(np.full((1, *SIZE, 3), 100), jnp.uint8)
        np.testing.assert_allclose(*np.split(np.asarray(make_views(config)(jax.random.key(0), grey))[..., :2], 2, -1))


def test_it_learns_to_tell_images_apart_and_sees_no_others(network, images, monkeypatch):
    monkeypatch.setattr(contrastive, "BATCH", 12)
    monkeypatch.setattr(contrastive, "LEARNING_RATE", 5e-3)
    model, variables = network
    rows, records = np.arange(0, 48, 2), []
    found = pretrain(model, variables, images, rows, make_config(60), 3, lambda *record: records.append(record))
    assert [record[0] for record in records] == list(range(1, 61))
    first, last = (np.mean([record[2] for record in part]) for part in (records[:5], records[-5:]))
    assert last > 2 * first > 0, (first, last)
    others = images.copy()
    others[1::2] = 255 - others[1::2]
    again = pretrain(model, variables, others, rows, make_config(60), 3)
    jax.tree.map(np.testing.assert_array_equal, found, again)
    other_seed = pretrain(model, variables, images, rows, make_config(1), 4)
    with pytest.raises(AssertionError):
        jax.tree.map(
            np.testing.assert_array_equal, other_seed, pretrain(model, variables, images, rows, make_config(1), 3)
        )


def test_two_images_are_enough(network, images):
    model, variables = network
    found = pretrain(model, variables, images, np.array([3, 7]), make_config(1), 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_it_is_done_once_and_an_interruption_leaves_nothing(network, images, tmp_path, monkeypatch, capsys):
    model, variables = network
    args = (tmp_path / "pretrained", model, variables, images, np.arange(8), make_config(2), 0)

    def stop():
        raise Interrupted(130)

    with monkeypatch.context() as patched:
        patched.setattr(contrastive, "check_stop", stop)
        with pytest.raises(Interrupted):
            pretrain_once(*args)
    found = pretrain_once(*args)
    assert "epoch 2 of 2" in capsys.readouterr().out
    monkeypatch.setattr(contrastive, "pretrain", None)
    jax.tree.map(np.testing.assert_array_equal, found, pretrain_once(*args))


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (MemoryError("out of memory"), TrainingError, "out of memory .*lower data.image_size"),
        (None, LossError, "seed 0 is not finite in epoch 1; try another"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line_and_kept_by_nobody(
    failure, error, said, network, images, tmp_path, monkeypatch
):
    def fails(*args):
        if failure:
            raise failure
        args[6](1, float("nan"), 0.5)

    monkeypatch.setattr(contrastive, "pretrain", fails)
    with pytest.raises(error, match=said):
        pretrain_once(tmp_path / "pretrained", *network, images, np.arange(8), make_config(2), 0)
    assert not (tmp_path / "pretrained").exists()
