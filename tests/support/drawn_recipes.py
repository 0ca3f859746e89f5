"""Small drawn data sets in the layouts of the recipes, and stand-ins for the weights that their configs start from."""

from __future__ import annotations

import io
import pathlib
import tarfile
from typing import Any

import numpy as np
import pytest
from backbone_cases import draw_array
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

from fpclass.models.network import HEAD, Network, variable_shapes
from fpclass.models.pretrained import pretrained as loading
from fpclass.models.pretrained import source
from fpclass.models.registry import published

KINDS = ("params", "batch_stats")
VEHICLES = ("airplane", "automobile", "ship", "truck")
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")


def drawn(seed: int, kind: int, size: tuple[int, int] = (40, 48), mode: str = "RGB") -> Image.Image:
    """Noise around a colour by kind, of (height, width); no two are alike."""
    rng = np.random.default_rng((seed, kind))
    colour = np.random.default_rng(kind).uniform(40, 215, 3)
    pixels = Image.fromarray(np.clip(rng.normal(colour, 50, (8, 8, 3)), 0, 255).astype(np.uint8))
    return pixels.resize(size[::-1], Image.Resampling.BILINEAR).convert(mode)


def encoded(seed: int, kind: int, file_format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    drawn(seed, kind, **options).save(stream, file_format)
    return stream.getvalue()


def write(path: pathlib.Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def draw_horses(folder: pathlib.Path) -> None:
    """`train/` and `validation/` of PNGs with an alpha channel, four of each horse and person, as published."""
    for split, prefix, people in (("train", "", 8), ("validation", "val", 2)):
        for kind, name in enumerate(("horse", "human")):
            for k in range(4 * people):
                file = f"{split}/{name}s/{prefix}{name}{k // 4:02d}-{k % 4}.png"
                write(folder / file, encoded(k + 100 * (split == "validation"), kind, mode="RGBA"))


def draw_classes(folder: pathlib.Path, counts: dict[str, int], file_format: str = "JPEG") -> None:
    """A folder per class."""
    for kind, (name, count) in enumerate(counts.items()):
        for k in range(count):
            write(folder / name / f"{name}{k:03d}.{file_format.lower()}", encoded(k, kind, file_format))


def draw_cats_and_dogs(folder: pathlib.Path) -> pathlib.Path:
    """A .tar.gz with a README, empty and broken files among the photographs."""
    draw_classes(folder / "PetImages", {"Cat": 16, "Dog": 16})
    write(folder / "PetImages/Cat/666.jpg", b"")
    write(folder / "PetImages/Dog/11702.jpg", encoded(0, 0, "JPEG")[:200])
    write(folder / "readme.txt", b"where they are from")
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, ".")
    return path


def stand_in_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name of the manifest stands for drawn numbers; nothing is fetched, all else is as with the real ones."""

    def load(weights: str, network: Network, shape: tuple[int, ...], *, new_stem: bool, **_: Any) -> dict[str, Any]:
        entry, _ = source.resolve(weights)
        stem = published(entry.architecture).stages(entry.variant).stem_kernel
        leaves = flatten_dict(dict(variable_shapes(network, shape)))
        left_out = lambda path: path[1] == HEAD or (new_stem and path[1:] == stem)
        kept = {path: leaf for path, leaf in leaves.items() if path[0] in KINDS and not left_out(path)}
        return unflatten_dict({path: draw_array("/".join(path), leaf.shape) for path, leaf in kept.items()})

    monkeypatch.setattr(loading, "load_pretrained", load)
    monkeypatch.setattr(source, "require", lambda weights: None)
    monkeypatch.setattr(source, "digest_of", lambda weights: "0" * 64)
