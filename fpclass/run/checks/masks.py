"""Where the object is in the images of a run, as far as that can be told: ink on paper, parts of drawn footprints."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from fpclass.config import Config
from fpclass.data.decode import decode_image
from fpclass.data.resize import Decoding
from fpclass.data.synthetic.parts import PARTS, draw_parts
from fpclass.explain.checks.objects import ink_masks
from fpclass.run.prepare import Prepared


def masks_of(
    config: Config, prepared: Prepared, rows: Int[np.ndarray, " n"], images: UInt8[np.ndarray, "n h w c"]
) -> dict[str, Bool[np.ndarray, "n h w"]]:
    """Masks of some rows, whose decoded images these are, by the part's name; none where nothing can be told.

    Ink where most images have it; the parts of footprints that this project draws, unless these are cropped.
    """
    masks, is_told = ink_masks(images)
    result = {"ink": masks} if is_told.mean() > 0.5 else {}
    if config.data.source == "synthetic" and config.data.crop == "none":
        result |= _parts(config, prepared, rows)
    return result


def _parts(config: Config, prepared: Prepared, rows: Int[np.ndarray, " n"]) -> dict[str, Bool[np.ndarray, "n h w"]]:
    """Masks of toes, ball, arch and heel, resized as the images are."""
    drawn = config.data.synthetic
    names = prepared.table.rows["filename"].to_numpy()[rows]
    decoding = Decoding(tuple(config.data.image_size), 1, config.data.interpolation, config.data.resize, pad_value=0)
    masks = {part: [] for part in PARTS}
    for name in names:
        parts = draw_parts(name, num_images=drawn.num_images, image_size=tuple(drawn.image_size), seed=drawn.seed)
        for k, part in enumerate(PARTS, start=1):
            masks[part].append(_decoded(parts == k, decoding))
    return {part: np.stack(of_images) for part, of_images in masks.items()}


def _decoded(mask: Bool[np.ndarray, "H W"], decoding: Decoding) -> Bool[np.ndarray, "h w"]:
    """A mask in the size of decoded images."""
    encoded = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(encoded, "PNG", compress_level=1)
    return decode_image(encoded.getvalue(), decoding)[..., 0] > 127
