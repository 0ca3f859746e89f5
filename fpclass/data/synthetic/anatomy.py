"""Distributions of foot measurements between people, between the sexes, and between prints of one foot.

A foot is a vector of nine measurements. Within a sex it is normally distributed over people; each single print adds
its own deviation (left or right foot, load, how the foot was set down), so two prints of a person resemble each
other and are not equal. All densities are known, and so is the accuracy of the best possible classifier.

Sources:
  Gordon et al. (2014), 2012 Anthropometric Survey of U.S. Army Personnel, NATICK/TR-15/007 (ANSUR II). Its public file
    (4,082 men and 1,986 women) has, over both sexes, a foot length of 263.03 mm (standard deviation 17.39), a
    horizontal foot breadth of 98.87 mm (6.66) and a heel breadth of 70.76 mm (5.93). The sex-conditional figures
    below are chosen close to that survey's and reproduce these pooled moments; a test checks it.
  Wunderlich and Cavanagh (2001), Gender differences in adult foot shape, Med Sci Sports Exerc 33(4), 605-611: at equal
    foot length the sexes differ at the arch, the lateral side of the foot, the first toe and the ball. The direction
    and size of the differences in shape below are chosen.
  Hemy et al. (2013), Forensic Sci Int 231, 402.e1-6: sex from measurements of feet and footprints, right in 71-91 %.
"""

from __future__ import annotations

import dataclasses

import numpy as np

WOMAN, MAN = 0, 1
"""Class indices, in the competition's coding of `SEX`."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One measurement of a foot, with its distribution by class.

    Attributes:
      name: column of the truth file; the unit is its suffix, ratios have none.
      between_sd: standard deviation between people of one class.
      within_sd: standard deviation between the prints of one person.
      shown_when_cropped: whether a print whose heel the page cuts off still shows it.
    """

    name: str
    mean: tuple[float, float]
    between_sd: tuple[float, float]
    within_sd: float
    shown_when_cropped: bool = True


MEASUREMENTS = (
    Measurement("foot_length_mm", (246.3, 271.2), (12.4, 13.1), 4.0, shown_when_cropped=False),
    Measurement("ball_breadth_mm", (93.2, 101.6), (5.25, 5.45), 2.5),
    Measurement("heel_breadth_mm", (66.9, 72.6), (5.2, 5.35), 2.5, shown_when_cropped=False),
    # Narrowest breadth of the midfoot over the breadth of the ball (Chippaux-Smirak); at or below 0 nothing touches.
    Measurement("arch_index", (0.22, 0.26), (0.13, 0.13), 0.04),
    # Distance of the ball's widest line from the heel, over the length of the print.
    Measurement("ball_position", (0.631, 0.649), (0.014, 0.014), 0.006, shown_when_cropped=False),
    # How far the outer edge of the midfoot stands out, over the breadth of the ball.
    Measurement("lateral_bulge", (0.336, 0.370), (0.028, 0.028), 0.012),
    # Breadth of the big toe's pad over the breadth of the ball.
    Measurement("big_toe_ratio", (0.280, 0.300), (0.022, 0.022), 0.012),
    # Size of the pads of the four other toes, 1 on average.
    Measurement("toe_size", (0.975, 1.025), (0.10, 0.10), 0.06),
    # Lean of the big toe towards the others; degrees.
    Measurement("big_toe_lean_deg", (9.0, 2.5), (5.5, 5.5), 2.0),
)
NAMES = tuple(m.name for m in MEASUREMENTS)

CORRELATION = {  # between people of one class; chosen; every other pair is independent
    ("foot_length_mm", "ball_breadth_mm"): 0.60,
    ("foot_length_mm", "heel_breadth_mm"): 0.50,
    ("ball_breadth_mm", "heel_breadth_mm"): 0.60,
}
TOES = ("big_toe", "toe_2", "toe_3", "toe_4", "toe_5")
DEFECTS = {  # chance of what can go wrong with a print; chosen, alike for both classes
    "cropped_heel": 0.12,  # the foot stood too low, the page's edge cuts it
    "faint_ink": 0.10,
    "patchy_ink": 0.12,
    "smudge": 0.08,  # a pale second touch beside the arch
    "second_heel": 0.10,  # a pale heel below the heel
    **{f"missing_{toe}": chance for toe, chance in zip(TOES, (0.015, 0.04, 0.04, 0.06, 0.14), strict=True)},
    **{f"faint_{toe}": chance for toe, chance in zip(TOES, (0.05, 0.08, 0.09, 0.12, 0.20), strict=True)},
}
PAGE_MM = (314.5, 204.7)
"""(height, width) of the page: the competition's 806 x 1238 pixels, taken for a scan at 100 dpi."""
PRINT_OF_FOOT = {"foot_length_mm": 0.94, "ball_breadth_mm": 0.92, "heel_breadth_mm": 0.74}
"""Share of the foot's length and breadths that touches the paper: the rim of the sole is round. Chosen."""
CLASS_COUNTS = (845, 728)
"""Labelled prints of class 0 and class 1 in the competition: the class frequencies of the synthetic set too."""


def between_covariance(sex: int) -> np.ndarray:
    """Covariance of the measurements between people of one class, float64 [D, D], D = len(MEASUREMENTS)."""
    correlation = np.eye(len(NAMES))
    for (a, b), value in CORRELATION.items():
        i, j = NAMES.index(a), NAMES.index(b)
        correlation[i, j] = correlation[j, i] = value
    sd = np.array([m.between_sd[sex] for m in MEASUREMENTS])
    return correlation * np.outer(sd, sd)


_MEAN = np.array([[m.mean[sex] for m in MEASUREMENTS] for sex in (WOMAN, MAN)])
_WITHIN_SD = np.array([m.within_sd for m in MEASUREMENTS])
_FACTOR = np.stack([np.linalg.cholesky(between_covariance(sex)) for sex in (WOMAN, MAN)])


def sample_people(rng: np.random.Generator, sex: int, num_people: int) -> np.ndarray:
    """Draws the measurements of people of one class, float64 [num_people, D]."""
    return _MEAN[sex] + rng.standard_normal((num_people, len(NAMES))) @ _FACTOR[sex].T


def sample_prints(rng: np.random.Generator, people: np.ndarray) -> np.ndarray:
    """Draws one print of each person: [N, D] to [N, D], the person's measurements and the print's own deviation."""
    return people + rng.standard_normal(people.shape) * _WITHIN_SD


@dataclasses.dataclass(frozen=True)
class PrintParameters:
    """Parameters of one print; what is left to chance after this are details of outline and ink.

    Attributes:
      measurements: of this print, in the order of `MEASUREMENTS`, float64 [D].
      side: "left" or "right" foot.
      toe_out_deg: turn of the foot away from the body's midline.
      center_mm: (x, y) of the middle of the print on the page, from the page's upper left corner.
      ink: darkness of the ink, 1 is the usual.
      defects: some of `DEFECTS`.
    """

    measurements: np.ndarray
    side: str
    toe_out_deg: float
    center_mm: tuple[float, float]
    ink: float
    defects: tuple[str, ...]

    def __getitem__(self, name: str) -> float:
        """A measurement by its name."""
        return float(self.measurements[NAMES.index(name)])

    def on_paper_mm(self, name: str) -> float:
        """Extent of a length or breadth of the foot as its print shows it on paper."""
        return self[name] * PRINT_OF_FOOT[name]


def sample_parameters(rng: np.random.Generator, person: np.ndarray, side: str) -> PrintParameters:
    """Draws how a foot, "left" or "right", of a person with these measurements [D] is printed once.

    The parameters are rounded, so that they are equal on every machine.
    """
    measurements = np.round(sample_prints(rng, person[None])[0], 4)
    happens = rng.random(len(DEFECTS)) < np.array(list(DEFECTS.values()))
    defects = [name for name, is_so in zip(DEFECTS, happens, strict=True) if is_so]
    defects = [d for d in defects if not (d.startswith("faint_") and d.replace("faint", "missing") in defects)]
    toe_out_deg, x_mm, y_mm, ink = rng.standard_normal(4) * (7.5, 14.0, 17.0, 0.17) + (6.5, 97.0, 158.0, 1.0)
    cut_share = rng.uniform(0.06, 0.22)
    half_length_mm = 0.5 * PRINT_OF_FOOT["foot_length_mm"] * measurements[NAMES.index("foot_length_mm")]
    if "cropped_heel" in defects:
        y_mm = PAGE_MM[0] + (2 * cut_share - 1) * half_length_mm
    else:
        y_mm = min(max(y_mm, half_length_mm + 4.0), PAGE_MM[0] - 4.0 - half_length_mm)
    if "faint_ink" in defects:
        ink *= 0.55
    return PrintParameters(
        measurements=measurements,
        side=side,
        toe_out_deg=round(float(toe_out_deg), 4),
        center_mm=(round(float(x_mm), 4), round(float(y_mm), 4)),
        ink=round(float(max(ink, 0.3)), 4),
        defects=tuple(defects),
    )


def log_density(prints: np.ndarray, sex: int, shown: np.ndarray) -> np.ndarray:
    """Natural logarithm of the normal density of prints [N, D] of a class, of the measurements that are shown [D]."""
    covariance = (between_covariance(sex) + np.diag(_WITHIN_SD**2))[np.ix_(shown, shown)]
    factor = np.linalg.cholesky(covariance)
    z = np.linalg.solve(factor, (prints - _MEAN[sex])[:, shown].T)
    return -0.5 * (z**2).sum(axis=0) - np.log(np.diag(factor)).sum() - 0.5 * shown.sum() * np.log(2 * np.pi)


def bayes_accuracy(seed: int = 0, num_people: int = 200_000) -> tuple[float, float]:
    """Accuracy of the best possible classifier of a single print and its standard error, by Monte Carlo.

    It knows the distributions and reads every measurement off the print without error; where the page cuts the heel
    off, not those that need the heel (what such a print still hints at is neglected). Everything else in a print is
    drawn alike for both classes, so nothing that learns from images can be better in expectation.
    """
    rng = np.random.default_rng(seed)
    prior = np.array(CLASS_COUNTS) / sum(CLASS_COUNTS)
    num_men = round(num_people * prior[MAN])
    people = np.concatenate([sample_people(rng, WOMAN, num_people - num_men), sample_people(rng, MAN, num_men)])
    prints = sample_prints(rng, people)
    cropped = rng.random(num_people) < DEFECTS["cropped_heel"]
    best = np.empty(num_people)
    for is_cropped in (False, True):
        shown = np.array([m.shown_when_cropped or not is_cropped for m in MEASUREMENTS])
        rows = cropped == is_cropped
        log_ratio = log_density(prints[rows], MAN, shown) - log_density(prints[rows], WOMAN, shown)
        log_odds = log_ratio + np.log(prior[MAN] / prior[WOMAN])
        # The chance of being right about a print is its larger posterior probability: less noise than counting hits.
        best[rows] = 1.0 / (1.0 + np.exp(-np.abs(log_odds)))
    return float(best.mean()), float(best.std(ddof=1) / np.sqrt(num_people))
