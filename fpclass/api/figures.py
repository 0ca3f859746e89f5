"""Figures of a folder, by name: paths, which a notebook shows as pictures."""

from __future__ import annotations

import base64
import html
import pathlib


class Figures(dict[str, pathlib.Path]):
    """The figures of a run or a study: paths of PNG files by name."""

    @classmethod
    def of(cls, folder: pathlib.Path) -> Figures:
        """The figures in a folder's `figures/`, sorted by name."""
        return cls({path.stem: path for path in sorted((folder / "figures").glob("*.png"))})

    def _repr_html_(self) -> str:
        """All of them, each under its name."""
        return "".join(f"<h4>{html.escape(name)}</h4>{as_html(path)}" for name, path in self.items())


def as_html(path: pathlib.Path) -> str:
    """A picture as an HTML element that needs no other file, as large as it is on paper: 96 pixels an inch."""
    from PIL import Image

    with Image.open(path) as picture:
        width = 96 * picture.width / picture.info.get("dpi", (96, 96))[0]
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    style = f"width:{width:.0f}px;max-width:100%"
    return f'<img style="{style}" alt="{html.escape(path.stem)}" src="data:image/png;base64,{encoded}">'
