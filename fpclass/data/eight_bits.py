"""Conversion of pixels of any depth to 8 bits, grey or RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from fpclass.errors import DecodeError

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF 6.0


def eight_bits(image: Image.Image, notes: list[str]) -> Image.Image:
    """The loaded image as 8-bit L or RGB, transparency over white."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        # Pillow keeps 12 bits in 16 as they are, and 16 bits of a negative (white is 0) a negative.
        maximum = 4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535
        values = np.asarray(image).astype(np.uint32)
        return _scaled(image, maximum - values if tags.get(_PHOTOMETRIC) == 0 else values, maximum)
    if image.mode == "I":
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise DecodeError(f"32-bit intensities from {low} to {high}, beyond 0 to 65535; save it with 8 or 16 bits")
        return _scaled(image, values.astype(np.uint32), 65535)
    if image.mode == "F":
        return _from_float(np.asarray(image), notes)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _scaled(image: Image.Image, values: np.ndarray, maximum: int) -> Image.Image:
    """Integers in [0, maximum] to 8 bits, rounded; PNG's transparent grey becomes white."""
    grey = ((values * 255 + maximum // 2) // maximum).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _from_float(values: np.ndarray, notes: list[str]) -> Image.Image:
    """Floats to 8 bits where their range says which of the two customary scales they have."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # false for NaN as well
        raise DecodeError(f"floating-point intensities from {low:g} to {high:g}, neither 0 to 1 nor 0 to 255")
    scale = 255 if high <= 1 else 1
    notes.append(f"floating-point intensities taken as 0 to {255 // scale}")
    return Image.fromarray(np.rint(values * scale).astype(np.uint8))


def grey_if_all_is(image: Image.Image) -> Image.Image:
    """An RGB image of which all pixels have R = G = B as L, so that one picture has one form however it was saved."""
    if image.mode == "L":
        return image
    red, green, blue = image.split()
    is_coloured = ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox()
    return image if is_coloured else red
