"""Writes augment.npz: what torchvision's tensor functions and the layers of Keras give, for the tests of augmentation.

Run: python tests/golden/make_augment.py (needs torch, torchvision and Keras; made with 2.13.0, 0.28.0 and 3.15.0)

Arrays (images are [H, W, C], in [0, 1] where their dtype is float32):
  factors, both, angles_deg, fill, mean, std, boxes, erased_value  parameters of the calls: the constants below
  image_K                 uint8, K = 0 … 3
  brightness_K, contrast_K  float32 [factor, H, W, C]
  both_K                  float32 [order, H, W, C]: factors BOTH, brightness first, contrast first
  rotated_K               float32 [angle, H, W, C], filled with FILL
  normalised_K            float32 [H, W, C], with MEAN and STD (their first C numbers)
  sources_HxW             int16 [angle, H, W]: position (row * W + column) that each pixel is copied from; -1 is fill
  erased                  float32 [box, H, W, C]: image_1 with each row of `boxes` (top, left, height, width) erased
  erasing_S_setting       ERASING[S]
  erasing_S_sizes, erasing_S_tops, erasing_S_lefts, S = 0 … 3
                          int32 counts over (height, width), (top, height), (left, width) of NUM_DRAWS boxes, drawn for
                          (image height, image width), area, aspect = ERASING[S]. A box as large as the image stands
                          for "no attempt fitted": torchvision then returns the image as it was.
  saturation_K, hue_K     float32 [factor, H, W, C] of the colour images; factors are `factors`, `hues`
  sharpness_K             float32 [factor, H, W, C]
  blur_K                  float32 [sigma, H, W, C]: sigmas are `sigmas`, cut off at BLUR_REACH pixels
  solarized_K, autocontrast_K, posterized_K  float32 [threshold, H, W, C], [H, W, C], [bits, H, W, C]
  keras_LAYER_FILL_INTERPOLATION  float32 [H, W, C]: image_1 through a layer whose range is the one number of KERAS
  keras_brightness        float32 [H, W, C]: image_1, RandomBrightness of KERAS_BRIGHTNESS
"""

import os
from pathlib import Path

import numpy as np
import torch

os.environ["KERAS_BACKEND"] = "jax"
import keras

try:
    import torchvision
except RuntimeError:  # installed without its compiled operators: it wants these two declared at the least
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

F = torchvision.transforms.functional
SIZES = ((12, 8, 1), (7, 13, 3), (9, 9, 3), (20, 15, 1))
FACTORS = (0.0, 0.8, 1.0, 1.37, 3.0)
BOTH = (1.6, 0.7)
ANGLES_DEG = (0.0, 7.3, -10.0, 33.3, 90.0, 180.0, -135.5)
FILL = 0.25
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOURCE_SIZES = ((120, 80), (31, 47), (33, 33), (1, 5))
BOXES = ((0, 0, 3, 4), (2, 5, 5, 8), (6, 12, 1, 1), (1, 1, 0, 3))
ERASED_VALUE = -0.5
ERASING = (
    ((120, 80), (0.02, 0.33), (0.3, 3.3)),
    ((9, 12), (0.02, 0.33), (0.3, 3.3)),
    ((10, 30), (0.4, 0.9), (0.3, 3.3)),  # most attempts do not fit
    ((6, 6), (0.82, 1.0), (1.0, 1.0)),  # often none of the ten fits
)
NUM_DRAWS = 100_000
HUES = (-0.5, -0.21, 0.0, 0.1, 0.37)
SIGMAS = (0.3, 1.0, 2.5)
BLUR_REACH = 3
THRESHOLDS = (0.0, 0.3, 1.0)
BITS = (4, 6, 8)
KERAS = {
    "rotation": (keras.layers.RandomRotation, {"factor": (0.07, 0.07)}),
    "zoom": (keras.layers.RandomZoom, {"height_factor": (0.21, 0.21)}),
    "zoom_each": (keras.layers.RandomZoom, {"height_factor": (0.21, 0.21), "width_factor": (-0.13, -0.13)}),
    "translation": (keras.layers.RandomTranslation, {"height_factor": (0.17, 0.17), "width_factor": (-0.22, -0.22)}),
}
SHEAR = (0.23, -0.11)  # x_factor, y_factor; the layer draws a sign, which is left out
KERAS_BRIGHTNESS = 0.15
FILL_MODES = ("constant", "reflect", "nearest", "wrap")
INTERPOLATIONS = ("nearest", "bilinear")


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def to_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().transpose(1, 2, 0)


def function_values(images: list[np.ndarray]) -> dict[str, np.ndarray]:
    values = {}
    for k, image in enumerate(images):
        unit = to_tensor(image).float().div(255)
        channels = unit.shape[0]
        brightest = F.adjust_contrast(F.adjust_brightness(unit, BOTH[0]), BOTH[1])
        contrasted = F.adjust_brightness(F.adjust_contrast(unit, BOTH[1]), BOTH[0])
        values[f"image_{k}"] = image
        values[f"brightness_{k}"] = np.stack([to_array(F.adjust_brightness(unit, f)) for f in FACTORS])
        values[f"contrast_{k}"] = np.stack([to_array(F.adjust_contrast(unit, f)) for f in FACTORS])
        values[f"both_{k}"] = np.stack([to_array(brightest), to_array(contrasted)])
        rotated = [to_array(F.rotate(unit, a, fill=[FILL] * channels)) for a in ANGLES_DEG]
        values[f"rotated_{k}"] = np.stack(rotated)
        values[f"normalised_{k}"] = to_array(F.normalize(unit, MEAN[:channels], STD[:channels]))
    unit = to_tensor(images[1]).float().div(255)
    erased = [to_array(F.erase(unit, *box, torch.tensor(ERASED_VALUE))) for box in BOXES]
    return {**values, "erased": np.stack(erased)}


def rotation_sources(height: int, width: int) -> np.ndarray:
    positions = torch.arange(height * width, dtype=torch.float32).reshape(1, height, width)
    sources = [F.rotate(positions, angle, fill=[-1.0])[0].numpy() for angle in ANGLES_DEG]
    return np.stack(sources).astype(np.int16)


def erasing_counts(
    size: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float]
) -> dict[str, np.ndarray]:
    image = torch.zeros(1, *size)
    draw = torchvision.transforms.RandomErasing.get_params
    boxes = np.array([draw(image, area, aspect, [0.0])[:4] for _ in range(NUM_DRAWS)])
    top, left, height, width = boxes.T
    rows, columns = size[0] + 1, size[1] + 1
    pairs = {
        "sizes": (height, width, (rows, columns)),
        "tops": (top, height, (rows, rows)),
        "lefts": (left, width, (columns, columns)),
    }
    counts = {}
    for name, (first, second, shape) in pairs.items():
        counts[name] = np.zeros(shape, np.int32)
        np.add.at(counts[name], (first, second), 1)
    return counts


def more_function_values(images: list[np.ndarray]) -> dict[str, np.ndarray]:
    values = {}
    for k, image in enumerate(images):
        unit = to_tensor(image).float().div(255)
        several = {
            "sharpness": [F.adjust_sharpness(unit, f) for f in FACTORS],
            "blur": [F.gaussian_blur(unit, 2 * BLUR_REACH + 1, sigma) for sigma in SIGMAS],
            "solarized": [F.solarize(unit, t) for t in THRESHOLDS],
            "posterized": [F.posterize(to_tensor(image), bits).float().div(255) for bits in BITS],
        }
        if unit.shape[0] == 3:
            several["saturation"] = [F.adjust_saturation(unit, f) for f in FACTORS]
            several["hue"] = [F.adjust_hue(unit, h) for h in HUES]
        values |= {f"{name}_{k}": np.stack([to_array(one) for one in all_of]) for name, all_of in several.items()}
        values[f"autocontrast_{k}"] = to_array(F.autocontrast(unit))
    return values


def keras_values(image: np.ndarray) -> dict[str, np.ndarray]:
    unit = (image.astype(np.float32) / np.float32(255))[None]
    values = {}
    for fill_mode in FILL_MODES:
        for interpolation in INTERPOLATIONS:
            how = {"fill_mode": fill_mode, "interpolation": interpolation, "fill_value": FILL}
            for name, (layer, ranges) in KERAS.items():
                values[f"keras_{name}_{fill_mode}_{interpolation}"] = layer(**ranges, **how)(unit, training=True)
            transformation = {"shear_factor": np.array([SHEAR], np.float32), "input_shape": unit.shape}
            sheared = keras.layers.RandomShear(**how).transform_images(unit, transformation)
            values[f"keras_shear_{fill_mode}_{interpolation}"] = sheared
    brightness = keras.layers.RandomBrightness((KERAS_BRIGHTNESS,) * 2, value_range=(0, 1))
    values["keras_brightness"] = brightness(unit, training=True)
    return {name: np.asarray(value, np.float32)[0] for name, value in values.items()}


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, dtype=np.uint8) for size in SIZES]
    arrays = {
        "factors": np.array(FACTORS),
        "both": np.array(BOTH),
        "angles_deg": np.array(ANGLES_DEG),
        "fill": np.array(FILL),
        "mean": np.array(MEAN),
        "std": np.array(STD),
        "boxes": np.array(BOXES),
        "erased_value": np.array(ERASED_VALUE),
        **function_values(images),
        **{f"sources_{h}x{w}": rotation_sources(h, w) for h, w in SOURCE_SIZES},
    }
    for k, (size, area, aspect) in enumerate(ERASING):
        arrays[f"erasing_{k}_setting"] = np.array([size, area, aspect])
        for name, counts in erasing_counts(size, area, aspect).items():
            arrays[f"erasing_{k}_{name}"] = counts
    arrays |= more_function_values(images) | keras_values(images[1])
    arrays |= {
        "hues": np.array(HUES),
        "sigmas": np.array(SIGMAS),
        "blur_reach": np.array(BLUR_REACH),
        "thresholds": np.array(THRESHOLDS),
        "bits": np.array(BITS),
        "keras_shear": np.array(SHEAR),
        "keras_brightness_factor": np.array(KERAS_BRIGHTNESS),
    }
    np.savez_compressed(Path(__file__).with_name("augment.npz"), **arrays)


if __name__ == "__main__":
    main()
