"""How much of a map lies on the object: masks of images, and shares of maps on them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from fpclass.explain.checks.maps import resized

MIN_SEPARATION = 0.6
"""Share of the variance of the greys that lies between the two sides of a threshold, from which they are two things."""


def ink_masks(images: UInt8[np.ndarray, "n h w c"]) -> tuple[Bool[np.ndarray, "n h w"], Bool[np.ndarray, " n"]]:
    """Where ink is on paper, by Otsu's threshold of each image, and whether it can be told.

    Ink is the side of the threshold that less of the image's border belongs to. It cannot be told in images that are
    coloured or all one grey, or whose greys do not fall into two: their masks are empty.

    Source: Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62-66.
    """
    from skimage.filters import threshold_otsu

    is_told = np.array([_is_grey(image) and np.ptp(image) > 0 for image in images], bool)
    masks = np.zeros(images.shape[:3], bool)
    for i in np.flatnonzero(is_told):
        grey = images[i].mean(axis=-1)
        masks[i] = grey <= threshold_otsu(grey)
        border = np.concatenate([masks[i, 0], masks[i, -1], masks[i, :, 0], masks[i, :, -1]])
        if border.mean() > 0.5:
            masks[i] = ~masks[i]
        share = masks[i].mean()
        between = share * (1 - share) * (grey[masks[i]].mean() - grey[~masks[i]].mean()) ** 2
        is_told[i] = between >= MIN_SEPARATION * grey.var()
    return masks & is_told[:, None, None], is_told


def share_on(
    maps: Float[np.ndarray, "n h w"], masks: Bool[np.ndarray, "n H W"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Share of what is positive in each map that lies on its mask, and the mask's share of the image.

    The latter is what a map that is the same everywhere would have. Both are nan where the mask is empty or a map has
    nothing positive.
    """
    positive = np.maximum(resized(maps, masks.shape[1:3]), 0)
    total, on = positive.sum(axis=(1, 2)), (positive * masks).sum(axis=(1, 2))
    area = masks.mean(axis=(1, 2))
    is_defined = (total > 0) & (area > 0)
    return np.where(is_defined, on / np.where(total > 0, total, 1), np.nan), np.where(is_defined, area, np.nan)


def _is_grey(image: UInt8[np.ndarray, "h w c"]) -> bool:
    return image.shape[-1] == 1 or int(np.ptp(image, axis=-1).max()) <= 8
