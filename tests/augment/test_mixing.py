"""Mixup and CutMix: proportions, partners, and that padding neither gives nor changes anything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from configs import base
from fpclass.augment.mixing import draw_cutmix, draw_mixup, draw_partners, make_mixing
from fpclass.augment.settings import check_augment
from fpclass.errors import ConfigError

SIZE = (13, 9)
partners_of = jax.jit(draw_partners)


def augment_config(**changes):
    config = base.get_config().augment
    config.update(changes)
    return config


def mixing(**changes):
    function = make_mixing(augment_config(**changes))
    assert function is not None
    return jax.jit(function)


MIXUP, CUTMIX = mixing(mixup_alpha=1.0), mixing(cutmix_alpha=1.0)
BOTH = mixing(mixup_alpha=1.0, cutmix_alpha=1.0)
ALL = {"mixup": MIXUP, "cutmix": CUTMIX, "both": BOTH}


def batch(num_real, num_padding, seed=0):
    """Images, targets, weights; what padding holds is not a number, so that it shows wherever it gets to."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(num_real, *SIZE, 2)).astype(np.float32)
    targets = rng.dirichlet([1.0, 1.0, 1.0], num_real).astype(np.float32)
    weights = rng.uniform(0.5, 2.0, num_real).astype(np.float32)
    padded = [
        np.concatenate([values, np.full((num_padding, *values.shape[1:]), filler, np.float32)])
        for values, filler in ((images, np.nan), (targets, np.nan), (weights, 0.0))
    ]
    return tuple(map(jnp.asarray, padded))


def test_off_is_nothing():
    assert make_mixing(augment_config()) is None


def test_a_negative_alpha_is_named():
    with pytest.raises(ConfigError, match=r"^config\.augment\.cutmix_alpha is -1\.0; give "):
        check_augment(augment_config(cutmix_alpha=-1.0))


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_padding_neither_gives_nor_changes_anything(name, seed):
    key = jax.random.key(seed)
    alone = ALL[name](key, *batch(5, 0))
    images, targets = ALL[name](key, *batch(5, 3))
    np.testing.assert_array_equal(images[:5], alone[0])
    np.testing.assert_array_equal(targets[:5], alone[1])
    assert np.isfinite(images[:5]).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 8]), st.sampled_from([0, 5]))
def test_partners_form_one_cycle_of_the_real_rows(seed, num_real, num_padding):
    is_real = jnp.arange(num_real + num_padding) < num_real
    partners = np.asarray(partners_of(jax.random.key(seed), is_real))
    seen, row = [], 0
    for _ in range(num_real):
        row = partners[row]
        seen.append(int(row))
    assert sorted(seen) == list(range(num_real))
    np.testing.assert_array_equal(partners[num_real:], np.arange(num_real, num_real + num_padding))


def test_every_other_row_is_the_partner_equally_often():
    keys = jax.random.split(jax.random.key(0), 3000)
    partners = jax.vmap(partners_of, (0, None))(keys, jnp.arange(9) < 6)
    counts = np.bincount(partners[:, 2], minlength=9)
    assert counts[[2, 6, 7, 8]].tolist() == [0, 0, 0, 0]
    assert stats.chisquare(counts[[0, 1, 3, 4, 5]]).pvalue > 1e-3


def test_without_any_real_row_the_batch_stays_as_it_was():
    """A batch of nothing but padding occurs where members of different sizes train together."""
    images, targets, _ = batch(3, 0)
    mixed_images, mixed_targets = MIXUP(jax.random.key(0), images, targets, jnp.zeros(3))
    np.testing.assert_allclose(mixed_images, images, atol=1e-6)
    np.testing.assert_allclose(mixed_targets, targets, atol=1e-6)


def test_a_single_row_stays_as_it_was():
    images, targets, weights = batch(1, 0)
    for mix in (MIXUP, CUTMIX):
        mixed_images, mixed_targets = mix(jax.random.key(0), images, targets, weights)
        np.testing.assert_allclose(mixed_images, images, atol=1e-6)
        np.testing.assert_allclose(mixed_targets, targets, atol=1e-6)


def share_of(rows, mixed, row, partner):
    """The share s with which mixed[row] = s rows[row] + (1 - s) rows[partner], by least squares."""
    step = (rows[row] - rows[partner]).ravel()
    return float(np.dot((mixed[row] - rows[partner]).ravel(), step) / np.dot(step, step))


def test_mixup_mixes_image_and_target_in_one_proportion():
    images, targets, weights = map(np.asarray, batch(4, 2))
    for seed in range(5):
        mixed_images, mixed_targets = map(np.asarray, MIXUP(jax.random.key(seed), images, targets, weights))
        row_shares = []
        for row in range(4):
            candidates = [other for other in range(4) if other != row]
            shares = {other: share_of(images, mixed_images, row, other) for other in candidates}
            fits = [
                other
                for other, share in shares.items()
                if np.allclose(mixed_images[row], share * images[row] + (1 - share) * images[other], atol=1e-5)
            ]
            assert len(fits) == 1
            share = shares[fits[0]]
            expected = share * targets[row] + (1 - share) * targets[fits[0]]
            np.testing.assert_allclose(mixed_targets[row], expected, atol=1e-5)
            row_shares.append(share)
        np.testing.assert_allclose(row_shares, row_shares[0], atol=1e-5)
        assert 0 < row_shares[0] < 1


def test_cutmix_takes_one_box_and_its_share_of_the_target():
    images, targets, weights = map(np.asarray, batch(4, 2))
    sizes = set()
    for seed in range(8):
        mixed_images, mixed_targets = map(np.asarray, CUTMIX(jax.random.key(seed), images, targets, weights))
        for row in range(4):
            taken = (mixed_images[row] != images[row]).any(axis=-1)
            share = 1 - taken.mean()
            sizes.add(int(taken.sum()))
            assert taken.sum() == taken.any(axis=0).sum() * taken.any(axis=1).sum()
            fits = [other for other in range(4) if (mixed_images[row] == images[other])[taken].all() and other != row]
            assert any(
                np.allclose(mixed_targets[row], share * targets[row] + (1 - share) * targets[other], atol=1e-5)
                for other in fits
            )
    assert len(sizes) > 4


def draws(function, alpha, num=2000, size=SIZE):
    keys = jax.random.split(jax.random.key(1), num)
    return map(np.asarray, jax.jit(jax.vmap(lambda key: function(key, size, alpha)))(keys))


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_the_share_of_mixup_is_beta_distributed(alpha):
    kept, shares = draws(draw_mixup, alpha)
    np.testing.assert_array_equal(kept, np.broadcast_to(shares[:, None, None], kept.shape))
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_box_of_cutmix_has_the_shape_of_the_image_and_lies_anywhere():
    height, width = size = (60, 40)
    kept, shares = draws(draw_cutmix, 0.8, size=size)
    np.testing.assert_allclose(shares, kept.mean(axis=(1, 2)), atol=1e-6)
    assert set(np.unique(kept)) == {0.0, 1.0}
    rows, columns = (kept == 0).any(axis=2), (kept == 0).any(axis=1)
    uncut = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1]) & rows.any(axis=1)
    assert uncut.sum() > 200
    assert np.abs(rows[uncut].sum(axis=1) / height - columns[uncut].sum(axis=1) / width).max() <= 1 / width
    # A pixel is as often covered as its mirror images, and the middle more often than the border that boxes are cut at.
    covered = 1 - kept.mean(axis=0)
    error = 5 * np.sqrt(0.5 / len(kept))
    assert np.abs(covered - covered[::-1]).max() < error + 0.02
    assert np.abs(covered - covered[:, ::-1]).max() < error + 0.02
    assert covered[height // 2, width // 2] > covered[0, 0] + 0.1
    # Sides are floor(size * sqrt(1 - share)): rebuilt from draws of SciPy, with the same cut.
    rng = np.random.default_rng(0)
    expected = []
    for share in rng.beta(0.8, 0.8, 4000):
        sides = []
        for length in size:
            side = int(length * np.sqrt(1 - share))
            start = rng.integers(length) - side // 2
            sides.append(min(start + side, length) - max(start, 0))
        expected.append(1 - sides[0] * sides[1] / (height * width))
    assert stats.ks_2samp(shares, expected).pvalue > 1e-3


def test_both_on_gives_each_to_half_of_the_batches():
    images, targets, weights = batch(3, 0)
    keys = jax.random.split(jax.random.key(2), 400)
    mixed, _ = jax.vmap(BOTH, (0, None, None, None))(keys, images, targets, weights)
    only_mixup, _ = jax.vmap(MIXUP, (0, None, None, None))(keys, images, targets, weights)
    only_cutmix, _ = jax.vmap(CUTMIX, (0, None, None, None))(keys, images, targets, weights)
    is_mixup = np.isclose(mixed, only_mixup, atol=1e-5).all(axis=(1, 2, 3, 4))
    is_cutmix = np.isclose(mixed, only_cutmix, atol=1e-5).all(axis=(1, 2, 3, 4))
    assert (is_mixup | is_cutmix).all()
    assert stats.binomtest(int(is_mixup.sum()), 400, 0.5).pvalue > 1e-3
