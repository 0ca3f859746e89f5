"""Where the parts of drawn footprints are: toes, ball, arch and heel, whose outlines are known."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import UInt8

from fpclass.data.synthetic import drawing, shape
from fpclass.data.synthetic.anatomy import TOES
from fpclass.data.synthetic.dataset import Person, plan_people, print_parameters

PARTS = ("toes", "ball", "arch", "heel")
"""Numbered from 1; 0 is paper. The sole without toes is divided into thirds of its length (Cavanagh and Rodgers,
Journal of Biomechanics 20 (1987) 547-551); the arch is the middle one with the hollow beside it."""
CELL_MM = 1.0
"""Grid of the outlines, as they are drawn."""


def draw_parts(filename: str, *, num_images: int, image_size: tuple[int, int], seed: int) -> UInt8[np.ndarray, "H W"]:
    """Number of the part that each pixel of a print of the embedded data set shows, 0 for paper; arguments as there."""
    person, k = _prints(num_images, seed)[int(filename.removeprefix("img_"))]
    rng, parameters = print_parameters(person, k, seed=seed)
    outlines = shape.make_shape(rng, parameters)
    page = drawing.Page(parameters, outlines.length_mm, image_size, CELL_MM)
    toes = [pad for toe, pad in zip(TOES, outlines.toes, strict=True) if f"missing_{toe}" not in parameters.defects]
    sole, hollow, pads = (page.fill(of, 0.0) for of in ([outlines.sole], [outlines.arch], toes))
    low, high = outlines.sole[:, 1].min(), outlines.sole[:, 1].max()
    third = np.clip((page.foot_axes()[1] - low) / (high - low) * 3, 0, 2).astype(int)
    arch = (third == 1) * np.maximum(sole, hollow)
    fields = [np.where(sole < 0.5, pads, 0), (third == 2) * sole, arch, (third == 0) * sole]
    enlarged = np.stack([page.enlarge(field) for field in fields])
    return np.where(enlarged.max(axis=0) > 0.5, 1 + enlarged.argmax(axis=0), 0).astype(np.uint8)


@functools.lru_cache(maxsize=2)
def _prints(num_images: int, seed: int) -> list[tuple[Person, int]]:
    """Person and number of each print, in the order of the rows."""
    return [(person, k) for person in plan_people(num_images, seed) for k in range(person.num_prints)]
