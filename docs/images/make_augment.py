"""Draws augment.png: every operation of augmentation alone, on a photograph that scikit-learn ships.

Run: python docs/images/make_augment.py
"""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image

from fpclass.augment import settings
from fpclass.augment.compose import make_augment
from fpclass.config import base_config
from fpclass.report.style import cell_size, new_figure, save_figure, show_image, styled

SEED = 5
REFLECT = {"fill_mode": "reflect"}
SHOWN: dict[str, dict] = {
    "original": {},
    "vertical_flip_probability=1": {"vertical_flip_probability": 1.0},
    "brightness=0.5": {"brightness": 0.5},
    "contrast=0.8": {"contrast": 0.8},
    "brightness_shift=0.3": {"brightness_shift": 0.3},
    "channel_shift=0.3": {"channel_shift": 0.3},
    "saturation=0.9": {"saturation": 0.9},
    "hue=0.2": {"hue": 0.2},
    "sharpness=5": {"sharpness": 5.0},
    "blur_sigma_px=3": {"blur_sigma_px": 3.0},
    "noise=0.1": {"noise": 0.1},
    "height_width=(0.8, 0.8)": {"height_width": (0.8, 0.8)},
    "max_rotation_deg=40": {"max_rotation_deg": 40.0},
    "the same, fill_mode=reflect": {"max_rotation_deg": 40.0, **REFLECT},
    "the same, fill_mode=wrap": {"max_rotation_deg": 40.0, "fill_mode": "wrap"},
    "the same, fill_mode=nearest": {"max_rotation_deg": 40.0, "fill_mode": "nearest"},
    "translation=(0.3, 0.3)": {"translation": (0.3, 0.3)},
    "shear=(0.4, 0.4)": {"shear": (0.4, 0.4)},
    "zoom=(0.5,)": {"zoom": (0.5,), **REFLECT},
    "zoom=(0.5, 0.5)": {"zoom": (0.5, 0.5), **REFLECT},
    "scale=(0.5, 0.6)": {"scale": (0.5, 0.6)},
    "perspective=0.6": {"perspective": 0.6},
    "elastic_alpha_px=5": {"elastic_alpha_px": 5.0, "elastic_sigma_px": 12.0},
    "all of geometry, reflect": {
        "max_rotation_deg": 20.0,
        "translation": (0.1, 0.1),
        "shear": (0.2, 0.2),
        "zoom": (0.2, 0.2),
        "perspective": 0.3,
        "elastic_alpha_px": 2.0,
        **REFLECT,
    },
    "erasing_probability=1": {"erasing_probability": 1.0, "erasing_area": (0.1, 0.3)},
    "cutout_px=50": {"cutout_px": 50},
    "policy_operations=2": {"policy_operations": 2},
    "policy_operations=3": {"policy_operations": 3, "policy_magnitude": 6.0},
}


def augmented(image: np.ndarray, changes: dict) -> np.ndarray:
    """The image with these keys set, and all others off."""
    config = base_config().augment
    config.update({key: float(off) for key, off in settings.SWITCHES.items() if key in ("brightness", "contrast")})
    config.update({"flip_probability": 0.0, **changes})
    key = jax.random.key(SEED)
    unit = jax.jit(make_augment(config, mean=0.5, std=0.5))(key, jnp.asarray(image)) * 0.5 + 0.5
    return np.asarray(jnp.clip(jnp.round(unit * 255), 0, 255).astype(jnp.uint8))


@styled
def draw(images: dict[str, np.ndarray], num_columns: int = 7) -> Figure:
    """A grid of images under their names."""
    width, height = cell_size(np.stack(list(images.values())), 1.7)
    num_rows = -(-len(images) // num_columns)
    size = num_columns * (width + 0.1), num_rows * (height + 0.3) + 0.8
    note = "Photograph: flickr.com/photos/vultilion, CC BY 2.0, as scikit-learn ships it (flower.jpg); a square of it."
    figure = new_figure(*size, "Every operation alone, drawn once: config.augment.…", note)
    for panel, (name, image) in zip(figure.subplots(num_rows, num_columns).ravel(), images.items(), strict=True):
        show_image(panel, image)
        panel.set_title(name, fontsize=7, pad=2)
    return figure


def main() -> None:
    """Writes the picture beside this file."""
    photograph = Image.fromarray(load_sample_image("flower.jpg")).crop((100, 0, 527, 427)).resize((160, 160))
    image = np.asarray(photograph)
    figure = draw({name: augmented(image, changes) for name, changes in SHOWN.items()})
    path = pathlib.Path(__file__).with_name("augment.png")
    save_figure(figure, path)
    with Image.open(path) as picture:  # a sixth of the bytes, with the palette
        size = (1260, round(1260 * picture.height / picture.width))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
