"""The sheet of originals and their augmented copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from fpclass.report.style import GREY, Images, cell_size, new_figure, shorten, show_image, styled, wrap


@styled
def augment_sheet(
    originals: Images,
    copies: UInt8[np.ndarray, "n k h w c"],
    class_names: Sequence[str],
    filenames: Sequence[str],
    title: str,
    note: str = "",
) -> Figure:
    """One image a row: as it is, and its copies.

    Args:
      originals: uint8 [n, H, W, C], C = 1 or 3.
      copies: uint8 [n, K, H, W, C].
      class_names: class of each image.
      filenames: name of each image.
      title: over everything.
      note: small print at the foot.
    """
    num_rows, num_copies = copies.shape[:2]
    width, height = cell_size(originals, 1.25)
    size = (max(6.0, (num_copies + 1) * (width + 0.06) + 1.4), num_rows * (height + 0.22) + 1.2)
    figure = new_figure(*size, title, note)
    axes = figure.subplots(num_rows, num_copies + 1, squeeze=False)
    for i, row in enumerate(axes):
        for panel, image in zip(row, (originals[i], *copies[i]), strict=True):
            show_image(panel, image)
        row[0].set_title(shorten(filenames[i], 20), fontsize=6, color=GREY, pad=2)
        row[0].set_ylabel(wrap(class_names[i], 14), rotation=0, ha="right", va="center", labelpad=6)
        row[0].spines[:].set(color=GREY, linewidth=1.5)
    for k, panel in enumerate(axes[0]):
        name = f"copy {k}" if k else f"original\n{shorten(filenames[0], 20)}"
        panel.set_title(name, fontsize=8 if k else 6, color=GREY, pad=2)
    return figure
