"""Draws one inked footprint on a scanned page: parameters in, grey levels out.

What varies slowly (where the sole touches, how much ink it leaves, pale second touches) is drawn on a grid of one or
two millimetres and enlarged; what is fine (grain, creases, dust, the scanner's lines) comes at the image's resolution.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fpclass.data.synthetic import shape as footprint_shape
from fpclass.data.synthetic.anatomy import PAGE_MM, TOES, PrintParameters
from fpclass.data.synthetic.shape import Shape

LEVELS = np.array([255, 191, 128, 64, 0], np.uint8)
"""The five grey levels of the competition's scans, from paper to full ink."""

_CONTACT_CELL_MM = 1.0  # grid of where the sole touches …
_TONE_CELL_MM = 2.0  # … and of everything smoother
_FINE = 4  # outlines are filled on a grid so many times finer, then averaged
_GRAIN_MARGIN_PX = 192  # how much larger than an image the sheets of grain are, to take different windows


def mm_per_px(image_size: tuple[int, int]) -> float:
    """Physical scale of images of this (height, width): the page fits into the image."""
    return max(PAGE_MM[0] / image_size[0], PAGE_MM[1] / image_size[1])


def _smooth(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise with blobs of about `cell` pixels, mean 0, standard deviation 1, float32 of that shape."""
    small = (max(2, round(shape[0] / cell) + 2), max(2, round(shape[1] / cell) + 2))
    image = Image.fromarray(rng.standard_normal(small, np.float32))
    noise = np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    return (noise - noise.mean()) / noise.std()


@functools.lru_cache(maxsize=4)
def make_grain(image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two sheets of texture that all prints of a size take their windows from: it is the paper's, not the foot's.

    (edge, ink): how ragged edges are, and the speckle of the ink with hints of the skin's ridges where the resolution
    shows them; float32, standard deviation 1, larger than the image by a margin.
    """
    rng = np.random.default_rng(20120)
    scale = mm_per_px(image_size)
    shape = (image_size[0] + _GRAIN_MARGIN_PX, image_size[1] + _GRAIN_MARGIN_PX)
    fine = rng.standard_normal(shape, np.float32)
    edge = 0.6 * _smooth(rng, shape, max(1.0, 1.6 / scale)) + 0.6 * fine
    # Ridges of the skin run about 0.8 mm apart in lines that bend slowly; pixels of half a millimetre cannot show them.
    visible = float(np.clip((0.8 / scale - 2.0) / 1.0, 0.0, 1.0))
    bend = 9.0 * _smooth(rng, shape, 35.0 / scale)
    ridges = np.sin(2 * np.pi * np.arange(shape[0], dtype=np.float32)[:, None] * scale / 0.8 + bend)
    ink = 0.8 * fine + 0.45 * _smooth(rng, shape, max(1.0, 1.0 / scale)) + 1.1 * visible * ridges
    return (edge / edge.std()).astype(np.float32), (ink / ink.std()).astype(np.float32)


class Page:
    """The page as a grid of square cells: places outlines of a foot on it, in millimetres, and fills them."""

    def __init__(self, print_: PrintParameters, length_mm: float, image_size: tuple[int, int], cell_mm: float):
        scale = mm_per_px(image_size)
        self.image_size = image_size
        self.cell_mm = cell_mm
        self.extent = (image_size[0] * scale / cell_mm, image_size[1] * scale / cell_mm)  # in cells
        self.grid = (int(np.ceil(self.extent[0])), int(np.ceil(self.extent[1])))
        # A left foot is the mirror image of a right one, whose big toe's print lies to the left.
        self.mirror = -1.0 if print_.side == "left" else 1.0
        turn = np.deg2rad(print_.toe_out_deg)
        self.turn = np.array([[np.cos(turn), np.sin(turn)], [np.sin(turn), -np.cos(turn)]])
        self.center = np.array(print_.center_mm)
        self.half_length = 0.5 * length_mm

    def place(self, points: np.ndarray) -> np.ndarray:
        """(u, v) of the foot to (x, y) of the page, both in mm, [P, 2]."""
        xy = (points - (0.0, self.half_length)) @ self.turn.T
        return xy * (self.mirror, 1.0) + self.center

    def foot_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Both (u, v) in mm at the middle of every cell, float32, each of the grid's shape."""
        x = (np.arange(self.grid[1], dtype=np.float32) + 0.5) * self.cell_mm - float(self.center[0])
        y = (np.arange(self.grid[0], dtype=np.float32) + 0.5) * self.cell_mm - float(self.center[1])
        xy = np.stack(np.broadcast_arrays(x * self.mirror, y[:, None]))
        # The turn is orthonormal: its transpose is its inverse.
        u, v = np.tensordot(self.turn.T.astype(np.float32), xy, axes=1)
        return u, v + self.half_length

    def fill(self, outlines: list[np.ndarray], blur_mm: float) -> np.ndarray:
        """1 inside of any of the outlines, 0 outside, blurred; float32 on the grid."""
        canvas = Image.new("L", (self.grid[1] * _FINE, self.grid[0] * _FINE))
        draw = ImageDraw.Draw(canvas)
        for points in outlines:
            cells = self.place(points) * (_FINE / self.cell_mm) - 0.5
            draw.polygon([tuple(p) for p in cells.tolist()], fill=255)
        canvas = canvas.reduce(_FINE).filter(ImageFilter.GaussianBlur(blur_mm / self.cell_mm))
        return np.asarray(canvas, np.float32) / 255

    def noise(self, rng: np.random.Generator, blob_mm: float) -> np.ndarray:
        """Smooth noise with blobs of about this size, float32 on the grid."""
        return _smooth(rng, self.grid, blob_mm / self.cell_mm)

    def enlarge(self, field: np.ndarray) -> np.ndarray:
        """A field on the grid at the image's resolution, float32 [H, W]."""
        box = (0.0, 0.0, self.extent[1], self.extent[0])
        image = Image.fromarray(np.asarray(field, np.float32))
        height, width = self.image_size
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def _contact(rng: np.random.Generator, touching: list[np.ndarray], shape: Shape, page: Page) -> np.ndarray:
    """Contact of sole and paper: 1 inside, 0 outside, 1/2 at the edge, ragged at the arch; float32 on the grid."""
    u, v = page.foot_axes()
    u0, v0 = shape.isthmus_mm
    inner = u0 - 0.5 * shape.isthmus_breadth_mm
    at_arch = np.exp(-(((u - inner) / 9) ** 2) - ((v - v0 - 8) / (0.11 * shape.length_mm)) ** 2)
    return page.fill(touching, 0.9) + rng.uniform(0.1, 0.4) * at_arch * page.noise(rng, 2.5)


def _pressure(rng: np.random.Generator, print_: PrintParameters, shape: Shape, page: Page) -> np.ndarray:
    """Darkness of the ink wherever the sole touches, 1 is black, float32 on the page's grid."""
    u, v = page.foot_axes()
    tone = print_.ink * rng.normal(0.93, 0.04) * np.ones(page.grid, np.float32)
    for toe, points in zip(TOES, shape.toes, strict=True):
        (center_u, center_v), reach = points.mean(axis=0).tolist(), 0.62 * float(np.ptp(points[:, 1]))
        strength = rng.normal(1.0, 0.06) - (rng.uniform(0.35, 0.6) if f"faint_{toe}" in print_.defects else 0.0)
        tone += (strength - 1) * print_.ink * ((u - center_u) ** 2 + (v - center_v) ** 2 < reach**2)
    length = shape.length_mm
    tone *= 1 + rng.normal(0, 0.09) * (v / length - 0.5) + rng.normal(0, 0.05) * u / 40
    # Flesh lifts towards the middle of ball and heel, or the ink was thick there: paler or darker by chance.
    for center_u, center_v, reach in ((-0.02, 0.70, 24.0), (0.01, 0.15, 17.0)):
        distance = ((u - center_u * length) ** 2 + (v - center_v * length) ** 2) / reach**2
        tone += rng.normal(-0.05, 0.10) * np.exp(-distance)
    # The midfoot carries little: the less of it touches, the paler it is.
    u0, v0 = shape.isthmus_mm
    fade = max(0.85 - 0.03 * shape.isthmus_breadth_mm, 0.1) + rng.uniform(0.0, 0.3)
    tone -= fade * np.exp(-(((v - v0) / (0.055 * length)) ** 2) - ((u - u0 + 4) / 26) ** 2)
    # Towards the arch the sole lifts off slowly.
    inner = u0 - 0.5 * shape.isthmus_breadth_mm
    tone -= rng.uniform(0.0, 0.5) * np.exp(-(((u - inner) / 6) ** 2) - ((v - 0.45 * length) / (0.10 * length)) ** 2)
    tone += 0.07 * page.noise(rng, 13.0) + 0.035 * page.noise(rng, 4.0)
    if "patchy_ink" in print_.defects:
        tone -= 0.8 * np.clip(page.noise(rng, 26.0) - 0.6, 0.0, 1.0)
    return tone


def _pale_touches(rng: np.random.Generator, print_: PrintParameters, shape: Shape, page: Page) -> np.ndarray:
    """Darkness outside the firm print: a low arch that just touches, smudges, a second heel; float32 on the grid."""
    touch = min(max(rng.normal(-0.12, 0.2) + 0.9 * max(print_["arch_index"] - 0.2, 0.0), 0.0), 0.45)
    pale = touch * page.fill([shape.arch * (0.75, 1.0) + (0.05 * shape.length_mm, 0.0)], 8.0)
    if "smudge" in print_.defects:
        offset = np.array([-18.0, 0.0]) + rng.normal(0, 5, 2)
        pale = np.maximum(pale, rng.uniform(0.12, 0.3) * page.fill([shape.arch + offset], 5.0))
    if "second_heel" in print_.defects:
        heel = shape.sole[shape.sole[:, 1] < 0.25 * shape.length_mm] + rng.normal((2, -18), (4, 5))
        pale = np.maximum(pale, rng.uniform(0.15, 0.35) * page.fill([heel], 2.0))
    return pale * np.clip(0.9 + 0.35 * page.noise(rng, 12.0), 0.0, 1.6)


def _crease(rng: np.random.Generator, start: np.ndarray, direction: float, length: float) -> np.ndarray:
    """A thin bent line in the foot's axes, [8, 2] in mm."""
    angles = direction + np.cumsum(rng.normal(0, 0.16, 7))
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * length / 7
    return np.concatenate([start[None], start + np.cumsum(steps, axis=0)])


def _creases(rng: np.random.Generator, shape: Shape) -> list[np.ndarray]:
    """Lines where folded skin leaves the paper white: across the midfoot, at the ball, at the root of the big toe."""
    lines = []
    narrow = np.array(shape.isthmus_mm)
    for _ in range(rng.poisson(7)):
        start = narrow + rng.normal(0, 1, 2) * (8.0, 0.055 * shape.length_mm)
        lines.append(_crease(rng, start, rng.normal(0.2, 0.6) + np.pi * rng.integers(2), rng.uniform(6, 22)))
    for _ in range(rng.poisson(0.7)):
        start = np.array([-4.0, 0.62 * shape.length_mm]) + rng.normal(0, 6, 2)
        lines.append(_crease(rng, start, rng.normal(1.5, 0.3), rng.uniform(8, 24)))
    root = shape.neck.mean(axis=0) - (9.0, 5.0)
    lines.append(_crease(rng, root, rng.normal(0.1, 0.1), 19.0))
    return lines


def _draw_details(rng: np.random.Generator, shape: Shape, page: Page, levels: np.ndarray) -> np.ndarray:
    """Creases, dust and the scanner's two lines, drawn into level numbers uint8 [H, W]; returns the new ones."""
    height, width = page.image_size
    px = 1 / mm_per_px(page.image_size)
    image = Image.fromarray(levels)
    draw = ImageDraw.Draw(image)
    for line in _creases(rng, shape):
        line = page.place(line) * px
        draw.line([tuple(p) for p in line.tolist()], fill=0, width=max(1, round(rng.uniform(0.3, 0.75) * px)))
    for x, y in (rng.random((rng.poisson(4), 2)) * (width, height)).tolist():
        draw.ellipse((x, y, x + 0.35 * px, y + 0.35 * px), fill=int(rng.integers(1, 5)))
    for x_mm, strength in ((rng.normal(3.0, 0.7), 0.9), (rng.normal(194.5, 0.9), 0.6)):
        tilt_mm = rng.normal(0.6, 0.5)
        rows = np.flatnonzero(rng.random(height) < strength * rng.uniform(0.6, 1.1))
        columns = (x_mm + tilt_mm * rows / height) * px + rng.random(len(rows)) * 0.8
        points = np.stack([columns, rows], axis=1)
        draw.point([tuple(p) for p in points.tolist()], fill=1)
    return np.asarray(image)


def draw_print(rng: np.random.Generator, print_: PrintParameters, image_size: tuple[int, int]) -> np.ndarray:
    """Draws a print: grey levels, each of `LEVELS`, uint8 [H, W]. Details of outline and ink are left to `rng`."""
    shape = footprint_shape.make_shape(rng, print_)
    page = Page(print_, shape.length_mm, image_size, _CONTACT_CELL_MM)
    touching = [shape.sole]
    touching += [pad for toe, pad in zip(TOES, shape.toes, strict=True) if f"missing_{toe}" not in print_.defects]
    if rng.random() < 0.45 and "missing_big_toe" not in print_.defects:
        touching.append(shape.neck)
    contact = page.enlarge(_contact(rng, touching, shape, page))
    page = Page(print_, shape.length_mm, image_size, _TONE_CELL_MM)
    tone = page.enlarge(_pressure(rng, print_, shape, page))
    pale = page.enlarge(_pale_touches(rng, print_, shape, page))

    height, width = image_size
    top, left = rng.integers(0, _GRAIN_MARGIN_PX, 2)
    edge, ink = (sheet[top : top + height, left : left + width] for sheet in make_grain(image_size))
    firm = np.clip((contact - 0.5 + 0.10 * edge) * 2.8 + 0.5, 0.0, 1.0)
    darkness = np.maximum(firm * tone, pale)
    # Grain shows most in half-tones: full ink covers it, and where there is no ink it has nothing to show.
    darkness += ink * np.minimum(1.1 * darkness, 0.31 - 0.2 * np.clip(darkness, 0.3, 0.9))
    levels = np.clip(darkness * 4.0 + 0.5, 0, 4).astype(np.uint8)
    return LEVELS[_draw_details(rng, shape, page, levels)]
