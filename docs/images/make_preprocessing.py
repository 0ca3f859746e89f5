"""Draws preprocessing.png: drawn prints as they are, cropped and equalised, as a model gets them.

Run: python docs/images/make_preprocessing.py
"""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from fpclass.data.files import image_files
from fpclass.data.foreground import foreground_box
from fpclass.data.resize import Decoding, resize_picture
from fpclass.data.synthetic.dataset import draw_dataset
from fpclass.report.style import new_figure, save_figure, show_image, styled

SHOWN = {
    "as it is, and the box": {},
    "crop=foreground": {"crop": "foreground"},
    "crop=foreground, resize=pad": {"crop": "foreground", "resize": "pad"},
    "equalise=histogram": {"equalise": "histogram"},
    "equalise=clahe": {"equalise": "clahe"},
    "crop=foreground, equalise=clahe": {"crop": "foreground", "equalise": "clahe"},
}


def with_box(picture: Image.Image) -> np.ndarray:
    """The picture with the box that cropping finds."""
    shown = picture.convert("RGB")
    ImageDraw.Draw(shown).rectangle(foreground_box(picture) or (0, 0, 0, 0), outline=(200, 30, 30), width=4)
    return np.asarray(shown.resize((80, 120), Image.Resampling.LANCZOS))


@styled
def draw(pictures: list[Image.Image]) -> Figure:
    """A row for each picture, a column for each way of preparing it."""
    title, note = "data.crop and data.equalise: what a model gets of a print", "SYNTHETIC prints, 120 x 80 pixels"
    figure = new_figure(len(SHOWN) * 1.3, len(pictures) * 1.75 + 0.9, title, note)
    axes = figure.subplots(len(pictures), len(SHOWN), squeeze=False)
    for i, (row, picture) in enumerate(zip(axes, pictures, strict=True)):
        for panel, (name, changes) in zip(row, SHOWN.items(), strict=True):
            image, _ = resize_picture(picture, Decoding((120, 80), 1, **changes))
            show_image(panel, image if changes else with_box(picture))
            if i == 0:
                panel.set_title(name.replace(", ", ",\n"), fontsize=7, pad=2)
    return figure


def main() -> None:
    """Writes the picture beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        draw_dataset(pathlib.Path(folder) / "prints", num_images=8, image_size=(619, 403), seed=3)
        pictures = [Image.open(file).convert("L") for file in image_files(pathlib.Path(folder))[::3]]
        save_figure(draw(pictures), pathlib.Path(__file__).with_name("preprocessing.png"))


if __name__ == "__main__":
    main()
