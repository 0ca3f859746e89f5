"""Checks of maps: what is known to be right passes, what is known to be wrong does not, on networks of known truth."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fpclass.explain.checks.agreement import Looks, agreement_report, compare_looks
from fpclass.explain.checks.checked import Subject, check_maps, joined
from fpclass.explain.checks.figures import draw_checks
from fpclass.explain.checks.maps import edges, moved, rank_correlation
from fpclass.explain.checks.objects import ink_masks, share_on
from fpclass.explain.checks.randomise import Randomiser, weighted_stages
from fpclass.explain.checks.removal import area, pixel_order
from fpclass.explain.checks.summary import summarise, summarise_all
from fpclass.explain.checks.words import CONTROL, report_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap

SIDE, NUM = 24, 30
PATCH = slice(3, 9), slice(14, 20)
BOOTSTRAP = Bootstrap(300, 0.95)


@jax.jit
def patch_score(images, classes):
    """A network that looks at one patch and at nothing else."""
    return jax.nn.sigmoid(8 * (images[:, *PATCH].mean((1, 2, 3)) - 0.5))


def patch_images(num=NUM, seed=0):
    """Noise with a smooth bright patch that decides: edges are everywhere else."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 1, (num, SIDE, SIDE, 1)).astype(np.float32)
    images[:, *PATCH] = rng.normal(1, 0.05, images[:, *PATCH].shape)
    return images


def true_map(variables, images, classes):
    return jnp.zeros(images.shape[:3]).at[:, *PATCH].set(1.0)


@jax.jit
def edge_map(variables, images, classes):
    return edges(images, classes)


def no_randomise(stages, draw):
    return {"params": {}}


def subject(images, **fields):
    given = {"score": patch_score, "variables": {"params": {}}, "stages": [], "randomise": no_randomise, "masks": {}}
    return Subject(images=images, classes=np.zeros(len(images), int), noise=0.01, **(given | fields))


def of_random(seed):
    """Maps of 6 x 6 random numbers, others for every image."""
    rng = np.random.default_rng(seed)
    return lambda variables, images, classes: jnp.asarray(rng.random((len(images), 6, 6), np.float32))


@functools.cache
def checked(name):
    maps = {"true": true_map, "random": of_random(1), "edges": edge_map}[name]
    found = check_maps(maps, subject(patch_images()), needs_network=False)
    return summarise(found, Cohort(np.zeros(NUM, int), np.arange(NUM) // 2), BOOTSTRAP, 4)


def test_the_true_map_passes_a_random_one_and_edges_do_not():
    for check in ("deletion", "insertion"):
        assert checked("true")[check]["better"]["low"] > 0.05
        assert checked("random")[check]["better"]["low"] < 0 < checked("random")[check]["better"]["high"]
        assert checked("edges")[check]["better"]["low"] < 0
    assert checked("true")["stability"]["value"] == pytest.approx(1)
    curve = checked("true")["deletion"]["curve"]
    assert curve[0] > 0.7
    assert curve[2] < 0.2
    assert checked("true")["insertion"]["curve"][2] == pytest.approx(curve[0], abs=0.02)


def test_words_say_what_the_intervals_do():
    report = report_of({name: checked(name) for name in ("true", "random")}, "30 images", "figures/x.png")
    passes, fails = report["sentences"]
    assert passes.startswith("true: it finds pixels that the network uses: removing them first")
    assert fails.startswith("random: it is not shown to find pixels that the network uses")
    assert [row[0] for row in report["table"]] == ["map", "true", "random"]
    compared = [report_of({CONTROL: checked(name)}, "", "x.png")["sentences"][0] for name in ("true", "edges")]
    assert ["does not tell a map of the network from edges" in sentence for sentence in compared] == [True, False]


def test_of_more_ways_more_has_to_be_shown():
    """The interval that a verdict goes by holds for all ways at once; the one of the table does not grow."""
    images = patch_images(8)
    noise = jnp.asarray(np.random.default_rng(0).random((SIDE, SIDE)), jnp.float32)
    weak = check_maps(lambda *of: noise + 0.3 * true_map(*of), subject(images), needs_network=False)
    cohort = Cohort(np.zeros(len(images), int))
    alone, among = (summarise_all(dict.fromkeys(map(str, range(n)), weak), cohort, BOOTSTRAP)["0"] for n in (1, 40))
    for check in ("deletion", "insertion"):
        assert alone[check]["better"] == among[check]["better"]
        lows = [of[check]["for_all_at_once"]["low"] for of in (alone, among)]
        assert lows[1] < lows[0] < alone[check]["better"]["low"]
    barely = {**alone, "deletion": {**alone["deletion"], "for_all_at_once": {"value": 0.1, "low": -0.01, "high": 0.3}}}
    (sentence,) = report_of({"weak": barely}, "", "x.png")["sentences"]
    assert "+0.100 [-0.010, +0.300] in deletion" in sentence
    assert "by deletion that is not shown" in sentence or "it is not shown to find" in sentence


def not_covered(num_trials, num_images):
    """How often a random map is found better, or worse, than one in a random place, by deletion and by insertion."""
    counts = {"deletion": 0, "insertion": 0}
    for trial in range(num_trials):
        images = patch_images(num_images, seed=trial)
        found = check_maps(of_random(trial), subject(images, seed=trial), needs_network=False)
        summary = summarise(found, Cohort(np.zeros(num_images, int)), BOOTSTRAP, 1)
        for check in counts:
            counts[check] += summary[check]["better"]["low"] > 0 or summary[check]["better"]["high"] < 0
    return {check: count / num_trials for check, count in counts.items()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_maps_are_found_better_as_rarely_as_they_should():
    for num_images in (10, 30):
        shares = not_covered(300, num_images)
        print(f"\n{num_images} images, 300 trials: {shares}")
        assert all(0.01 <= share <= 0.09 for share in shares.values())


def test_pixels_go_in_the_order_of_the_map_and_ties_by_chance():
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 1, 2] = 1
    order = pixel_order(maps, (8, 8), seed=0)
    assert np.sort(order[0].ravel()) == pytest.approx(np.arange(64) / 64)
    assert {divmod(int(i), 8) for i in np.argsort(order[0].ravel())[:4]} == {(2, 4), (2, 5), (3, 4), (3, 5)}
    assert not np.array_equal(order[0], order[1])
    assert np.array_equal(order, pixel_order(maps, (8, 8), seed=0))
    assert area(np.array([[1.0, 0.5, 0.0]])) == pytest.approx([0.5])


def test_rank_correlation_is_spearmans_and_of_nothing_0():
    maps, others = np.random.default_rng(0).random((2, 3, 5, 4)).round(1)
    others[2] = 1
    expected = [stats.spearmanr(maps[i].ravel(), others[i].ravel()).statistic for i in range(2)]
    assert rank_correlation(maps, others) == pytest.approx([*expected, 0])
    assert sorted(moved(maps, 0)[0].ravel()) == sorted(maps[0].ravel())
    assert not np.array_equal(moved(maps, 0), maps)


class Small(nn.Module):
    """A convolution with batch norm, and logits."""

    @nn.compact
    def __call__(self, x, *, train, mask=None):
        x = nn.Conv(4, (3, 3), name="first")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        return nn.Dense(2, name="last")(x.mean(axis=(1, 2)))


@jax.jit
def gradient_map(variables, images, classes):
    """Gradient times input."""

    def score(x):
        return Small().apply(variables, x, train=False)[jnp.arange(len(x)), classes].sum()

    return (jax.grad(score)(images) * images).sum(axis=-1)


@functools.cache
def small():
    images = np.random.default_rng(0).normal(1, 2, (6, 8, 8, 1)).astype(np.float32)
    variables = jax.jit(functools.partial(Small().init, train=False))(jax.random.key(0), images)
    return dict(variables), images


def test_random_weights_are_fresh_where_they_are_asked_for_and_statistics_are_theirs():
    variables, images = small()
    randomise = Randomiser(Small(), variables, images, seed=1)
    assert weighted_stages(Small(), (8, 8, 1)) == ["first", "norm", "last"]
    head, everything = randomise(["last"], 0), randomise(["last", "norm", "first"], 0)
    assert not np.array_equal(head["params"]["last"]["kernel"], variables["params"]["last"]["kernel"])
    assert head["params"]["first"] is variables["params"]["first"]
    assert np.array_equal(head["batch_stats"]["norm"]["mean"], variables["batch_stats"]["norm"]["mean"])
    assert np.array_equal(head["params"]["last"]["kernel"], everything["params"]["last"]["kernel"])
    seen = jax.jit(nn.Conv(4, (3, 3)).apply)({"params": everything["params"]["first"]}, images)
    np.testing.assert_allclose(
        everything["batch_stats"]["norm"]["mean"], seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(everything["batch_stats"]["norm"]["var"], seen.var(axis=(0, 1, 2)), rtol=1e-3)


def test_edges_survive_random_weights_and_gradients_do_not():
    variables, images = small()
    about = {
        "variables": variables,
        "stages": weighted_stages(Small(), (8, 8, 1)),
        "randomise": Randomiser(Small(), variables, images, seed=1),
        "masks": {"half": np.arange(8)[:, None] * np.ones((6, 8, 8)) < 4},
    }
    found = {name: check_maps(maps, subject(images, score=small_score, **about)) for name, maps in
             (("edges", edge_map), ("gradient", gradient_map))}  # fmt: skip
    assert found["edges"].cascade.stages == ("last", "norm", "first")
    assert found["edges"].cascade.correlations == pytest.approx(np.ones((3, 6)))
    assert found["gradient"].cascade.correlations[-1].mean() < 0.8
    cohort = Cohort(np.zeros(6, int))
    report = report_of(summarise_all({"edges": found["edges"]}, cohort, BOOTSTRAP), "6 images", "x.png")
    assert "hardly changes: it shows the picture, such as its edges, and not what was learnt" in report["sentences"][0]
    assert "(50 % of the image, " in report["sentences"][0]
    both = joined([found["edges"], found["edges"]])
    assert len(both.stability) == both.cascade.correlations.shape[1] == len(both.on["half"][0]) == 12


def small_score(images, classes):
    return jax.nn.softmax(small_logits(small()[0], images))[:, 0]


@jax.jit
def small_logits(variables, images):
    return Small().apply(variables, images, train=False)


def test_ink_is_told_from_paper_whichever_is_dark():
    grey = np.full((4, 20, 16, 1), 250, np.uint8)
    grey[:, 5:12, 4:10] = 20
    grey[1] = 255 - grey[1]
    grey[2] = 128
    grey[3, :, :, 0] = np.linspace(0, 255, 16)
    masks, is_told = ink_masks(grey)
    assert is_told[:3].tolist() == [True, True, False]
    assert masks[:3].sum(axis=(1, 2)).tolist() == [42, 42, 0]
    colour = np.repeat(grey, 3, axis=-1) // np.array([1, 2, 3], np.uint8)
    assert not ink_masks(colour)[1].any()
    assert ink_masks(np.repeat(grey, 3, axis=-1))[1][0]
    maps = np.array([masks[0], ~masks[0], 0 * masks[0], -1.0 * masks[0]], np.float32)
    shares, areas = share_on(maps, np.repeat(masks[:1], 4, axis=0))
    assert shares[:2] == pytest.approx([1, 0])
    assert np.isnan(shares[2:]).all()
    assert areas[0] == pytest.approx(42 / 320)


def test_agreement_knows_networks_that_look_at_the_same_from_those_that_do_not():
    rng = np.random.default_rng(0)
    shared = rng.random((20, 6, 6))

    def near(noise):
        return [shared + noise * rng.random(shared.shape) for _ in range(2)]

    looks = {"a": Looks("s", near(0.3)), "b": Looks("s", near(0.3)), "c": Looks("s", [rng.random((20, 3, 3))] * 2)}
    compared = compare_looks(looks, Cohort(np.zeros(20, int)), BOOTSTRAP)
    pairs = {(pair["first"], pair["second"]): pair for pair in compared["pairs"]}
    assert pairs["a", "b"]["correlation"]["value"] > 0.8
    assert abs(pairs["a", "b"]["different"]["value"]) < 0.2
    assert pairs["a", "b"]["less"]["low"] < 0.02
    assert pairs["a", "c"]["less"]["low"] > 0.5
    sentences = agreement_report(compared, "Grad-CAM", "", "x.png")["sentences"]
    assert sum("not shown to be less alike" in sentence for sentence in sentences) == 1
    assert sum("do not look at quite the same" in sentence for sentence in sentences) == 2


def test_the_legend_does_not_lie_over_the_note() -> None:
    of_check = {"curve": [1.0, 0.5, 0.0], "random_curve": [1.0, 0.6, 0.0]}
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    cascade = [{"stage": "logits", "correlation": value, "blank": 0.0}]
    found = {"deletion": of_check, "insertion": of_check, "randomised": cascade}
    figure = draw_checks({f"Map {i}": found for i in range(4)}, "a note that takes most of the line; " * 4)
    figure.draw_without_rendering()
    (legend,) = figure.subfigs[0].legends
    assert not legend.get_window_extent().overlaps(figure._supxlabel.get_window_extent())


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.1, 0.2, "it shows what was learnt"),
        (-0.1, 0.5, "do not tell how much"),
        (0.4, 0.6, "a part of it"),
        (0.8, 0.9, "hardly changes"),
    ],
)
def test_what_random_weights_leave_is_judged_by_the_whole_interval(low: float, high: float, words: str) -> None:
    value = {"value": 0.1 if low < 0 else (low + high) / 2, "low": low, "high": high}
    better = {name: {"value": 0.1, "low": 0.05, "high": 0.15} for name in ("better", "for_all_at_once")}
    found = {"deletion": better, "insertion": better, "stability": value, "on": {}, "blank": 0, "size": (4, 4)}
    found["randomised"] = [{"stage": "logits", "correlation": value, "for_all_at_once": value, "blank": 0.0}]
    report = report_of({"Grad-CAM": found}, "on images", "figures/map_checks.png")
    assert words in report["sentences"][0]
    assert f"[{low:.3f}, {high:.3f}]" in report["paper"][0]
