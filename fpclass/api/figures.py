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


def as_html(path: pathlib.Path, width: str = "100%") -> str:
    """A picture as an HTML element that needs no other file."""
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img style="max-width:{width}" alt="{html.escape(path.stem)}" src="data:image/png;base64,{encoded}">'
