"""A learning curve over people: scores of trainings on shares of the people, and what more of them would bring.

The curve is a - b n^-c, the inverse power law that learning curves mostly follow (Figueroa et al., Predicting sample
size required for classification performance, BMC Medical Informatics and Decision Making 12 (2012) 8; Viering and Loog,
The Shape of Learning Curves: a Review, IEEE TPAMI 45 (2023)). Four shares cannot tell its three parameters well, which
is what the band is for: the curve is fitted again to points that are drawn with the noise of people and of training.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.stats.bounds import NEGLIGIBLE, Support, scale_of, support_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import SeedLogits, mean_of_defined, resample_scores
from fpclass.stats.intervals import UNDEFINED, Bootstrap, Interval
from fpclass.stats.weighted_metrics import is_lower_better

EXPONENTS = np.geomspace(0.15, 2.0, 24)
"""Speeds c of the power law that are tried: from curves that hardly bend to those that end soon."""
NUM_AHEAD = 12
"""Numbers of people from the largest that was trained on to `AHEAD` times as many, at which the curve is given."""
AHEAD = 2.0
NUM_DRAWS = 4000
RANGE = {"proportion": (0.0, 1.0), "positive": (0.0, math.inf), "unknown": (-math.inf, math.inf)}
"""What a score can be, by the scale of its metric."""
MIN_NOISE = 1e-4
"""Smallest standard error of a point, in units of the metric: without any, points would be taken for the curve."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Scores by the number of people, and the curve through them.

    Attributes:
      num_people: mean over folds, of each share, ascending [m].
      scores: mean over members, with interval, [m].
      noise: standard error of each score by the noise of training; 0 where it is not known.
      ahead: numbers of people at which the curve is given, from the smallest share to `AHEAD` times the largest.
      curve: with its band, [len(ahead)]; () where it cannot be fitted.
      gain: of `AHEAD` times as many people over all of them, with the band.
      why_not: why there is no curve; "" where there is.
    """

    num_people: Float[np.ndarray, " m"]
    scores: tuple[Interval, ...]
    noise: float
    ahead: Float[np.ndarray, " a"]
    curve: tuple[Interval, ...]
    gain: Interval
    why_not: str = ""

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        points = zip(self.num_people, self.scores, strict=True)
        return {
            "points": [{"num_people": float(n), **score.to_json()} for n, score in points],
            "training_noise": self.noise,
            "curve": [{"num_people": float(n), **at.to_json()} for n, at in zip(self.ahead, self.curve, strict=False)],
            "gain": self.gain.to_json() | {"times": AHEAD},
            "why_not": self.why_not,
        }


def learning_curve(
    logits: Mapping[float, SeedLogits],
    num_people: Mapping[float, float],
    cohort: Cohort,
    metric: str,
    bootstrap: Bootstrap,
) -> Curve:
    """The curve of trainings on shares of the people, each judged on the same images.

    Args:
      logits: [S, N, K] by share; each image's by the member of that seed whose fold holds it.
      num_people: that each share trains on, mean over folds.
      cohort: people and folds of the images.
      metric: as `resample_scores`.
    """
    shares = sorted(logits)
    resampled = [resample_scores(logits[share], cohort, metric, bootstrap) for share in shares]
    of_folds = np.array([mean_of_defined(of.members) for of in resampled]).reshape(len(shares), -1)
    points = mean_of_defined(of_folds)
    replicates = np.stack([of.replicates for of in resampled], axis=1)
    noise, people = training_noise(of_folds), np.array([num_people[share] for share in shares])
    support = support_of(metric, cohort, cohort.num_folds)
    return fit_curve(people, points, replicates, noise, metric, bootstrap, support)


def training_noise(of_folds: Float[np.ndarray, "m f"]) -> float:
    """Standard error of the mean over folds of one share by what training adds: the residuals of share plus fold.

    A fold is easy or hard for all shares alike, which people answer for; what is left when the means of shares and
    folds are taken away is the luck of a training and of the people that its share happened to hold. nan with a single
    fold.
    """
    of_folds = of_folds[:, ~np.isnan(of_folds).any(axis=0)]
    num_shares, num_folds = of_folds.shape
    if num_shares < 2 or num_folds < 2:
        return math.nan
    residuals = of_folds - of_folds.mean(axis=1, keepdims=True) - of_folds.mean(axis=0) + of_folds.mean()
    variance = float((residuals**2).sum()) / ((num_shares - 1) * (num_folds - 1))
    return math.sqrt(variance / num_folds)


def fit_curve(
    num_people: Float[np.ndarray, " m"],
    points: Float[np.ndarray, " m"],
    replicates: Float[np.ndarray, "b m"],
    noise: float,
    metric: str,
    bootstrap: Bootstrap,
    support: Support | None = None,
) -> Curve:
    """Fits the power law to the points and, for the band, to what else the points may have been.

    Args:
      num_people: of each share, ascending.
      replicates: of the points, people drawn anew, paired.
      noise: standard error of each point by training; nan where it is not known.
      support: what a point rests on: of proportions that no resample changes it says how far off they may be, which
        half of is taken to be the same at all shares, whom the same people judge (chosen); None: it is not known.
    """
    from scipy import stats

    replicates = replicates[~np.isnan(replicates).any(axis=1)]
    ahead = np.unique(np.append(num_people, np.geomspace(num_people.max(), AHEAD * num_people.max(), NUM_AHEAD)))
    reason = ""
    if len(points) < 3:
        reason = "it takes three shares or more"
    elif np.isnan(points).any() or len(replicates) < 100:
        reason = "the metric is undefined for one of the shares, or for most resamples of people"
    elif math.isnan(noise):
        reason = "it takes two folds or more to tell the noise of training"
    elif (points == RANGE[scale_of(metric)][0 if is_lower_better(metric) else 1]).all():
        reason = "no share leaves anything to gain"
    known = 0.0 if math.isnan(noise) else noise
    of_people = replicates.var(axis=0) if len(replicates) else np.full(len(points), np.nan)
    z, (lowest, highest) = float(stats.norm.ppf((1 + bootstrap.confidence) / 2)), RANGE[scale_of(metric)]
    unseen = np.zeros(len(points))
    if scale_of(metric) == "proportion" and support is not None and support.groups >= 2:
        for i in np.flatnonzero(of_people < NEGLIGIBLE**2):  # nobody yet is not nobody at all
            ends = support.extreme_bounds(float(points[i]), bootstrap.confidence)
            unseen[i] = np.abs(ends - points[i]).max() / z
    half = z * np.sqrt(of_people + known**2 + unseen**2)
    bounds = np.clip([points - half, points + half], lowest, highest).T
    are_bounded = np.isfinite(half).all() and (half > NEGLIGIBLE).all()
    scores = tuple(
        Interval(float(point), *map(float, ends)) if are_bounded else Interval(float(point))
        for point, ends in zip(points, bounds, strict=True)
    )
    if reason:
        return Curve(num_people, scores, known, ahead, (), UNDEFINED, reason)
    covariance = np.cov(replicates.T) + max(known, MIN_NOISE) ** 2 * np.eye(len(points))
    covariance += np.outer(unseen, unseen) * (1 + np.eye(len(points))) / 2
    draws = _draw_curves(num_people, points, covariance, ahead, metric, bootstrap.seed)
    tails = [(1 - bootstrap.confidence) / 2, 0.5, (1 + bootstrap.confidence) / 2]
    of_curve = np.quantile(draws, tails, axis=0).T
    gains = draws[:, -1] - draws[:, np.searchsorted(ahead, num_people.max())]
    curve = tuple(Interval(float(middle), float(low), float(high)) for low, middle, high in of_curve)
    low, middle, high = map(float, np.quantile(gains, tails))
    if _may_be_flat(points, covariance, 1 - bootstrap.confidence):
        low, high = (low, 0.0) if is_lower_better(metric) else (0.0, high)
    return Curve(num_people, scores, known, ahead, curve, Interval(middle, low, high))


def _may_be_flat(points: Float[np.ndarray, " m"], covariance: Float[np.ndarray, "m m"], alpha: float) -> bool:
    """Whether the points are as near to a level as chance lets them be; a curve that rises always gains something."""
    from scipy import stats

    precision = np.linalg.inv(covariance)
    ones = np.ones(len(points))
    residuals = points - (ones @ precision @ points) / (ones @ precision @ ones)
    return bool(stats.chi2.sf(residuals @ precision @ residuals, len(points) - 1) > alpha)


def _draw_curves(
    num_people: Float[np.ndarray, " m"],
    points: Float[np.ndarray, " m"],
    covariance: Float[np.ndarray, "m m"],
    ahead: Float[np.ndarray, " a"],
    metric: str,
    seed: int,
) -> Float[np.ndarray, "d a"]:
    """Curves that may have given the points, [`NUM_DRAWS`, a]: draws of their posterior.

    For each exponent, all of them as likely beforehand, level and height are normal given the points; of these, those
    with a curve that rises (or with a metric of which less is better, falls) and stays within what a score can be are
    kept, weighed by how well the exponent fits. A height has a normal prior of standard deviation 1 at the smallest
    share, which no score exceeds.
    """
    rng, is_up, (lowest, highest) = np.random.default_rng(seed), not is_lower_better(metric), RANGE[scale_of(metric)]
    first, precision = num_people.min(), np.linalg.inv(covariance)
    drawn: list[np.ndarray] = []
    log_weights: list[float] = []
    for exponent in EXPONENTS:
        design = np.stack([np.ones_like(num_people), -((num_people / first) ** -exponent)], axis=1)
        curvature = design.T @ precision @ design + np.diag([1e-6, 1.0])
        spread = np.linalg.inv(curvature)
        best = spread @ design.T @ precision @ points
        residual = points @ precision @ points - best @ curvature @ best
        parameters = rng.multivariate_normal(best, spread, NUM_DRAWS)
        height = parameters[:, 1] if is_up else -parameters[:, 1]
        level = parameters[:, 0]
        is_possible = (height >= 0) & (level >= lowest) & (level <= highest)
        share = is_possible.mean()
        if share == 0:
            continue
        wanted = np.stack([np.ones_like(ahead), -((ahead / first) ** -exponent)], axis=1)
        drawn.append(parameters[rng.choice(np.flatnonzero(is_possible), NUM_DRAWS)] @ wanted.T)
        log_weights.append(-residual / 2 + np.linalg.slogdet(spread)[1] / 2 + math.log(share))
    if not drawn:  # the points fall where they should rise: no more than a level can be told
        level = rng.normal(points.mean(), math.sqrt(covariance.mean()), NUM_DRAWS)
        return np.repeat(level[:, None], len(ahead), axis=1)
    weights = np.exp(np.array(log_weights) - max(log_weights))
    counts = rng.multinomial(NUM_DRAWS, weights / weights.sum())
    return np.concatenate([of_exponent[:count] for of_exponent, count in zip(drawn, counts, strict=True)])


def _now(curve: Curve) -> float:
    """What the curve says of as many as there are, which need not be what was scored with them."""
    return float(curve.curve[-1].value or math.nan) - float(curve.gain.value or 0.0)


def curve_findings(curve: Curve, metric: str, confidence: float, units: str = "people") -> list[str]:
    """What there is to say of a curve, a line each; `units` is whom there are more or fewer of."""
    name, level = metric.replace("_", " "), f"{100 * confidence:g} %"
    most = float(curve.num_people.max())
    lines = [
        f"{name} by the {units} that are trained on: "
        + ", ".join(f"{n:.0f}: {score}" for n, score in zip(curve.num_people, curve.scores, strict=True))
    ]
    if curve.why_not:
        return [*lines, f"no curve: {curve.why_not}"]
    last = curve.curve[-1]
    lines.append(
        f"with {AHEAD:g} times as many {units} to train on ({AHEAD * most:.0f}) expect {last}, {curve.gain:+} over "
        f"the {_now(curve):.3f} that the curve has at {most:.0f}: {level} band of an inverse power law, {units} and "
        f"trainings drawn anew; of the same kind of {units}"
    )
    low, high = (curve.gain.low or 0.0), (curve.gain.high or 0.0)
    if max(abs(low), abs(high)) < 0.01:
        lines.append(f"more {units} would change little: the curve is flat")
    elif min(abs(low), abs(high)) < 0.005:
        lines.append(f"whether more {units} would bring anything, these trainings cannot tell")
    return lines
