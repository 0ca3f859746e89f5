"""Outlines of a footprint from its measurements: the sole as a smooth closed curve, five toe pads, the creases.

Lengths are millimetres in the foot's own axes: u across, from the big toe's side (negative) to the outer side, and v
along, from the heel (0) to the tips of the toes. Proportions that `anatomy` does not list are chosen, with published
prints at hand.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fpclass.data.synthetic.anatomy import PrintParameters

_SAMPLES_PER_LANDMARK = 8


@dataclasses.dataclass(frozen=True)
class Shape:
    """Closed polygons of one print, each float64 [points, 2] of (u, v) in mm.

    Attributes:
      sole: ball, midfoot and heel in one outline.
      toes: five pads, the big toe first.
      neck: the stalk between the big toe's pad and the ball.
      arch: the hollow of the midfoot between the sole's inner edge and the foot's.
      length_mm: heel to the tip of the longest toe.
      isthmus_mm: (u, v) of the middle of the narrowest place.
    """

    sole: np.ndarray
    toes: list[np.ndarray]
    neck: np.ndarray
    arch: np.ndarray
    length_mm: float
    isthmus_mm: tuple[float, float]
    isthmus_breadth_mm: float


def closed_spline(landmarks: np.ndarray) -> np.ndarray:
    """Closed Catmull-Rom curve through landmarks [P, 2], sampled at [8 P, 2] points."""
    t = np.arange(_SAMPLES_PER_LANDMARK)[:, None] / _SAMPLES_PER_LANDMARK
    weights = np.concatenate(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )
    neighbours = np.stack([np.roll(landmarks, shift, axis=0) for shift in (1, 0, -1, -2)])
    return 0.5 * np.einsum("sk,kpd->psd", weights, neighbours).reshape(-1, 2)


# Landmarks of toe pads over their breadth and length, from the tip on, the outer side first.
_BIG_TOE = np.array([
    (0.12, 0.5), (0.38, 0.34), (0.5, 0.02), (0.42, -0.30), (0.08, -0.48), (-0.32, -0.43), (-0.5, -0.10), (-0.32, 0.30),
])  # fmt: skip
_SMALL_TOE = np.array([
    (0.0, 0.5), (0.32, 0.38), (0.5, -0.02), (0.38, -0.37), (0.02, -0.5), (-0.36, -0.38), (-0.5, 0.0), (-0.34, 0.36),
])  # fmt: skip
# Second to fifth toe: centre (u over the ball's breadth, v over the print's length), breadth, length (over the ball's).
_SMALL_TOES_AT = (
    (0.0, 0.943, 0.165, 0.235), (0.165, 0.908, 0.16, 0.22), (0.32, 0.853, 0.16, 0.205), (0.465, 0.785, 0.15, 0.185),
)  # fmt: skip


def toe_pad(
    landmarks: np.ndarray, center: tuple[float, float], size: tuple[float, float], lean_deg: float
) -> np.ndarray:
    """Outline of a toe's pad of (breadth, length), turned clockwise by its lean about its centre, [64, 2]."""
    u, v = (landmarks * size).T
    lean = np.deg2rad(lean_deg)
    turned = np.stack([u * np.cos(lean) + v * np.sin(lean), v * np.cos(lean) - u * np.sin(lean)], axis=1)
    return closed_spline(turned + center)


def _sole_landmarks(print_: PrintParameters, wobble: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of the sole: outer edge from the heel to the tip of the ball, inner edge back; u in mm, v as share."""
    ball, heel = print_.on_paper_mm("ball_breadth_mm"), print_.on_paper_mm("heel_breadth_mm")
    arch = max(print_["arch_index"], 0.02)
    bulge = print_["lateral_bulge"]
    outer_40, outer_50 = bulge * ball, (0.47 + 0.7 * (bulge - 0.353)) * ball
    outer_33 = 0.45 * outer_40 + 0.55 * 0.52 * heel
    breadth_50 = max(0.27 + 0.35 * arch, arch + 0.04) * ball
    breadth_33 = max(0.24 + 0.28 * arch, arch + 0.02) * ball
    flat = max(arch - 0.3, 0.0) * ball
    landmarks = [
        (0.02 * heel, 0.0), (0.25 * heel, 0.016), (0.41 * heel, 0.058), (0.495 * heel, 0.12), (0.52 * heel, 0.20),
        (0.515 * heel, 0.27), (outer_33, 0.335), (outer_40, 0.40), (outer_50, 0.50), (0.528 * ball, 0.57),
        (0.555 * ball, 0.64), (0.535 * ball, 0.695), (0.47 * ball, 0.727), (0.375 * ball, 0.752),
        (0.28 * ball, 0.787), (0.14 * ball, 0.815), (-0.03 * ball, 0.828), (-0.15 * ball, 0.812),
        (-0.31 * ball, 0.810), (-0.415 * ball, 0.780), (-0.445 * ball, 0.710), (-0.415 * ball, 0.655),
        (-0.30 * ball, 0.612), (-0.16 * ball - 0.5 * flat, 0.584), (-0.01 * ball - 0.8 * flat, 0.565),
        (outer_50 - breadth_50, 0.51), (outer_40 - arch * ball, 0.41), (outer_33 - breadth_33, 0.335),
        (-0.27 * heel - 0.3 * flat, 0.275), (-0.42 * heel, 0.21), (-0.48 * heel, 0.14), (-0.41 * heel, 0.066),
        (-0.24 * heel, 0.018),
    ]  # fmt: skip
    u, v = np.array(landmarks).T
    return u + wobble[:, 0] * ball, v + wobble[:, 1]


def _wobble(rng: np.random.Generator) -> np.ndarray:
    """Displacement of the sole's landmarks, alike for neighbours, over (ball's breadth, print's length), [33, 2]."""
    noise = rng.standard_normal((33, 2))
    return (noise + 0.8 * np.roll(noise, 1, axis=0) + 0.8 * np.roll(noise, -1, axis=0)) * (0.006, 0.0016)


def _toes(rng: np.random.Generator, print_: PrintParameters, shift: float) -> list[np.ndarray]:
    """Toe pads, u in mm and v as share of the print's length, before the print is scaled to its length."""
    ball, length = print_.on_paper_mm("ball_breadth_mm"), print_.on_paper_mm("foot_length_mm")
    size = print_["toe_size"] * ball
    slope, spread = rng.normal(0, 0.012), rng.normal(1, 0.05)
    big, lean = print_["big_toe_ratio"] * ball, print_["big_toe_lean_deg"]
    center = ((-0.30 + 0.0035 * lean) * ball, 0.913 * length)
    toes = [toe_pad(_BIG_TOE + rng.normal(0, 0.025, (8, 2)), center, (big, big * rng.uniform(1.25, 1.5)), lean - 6)]
    for k, (u, v, breadth, long) in enumerate(_SMALL_TOES_AT):
        center = ((u * spread + rng.normal(0, 0.008)) * ball, (v - slope * k + rng.normal(0, 0.004) + shift) * length)
        breadth, long = np.array([breadth, long]) * size * rng.normal(1, 0.05, 2)
        landmarks = _SMALL_TOE + rng.normal(0, 0.025, (8, 2))
        toes.append(toe_pad(landmarks, center, (breadth, long), rng.normal(4 - 4 * k, 9)))
    return [toe / (1.0, length) for toe in toes]


def make_shape(rng: np.random.Generator, print_: PrintParameters) -> Shape:
    """Outlines of a print that measures exactly its length on paper, heel to longest toe, and its ball's breadth."""
    ball, length = print_.on_paper_mm("ball_breadth_mm"), print_.on_paper_mm("foot_length_mm")
    shift = print_["ball_position"] - 0.64
    u, v = _sole_landmarks(print_, _wobble(rng))
    v = v + shift * np.interp(v, (0.36, 0.60, 1.0), (0.0, 1.0, 1.0))
    sole = closed_spline(np.stack([u, v], axis=1))
    toes = _toes(rng, print_, 0.4 * shift)
    neck_u, neck_v = np.array([-0.35, -0.20, -0.22, -0.36]) * ball, np.array([0.79, 0.79, 0.88, 0.88]) + shift
    neck = closed_spline(np.stack([neck_u + toes[0][:, 0].mean() + 0.29 * ball, neck_v], axis=1))
    isthmus_v = 0.405 + 0.19 * shift
    arch = np.array([[-0.3, 0.62], [0.1, 0.60], [0.25, 0.5], [0.25, 0.40], [0.1, 0.33], [-0.15, 0.28], [-0.25, 0.40],
                     [-0.32, 0.52]]) * (ball, 1.0)  # fmt: skip

    low, high = sole[:, 1].min(), max(toe[:, 1].max() for toe in toes)
    front = sole[sole[:, 1] > 0.55]
    across = ball / np.ptp(front[:, 0])
    middle = front[:, 0].mean()

    def place(points: np.ndarray) -> np.ndarray:
        return np.stack([points[:, 0], (points[:, 1] - low) / (high - low) * length], axis=1)

    ball_share = np.interp(sole[:, 1], (0.42, 0.6), (0.0, 1.0))
    sole[:, 0] += (across - 1) * ball_share * (sole[:, 0] - middle)
    outer = print_["lateral_bulge"] * ball
    breadth = max(print_["arch_index"], 0.02) * ball
    isthmus = place(np.array([[outer - 0.5 * breadth, isthmus_v]]))[0]
    return Shape(
        sole=place(sole),
        toes=[place(toe) for toe in toes],
        neck=place(neck),
        arch=place(arch),
        length_mm=length,
        isthmus_mm=(float(isthmus[0]), float(isthmus[1])),
        isthmus_breadth_mm=breadth,
    )
