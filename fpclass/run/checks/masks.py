"""Where the object is in the images of a run, as far as that can be told: ink on paper, parts of drawn footprints."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from fpclass.config import Config
from fpclass.data.decode import decode_image
from fpclass.data.files import some_of
from fpclass.data.resize import Decoding
from fpclass.data.synthetic.parts import PARTS, draw_parts
from fpclass.errors import ConfigError, DataError, one_line
from fpclass.explain.checks.objects import ink_masks
from fpclass.run.prepare import Prepared


def masks_of(
    config: Config,
    prepared: Prepared,
    rows: Int[np.ndarray, " n"],
    images: UInt8[np.ndarray, "n h w c"],
    given: pathlib.Path | None = None,
) -> dict[str, Bool[np.ndarray, "n h w"]]:
    """Masks of some rows, whose decoded images these are, by the part's name; none where nothing can be told.

    The object, where a folder of masks is given; ink where most images have it; the parts of footprints that this
    project draws, unless these are cropped.

    Raises:
      ConfigError: masks are given, and the images are cropped.
      DataError: an image has no mask in that folder, or one that cannot be read.
    """
    result = {"object": _given(config, prepared.table.rows["filename"].iloc[rows].tolist(), given)} if given else {}
    masks, is_told = ink_masks(images)
    result |= {"ink": masks} if is_told.mean() > 0.5 else {}
    if config.data.source == "synthetic" and config.data.crop == "none":
        result |= _parts(config, prepared, rows)
    return result


def _given(config: Config, filenames: Sequence[str], folder: pathlib.Path) -> Bool[np.ndarray, "n h w"]:
    """A person's masks: PNG files of the images' names, white where the object is, resized as the images are."""
    if config.data.crop != "none":
        raise ConfigError(f"--masks={folder}: data.crop is {config.data.crop!r}, and masks are of whole images")
    paths = [folder / pathlib.PurePosixPath(name).with_suffix(".png") for name in filenames]
    missing = [path.relative_to(folder).as_posix() for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"--masks={folder}: no mask {some_of(missing)}; every image that is drawn needs one")
    masks = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                masks.append(_decoded(np.asarray(picture.convert("L")) > 127, _decoding(config)))
        except (OSError, ValueError) as error:
            raise DataError(f"--masks: {path} cannot be read ({one_line(error)}); it should be a PNG") from error
    return np.stack(masks)


def _decoding(config: Config) -> Decoding:
    """How masks are resized: as the images are, black where these are padded."""
    data = config.data
    return Decoding(tuple(data.image_size), 1, data.interpolation, data.resize, pad_value=0)


def _parts(config: Config, prepared: Prepared, rows: Int[np.ndarray, " n"]) -> dict[str, Bool[np.ndarray, "n h w"]]:
    """Masks of toes, ball, arch and heel, resized as the images are."""
    drawn = config.data.synthetic
    names = prepared.table.rows["filename"].to_numpy()[rows]
    decoding = _decoding(config)
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
