"""Image operations for training, and the one normalisation that training and prediction share.

Each operation works on one image [H, W, C] and is meant to be vmapped; nothing here knows about batches, which
`fpclass.augment.mixing` does. It comes in two parts: a deterministic core with explicit parameters (`adjust_contrast`,
`erase_box`, `rotation_map` …), equal in value to what its docstring names as its source, and a random draw of those
parameters.

  intensity.py  brightness, colour, blur, noise, normalising      geometry.py  maps, composed into one look-up
  warp.py       flips, rotation, scale, elastic, one by one       policy.py    RandAugment
  boxes.py      random erasing, cutout                            settings.py  the keys of the config
  compose.py    from the config to one function
"""

from fpclass.augment.compose import make_augment, make_augment_batch
from fpclass.augment.intensity import normalise, unit_intensities
from fpclass.augment.settings import check_augment, check_classes, describe, is_augmented

__all__ = [
    "check_augment",
    "check_classes",
    "describe",
    "is_augmented",
    "make_augment",
    "make_augment_batch",
    "normalise",
    "unit_intensities",
]
