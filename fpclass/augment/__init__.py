"""Image operations for training, and the one normalisation that training and prediction share.

Each operation works on one image [H, W, C] and is meant to be vmapped. It comes in two parts: a deterministic core with
explicit parameters (`adjust_contrast`, `erase_box`, `rotation_map` …), equal in value to what its docstring names as
its source, and a random draw of those parameters. In all of them `key` is a JAX key for this image alone, `image_size`
is (height, width) in pixels, and the result has the shape of `image`. Intensities lie in [0, 1] in intensity.py and
policy.py; elsewhere they may be any numbers, for what comes after normalising.

To be imported from elsewhere:
  compose.py    `make_augment`, `make_augment_batch`: from the section `augment` of a config to one function
  intensity.py  `normalise`, `unit_intensities`; brightness, colour, blur, noise
  mixing.py     `make_mixing`: mixup and CutMix, which see a batch
  settings.py   what the section may hold, and what of it is switched on
Parts of these:
  geometry.py   maps, composed into one look-up
  warp.py       flips, rotation, scale, elastic deformation, one by one
  boxes.py      random erasing, cutout
  policy.py     RandAugment
"""
