"""Every recipe, trained for an epoch on drawn images by the command of its config, and by those of its page."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import shlex
from typing import Any

import pytest
from conftest import draw_blobs
from drawn_recipes import (
    ANIMALS,
    VEHICLES,
    draw_cats_and_dogs,
    draw_classes,
    draw_horses,
    encoded,
    stand_in_weights,
)
from test_tfds_source import prepare_tfds

from fpclass import cli
from fpclass.config import SPACES
from fpclass.experiment import load_config
from fpclass.study.plan import plan_study

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("cats_dogs", "climbing", "footprints", "horses_humans", "transductive", "transfer", "vehicles_animals")
CONFIGS = sorted(file for name in FOLDERS for file in (ROOT / "configs" / name).glob("[!_]*.py"))
PAGES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
PROMISED = ("baseline", "horses_layers2", "pretrained", "probe", "self_trained", "vehicles_model1")
"""The configs that CI trains: from a CSV, from given splits, from a folder, a probe, from rows to predict too."""
SMALL = {"train.batch_size": 8, "evaluate.num_resamples": 20, "explain.num_images": 1, "train.num_devices": 1}
SMALLER = {
    # Flags that make the commands of a page small, by page; all else is as it stands there.
    "cats_dogs": ["--config.data.image_size=(32,32)", "--config.finetune.cache_views=1"],
    "climbing": ["--config.data.image_size=(32,32)", "--config.finetune.cache_views=1"],
    "horses_humans": ["--config.data.image_size=(75,75)"],
    "vehicles_animals": ["--config.model.conv_features=(4,8,8)"],
}
OF_COMMAND = {"study": ["--seeds=1"], "freeze-sweep": ["--folds=2", "--cuts", "head", "block5_conv1"]}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, pathlib.Path]:
    """The data set of every folder of configs."""
    home = tmp_path_factory.mktemp("drawn")
    draw_blobs(home / "footprints")
    draw_blobs(home / "transductive")
    table = home / "transductive" / "all_labels.csv"
    table.write_text(table.read_text().replace("SEX", "label"))
    draw_horses(home / "horses_humans")
    draw_classes(home / "vehicles_animals", dict.fromkeys(sorted(VEHICLES + ANIMALS), 6), "PNG")
    draw_classes(home / "climbing", {"heel hook": 14, "others": 16, "toe hook": 10})
    draw_classes(home / "transfer", {"Cat": 16, "Dog": 16})
    archive = draw_cats_and_dogs(home / "pets")
    return {name: home / name for name in FOLDERS} | {"cats_dogs": archive}


def commands(text: str) -> list[list[str]]:
    """The commands in a text, without what is optional and without remarks."""
    text = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(r"python launch\.py ([a-z].*)", text)
    return [shlex.split(re.sub(r"\[--[^]]*\]", "", line).strip("`"), comments=True) for line in lines]


def of_config(file: pathlib.Path) -> list[str]:
    """The command of a config's own page, its docstring."""
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return commands((importlib.import_module(name).__doc__ or "").partition("Run: ")[2])[0]


def blocks(page: pathlib.Path) -> tuple[str, str]:
    """The text in the code blocks of a page, before and after what came out."""
    before, _, after = page.read_text(encoding="utf-8").partition("## What came out\n")
    first, second = ("\n".join(re.findall(r"```\n(.*?)```", part, flags=re.DOTALL)) for part in (before, after))
    return first, second


def small(file: str) -> list[str]:
    """Flags that make a config small; which of its keys matter is left as it is."""
    config = load_config(file)
    values = SMALL | {"train.num_epochs": 1 + len(config.finetune.unfreeze)}
    if config.finetune.unfreeze:
        steps = tuple((stage, i + 1) for i, (stage, _) in enumerate(config.finetune.unfreeze))
        values["finetune.unfreeze"] = str(steps).replace(" ", "")
    if config.finetune.cache_views:
        values["finetune.cache_views"] = 1
    if config.unlabelled.pretrain_epochs:
        values["unlabelled.pretrain_epochs"] = 1
    if config.optim.warmup_epochs:
        values["optim.warmup_epochs"] = 0.5
    if max(config.data.image_size) > 128:
        side = 75 if config.model.name == "inception_v3" else 48
        values["data.image_size"] = f"({side},{side})"
    if config.model.head == "probe":  # which reads nothing of how others are trained
        values = {key: value for key, value in values.items() if not key.startswith("train.")}
    if config.model.name == "airbench":
        values["model.conv_features"] = "(4,8,8)"
    return [f"--config.{key}={value}" for key, value in values.items()]


def run_dir(workdir: pathlib.Path, config_file: str) -> None:
    """What a finished training leaves behind."""
    config = load_config(config_file)
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["validation"]["accuracy"]["value"] >= 0
    saved = json.loads((workdir / "config.json").read_text())["config"]
    assert saved["model"]["weights"] == config.model.weights
    assert saved["name"] == config.name


def marked(file: pathlib.Path) -> Any:
    """A config with its name, and the mark of when it is tested."""
    mark = pytest.mark.promise if file.stem in PROMISED else pytest.mark.slow
    return pytest.param(file, marks=mark, id=f"{file.parent.name}-{file.stem}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", [marked(file) for file in CONFIGS])
def test_every_config_trains_by_its_own_command(file, drawn, tmp_path, monkeypatch):
    stand_in_weights(monkeypatch)
    monkeypatch.chdir(tmp_path)
    name = str(file.relative_to(ROOT))
    command = [part.replace("DIR", str(drawn[file.parent.name])) for part in of_config(file)]
    if command[0] == "study":  # of a whole folder: this one of it
        command = ["train", f"--config={name}", next(part for part in command if ".root=" in part)]
    assert f"--config={name}" in command
    # Without the maps at the end, whose compilation takes as long as all else; the pages' commands draw them.
    assert cli.main([*command, *small(name), f"--workdir={tmp_path / 'run'}", "--until=evaluate"]) == 0
    run_dir(tmp_path / "run", name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_do_what_it_says(page, drawn, tmp_path, monkeypatch):
    """One after the other, as a reader would: what needs the internet is drawn, what is large is made small."""
    stand_in_weights(monkeypatch)
    monkeypatch.chdir(tmp_path)
    data = drawn[page.stem]
    if page.stem == "climbing":
        (tmp_path / "climbing").symlink_to(data)  # what `collect` would have found
    for command in commands(blocks(page)[0]):
        if command[0] == "collect":
            continue
        if "--config.data.source=tfds" in command:
            command.append(f"--config.data.root={prepared_tfds(tmp_path / 'tfds', page.stem)}")
        is_split = page.stem == "horses_humans" and not any(part.endswith("/train") for part in command)
        folds = ["--folds=2"] * (command[0] == "study" and not is_split)
        command = [re.sub(r"root=(DIR|https:.*)", f"root={data}", part) for part in command]
        command = [part for part in command if ".sha256=" not in part]
        if command[0] in ("train", "study", "freeze-sweep"):
            sizes = [f"--config.{key}={value}" for key, value in (SMALL | {"train.num_epochs": 1}).items()]
            command += [*folds, *OF_COMMAND.get(command[0], []), *sizes, *SMALLER[page.stem]]
            (file,) = [part for part in command if part.startswith("--config=")] or [""]
            if file and load_config(file.removeprefix("--config=")).optim.warmup_epochs:
                command.append("--config.optim.warmup_epochs=0.5")
        assert cli.main(command) == 0, command


def prepared_tfds(folder: pathlib.Path, recipe: str) -> pathlib.Path:
    """The set of a recipe as TFDS prepares it, with drawn images."""
    import tensorflow_datasets as tfds

    name, names = {
        "horses_humans": ("horses_or_humans", ("horses", "humans")),
        "vehicles_animals": ("cifar10", tuple(sorted(VEHICLES + ANIMALS))),
    }[recipe]
    if not folder.is_dir():
        public = tfds.builder(name, data_dir=folder / "empty")
        texts = dict.fromkeys(set(public.info.features) - {"image", "label"}, "x")
        draw = lambda k: encoded(k, k % len(names))
        sizes = {"train": 8 * len(names), "test": 2 * len(names)}
        prepare_tfds(folder, name, version=public.version, names=names, texts=texts, draw=draw, **sizes)
    return folder


@pytest.mark.promise
@pytest.mark.parametrize("recipe", ["horses_humans", pytest.param("vehicles_animals", marks=pytest.mark.slow)])
def test_recipes_that_name_tfds_train_from_it(recipe, tmp_path, monkeypatch, capsys):
    """By the command of the page, which nothing but the size and the place of the drawn set is added to."""
    monkeypatch.chdir(tmp_path)
    page = commands(blocks(ROOT / f"docs/recipes/{recipe}.md")[0])
    (command,) = [found for found in page if "--config.data.source=tfds" in found]
    sizes = small(command[1].removeprefix("--config="))
    sizes += ["--config.model.conv_features=(4,8)", "--config.model.dense_features=(8,)"]
    root = f"--config.data.root={prepared_tfds(tmp_path / 'tfds', recipe)}"
    assert cli.main([*command, root, *sizes, "--until=evaluate", f"--workdir={tmp_path / 'run'}"]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["test"]["num_images"] == {"horses_humans": 4, "vehicles_animals": 20}[recipe]
    assert ("grouped by nothing: tfds" in capsys.readouterr().out) == (recipe == "horses_humans")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_under_what_came_out_can_be_given(page, monkeypatch, tmp_path):
    """Their configs are there, and take these values."""
    monkeypatch.setattr("fpclass.study.plan.require_weights", lambda config: None)
    monkeypatch.setattr("fpclass.study.plan.load_table", lambda *_: None)  # of no data set
    found = commands(blocks(page)[1])
    assert found
    for command in found:
        overrides = [part for part in command if part.startswith("--config.")]
        if command[0] == "train":
            load_config(command[1].removeprefix("--config="), overrides)
            continue
        assert command[0] == "study"
        flags = [part for part in command[1:] if not part.startswith("--config.")]
        files = [part for part in flags if part.endswith(".py")]
        named = (part.removeprefix("--baseline=") for part in flags if part.startswith("--baseline="))
        baseline = next(named, pathlib.Path(files[0]).stem)
        if "efficientnet_lite0" in str(overrides) or "VGG16" in str(overrides):
            overrides = [part for part in overrides if "model." not in part]  # a file of weights, at hand there
        plan = {"num_folds": 3, "num_seeds": 1, "baseline": baseline, "compare_splits": False}
        assert plan_study(tmp_path, files, overrides, **plan).names[0] == baseline


def test_every_folder_of_recipes_is_drawn():
    there = {file.parent.name for file in (ROOT / "configs").glob("*/[!_]*.py")} - {SPACES}
    assert there == set(FOLDERS)
    assert len(CONFIGS) > 60
