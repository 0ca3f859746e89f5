"""What the tests share: small data sets that they draw themselves, and caches of their own."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest
from PIL import Image

LONG = ("study", "cli", "streaming", "recipes", "task", "finetune", "members", "parallel", "backbones", "engine")
"""Files that take longest, longest first: they are begun first, so that no worker is left with one at the end."""

QUICKLY_COMPILED = ("models", "augment", "explain", "data", "eda", "test_switches.py")
"""Folders and files whose tests do not compare the bits of two programs."""

TO_THE_BIT = ("test_blocks.py", "test_parity.py")
"""Files in these folders whose tests do."""


def pytest_configure() -> None:
    """Most tests wait for the compiler, whose programs run for milliseconds: half the time without optimising."""
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order of `LONG`, then the others as they come."""
    order = {f"test_{name}.py": i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of this test run that all of its workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(autouse=True, scope="session")
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Programs that several tests need are compiled by the first of them."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(shared_folder(tmp_path_factory) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True, scope="module")
def compile_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fused operations are compiled the older way, in two thirds of the time.

    Not where the bits of two programs are compared: the older way rounds differently in different programs. And only
    with versions of JAX that are known to have the option, which is not public.
    """
    from jax._src import compiler

    original = compiler.get_compile_options

    def quick(*args: Any, **options: Any) -> Any:
        found = original(*args, **options)
        found.env_option_overrides = [*found.env_option_overrides, ("xla_cpu_use_fusion_emitters", False)]
        return found

    parts = request.path.relative_to(pathlib.Path(__file__).parent).parts
    is_known = importlib.metadata.version("jaxlib").startswith("0.10.")
    with pytest.MonkeyPatch.context() as patch:
        is_quick = {parts[0], parts[-1]} & set(QUICKLY_COMPILED) and parts[-1] not in (
            "test_blocks.py",
            "test_parity.py",
        )
        if is_known and is_quick:
            patch.setattr(compiler, "get_compile_options", quick)
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache; all of them share one, so that programs compile once."""
    monkeypatch.setenv("FPCLASS_CACHE", str(shared_folder(tmp_path_factory) / "fpclass-cache"))


def draw_blobs(
    folder: pathlib.Path, num_people: int = 16, num_predict: int = 6, size: tuple[int, int] = (60, 40)
) -> None:
    """Writes a data set in the competition's format with classes that a child can tell apart: small and large blobs.

    Two prints per person, left and right; people alternate between the classes; the last people have no label.
    """
    images = folder / "processed" / "processed"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    height, width = size
    y, x = np.mgrid[:height, :width]
    lines = ["filename,ID,SEX"]
    for person in range(num_people + num_predict // 2):
        for foot in range(2):
            sex = person % 2
            radius = (0.15 + 0.18 * sex) * height * rng.uniform(0.9, 1.1)
            centre = (height / 2 + rng.normal(0, 2), width / 2 + rng.normal(0, 2))
            ink = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            grey = np.where(ink, rng.integers(0, 60, size), 255 - rng.integers(0, 5, size)).astype(np.uint8)
            name = f"img_{2 * person + foot:04d}"
            Image.fromarray(grey).convert("RGB").save(images / f"{name}.png")
            label = f"{sex}.0" if person < num_people else ""
            lines.append(f"{name},{1000 + person},{label}")
    (folder / "all_labels.csv").write_text("\n".join(lines) + "\n")


def draw_noisy_blobs(folder: pathlib.Path, num_people: int) -> None:
    """`draw_blobs` where every sixth person has the other's label: nobody can predict all of them right."""
    draw_blobs(folder, num_people=num_people)
    table = pd.read_csv(folder / "all_labels.csv", dtype=str, keep_default_na=False)
    is_wrong = ((table["ID"].astype(int) - 1000) % 6 == 0) & (table["SEX"] != "")
    table.loc[is_wrong, "SEX"] = table.loc[is_wrong, "SEX"].map({"0.0": "1.0", "1.0": "0.0"})
    table.to_csv(folder / "all_labels.csv", index=False)


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A data set of 32 labelled and 6 unlabelled prints; read only."""
    folder = tmp_path_factory.mktemp("blobs")
    draw_blobs(folder)
    return folder


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, blobs: pathlib.Path) -> pathlib.Path:
    """The folder of a finished study of two configs, three folds and two seeds; read only.

    Trained once for all workers of a test run.
    """
    from test_study import study_args

    from fpclass import cli

    folder = shared_folder(tmp_path_factory) / "finished-study"
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "checklist.md").is_file():
            assert cli.main(study_args(blobs, folder)) == 0
    return folder
