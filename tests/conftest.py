"""What the tests share: small data sets that they draw themselves, and caches of their own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fpclass.common.compilation import keep_programs

LONG = (
    "backbones", "study", "parallel", "cli", "task", "trained", "streaming", "switches", "members", "recipe_commands",
    "engine", "finetune", "recipes", "people_curve", "study_split", "validate",
)  # fmt: skip
"""Files that take longest, longest first: they are begun first, so that no worker is left with one at the end."""

TO_THE_BIT = ("streaming", "members")
"""Files whose tests compare the bits of two programs: they compile as users do."""
QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""Options of the compiler: operations are fused the older way, in a third of the time, and in one piece."""
AS_USERS_DO = {"xla_cpu_use_fusion_emitters": True}

WHOLE_JOBS = ("api", "experiment", "study", "run", "train", "test_cli.py", "common")
"""Folders and files whose tests run whole commands, of whose figures few are looked at."""


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
def compile_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache; all share one, and compiled programs are kept for the next test run.

    For the whole session: fixtures of modules come before those of tests. The programs are with pytest's own cache
    (`--cache-clear` removes them, no cache provider keeps none), under a key of JAX's that holds the whole program, its
    options and the versions.
    """
    cache = shared_folder(tmp_path_factory) / "fpclass-cache"
    cache.mkdir(exist_ok=True)
    kept = getattr(request.config, "cache", None)
    programs = cache / "compiled"
    if kept is not None:
        with contextlib.suppress(FileExistsError):  # of another worker
            programs.symlink_to(kept.mkdir("compiled"), target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPCLASS_CACHE", str(cache))
        keep_programs(programs)
        yield


@pytest.fixture(autouse=True, scope="session")
def options_of_compiler() -> Iterator[dict[str, bool | int]]:
    """The options that programs are compiled with, from here on `QUICK`: session fixtures compile them as well.

    None with versions of JAX that are not known to have the options, which are not public.
    """
    from jax._src import compiler

    original, options = compiler.get_compile_options, dict(QUICK)
    if not importlib.metadata.version("jaxlib").startswith("0.10."):
        options.clear()

    def get_options(*args: Any, **keywords: Any) -> Any:
        found = original(*args, **keywords)
        found.env_option_overrides = [*found.env_option_overrides, *options.items()]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", get_options)
        yield options


@pytest.fixture(autouse=True, scope="module")
def compile_quickly(request: pytest.FixtureRequest, options_of_compiler: dict[str, bool | int]) -> Iterator[None]:
    """Programs are compiled with the options `QUICK`, also those of other processes that tests start.

    Not where the bits of two programs are compared: the older way rounds differently in different programs.
    """
    import jax

    chosen = AS_USERS_DO if request.path.stem.removeprefix("test_") in TO_THE_BIT else QUICK
    if options_of_compiler and chosen != options_of_compiler:
        jax.clear_caches()  # what another file has compiled the other way, of functions that both call
        options_of_compiler.clear()
        options_of_compiler.update(chosen)
    with pytest.MonkeyPatch.context() as patch:
        if options_of_compiler:
            flags = (f"--{name}={str(value).lower()}" for name, value in options_of_compiler.items())
            patch.setenv("XLA_FLAGS", " ".join(flags))
        yield


@pytest.fixture(autouse=True)
def sketch_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of whole jobs are made, but written as empty pages: rendering is a third of the time of such a test.

    Not those of fixtures of modules, which come first, and of tests that are marked `figures`.
    """
    place = request.path.relative_to(pathlib.Path(__file__).parent).parts[0]
    if place not in WHOLE_JOBS or any(request.node.get_closest_marker(name) for name in ("figures", "slow")):
        return
    render = Figure.savefig

    def sketch(figure: Figure, file: Any, **options: Any) -> None:
        render(Figure(figsize=figure.get_size_inches() / 10), file, **options)

    monkeypatch.setattr(Figure, "savefig", sketch)


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
def noisy(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Blobs of 50 people, every sixth of whom has the other's label: nobody can be right about all; read only."""
    folder = tmp_path_factory.mktemp("noisy") / "data"
    draw_noisy_blobs(folder, num_people=50)
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


SMALLEST: dict[str, Any] = {
    "model.conv_features": (8,),
    "train.num_epochs": 6,
    "train.batch_size": 8,
    "evaluate.num_resamples": 20,
    "explain.num_images": 1,
}
"""Keys of a config that make a training from Python take seconds."""


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder per class, of drawn photographs; read only."""
    from drawn_recipes import draw_classes

    folder = tmp_path_factory.mktemp("drawn") / "photos"
    draw_classes(folder, {"cat": 14, "dog": 14})
    return folder


@pytest.fixture(scope="session")
def photo_run(tmp_path_factory: pytest.TempPathFactory, photos: pathlib.Path) -> pathlib.Path:
    """The folder of a run on them, without explanation and submission; read only, trained once for all workers."""
    import fpclass

    folder = shared_folder(tmp_path_factory) / "photo-run"
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "scores.json").is_file():
            fpclass.train(photos, size=(24, 20), workdir=folder, config=SMALLEST, until="evaluate", quiet=True)
    return folder
