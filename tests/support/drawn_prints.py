"""Drawn prints of which one thing alone tells the class: their size, their texture, or a mark on the paper."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image

THINGS = ("size", "texture", "frame")


def draw_print(rng: np.random.Generator, label: int, thing: str, side: int = 64) -> np.ndarray:
    """A striped ellipse on noisy paper, uint8 [side, side]; what is not the thing is drawn at random."""
    tells = {name: int(rng.integers(2)) for name in THINGS} | {thing: label}
    reach = side * rng.uniform(0.18, 0.21) * (1 + 0.3 * tells["size"])
    y, x = np.mgrid[:side, :side] - (side - 1) / 2 - rng.uniform(-0.05, 0.05, (2, 1, 1)) * side
    along = y if tells["texture"] else x
    inside = (y / reach) ** 2 + (x / (0.8 * reach)) ** 2 < 1
    stripes = 60 + 50 * np.sin(2 * np.pi * (along / reach * 1.5 + rng.uniform()))
    image = np.where(inside, stripes, rng.normal(235, 2, (side, side)))
    if tells["frame"]:
        image[:2] = 130
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def draw_prints(thing: str, number: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, side, side, 1] of the two classes in turn, and their classes [n]."""
    rng, labels = np.random.default_rng(0), np.arange(number) % 2
    return np.stack([draw_print(rng, label, thing, side)[..., None] for label in labels]), labels


def write_prints(folder: pathlib.Path, thing: str, number: int, side: int = 64) -> None:
    """The same as a folder per class."""
    images, labels = draw_prints(thing, number, side)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        of_class = folder / ("b" if label else "a")
        of_class.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(of_class / f"{i:03d}.png")
