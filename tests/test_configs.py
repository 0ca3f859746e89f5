"""The experiments: each is its parent plus the one idea that it declares, and says how to run it."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
from types import ModuleType
from typing import Any

import pytest

import configs
from configs import base, demo
from configs.footprints import baseline
from fpclass.config import config_files, differences, flatten
from fpclass.experiment import decided_by_weights, load_config
from fpclass.models.build import build_model
from fpclass.train.finetune import make_plan

HOME = pathlib.Path(configs.__file__).parent
FILES = sorted(HOME.parent / file for file in config_files())
FOOTPRINTS = sorted(file for file in (HOME / "footprints").glob("*.py") if file.name != "__init__.py")
PRETRAINED = {"resnet18": 0.762, "alexnet": 0.756, "efficientnet_b0": 0.720}
"""Accuracy that the reference reports of its fine-tuned networks."""
MODERN = ("convnext_tiny", "swin_t", "vit_b_16")
"""Networks that the reference names, and did not try."""
EXPERIMENTAL = [file for file in FOOTPRINTS if file.stem.removesuffix("_proper") not in (*PRETRAINED, *MODERN)]

REFERENCE: dict[str, tuple[float, float, dict[str, Any]]] = {
    # experiment: reported accuracy, F1 of class 1, and what it changes of the baseline
    "baseline": (0.760, 0.737, {}),
    "exp01_dropout": (0.760, 0.715, {"model.dropout_rate": 0.5}),
    "exp02_early_stopping": (0.770, 0.721, {"train.early_stopping": "restore_best"}),
    "exp03_batch_norm": (0.702, 0.629, {"model.batch_norm": True}),
    "exp04_early_stopping_dropout": (
        0.829,
        0.816,
        {"model.dropout_rate": 0.5, "train.early_stopping": "restore_best"},
    ),
    "exp05_random_erasing": (0.760, 0.701, {"augment.erasing_probability": 0.4}),
    "exp06_random_erasing_dropout": (
        0.803,
        0.775,
        {"augment.erasing_probability": 0.4, "model.dropout_rate": 0.5},
    ),
    "exp07_random_erasing_batch_norm": (
        0.779,
        0.740,
        {"augment.erasing_probability": 0.4, "model.batch_norm": True},
    ),
    "exp08_random_erasing_batch_norm_early_stopping": (
        0.775,
        0.766,
        {"augment.erasing_probability": 0.4, "model.batch_norm": True, "train.early_stopping": "restore_best"},
    ),
    "exp09_rotation_batch_norm_early_stopping": (
        0.822,
        0.806,
        {"augment.max_rotation_deg": 10.0, "model.batch_norm": True, "train.early_stopping": "restore_best"},
    ),
    "exp10_small_head": (
        0.777,
        0.748,
        {"model.dense_features": (64, 32), "train.early_stopping": "restore_best"},
    ),
}

OUR_OWN: dict[str, dict[str, Any]] = {
    # experiment: what it changes of the baseline; nobody has reported a number for it
    "exp11_adamw_cosine": {
        "optim.name": "adamw",
        "optim.schedule": "cosine",
        "optim.warmup_epochs": 3.0,
        "optim.weight_decay": 0.05,
    },
    "exp12_ema": {"train.ema_decay": 0.995},
    "exp13_mixup": {"augment.mixup_alpha": 0.2},
    "exp14_cutmix": {"augment.cutmix_alpha": 1.0},
    "exp15_label_smoothing": {"train.label_smoothing": 0.1},
    "exp16_large_input": {"data.image_size": (240, 160)},
    "exp17_wide": {"model.conv_features": (24, 64)},
    "exp18_elastic": {"augment.elastic_alpha_px": 1.5, "augment.fill_value": 1.0},
    "exp19_scale": {"augment.fill_value": 1.0, "augment.scale": (0.9, 1.1)},
    "exp20_gap_head": {"model.head": "gap"},
    "exp21_squeeze_excitation": {"model.squeeze_excitation": 2},
    "exp22_keep_aspect_ratio": {"data.resize": "pad"},
    "exp23_test_time_augmentation": {"predict.flip": True, "predict.shift_px": 2},
    "exp24_all_useful": {
        "augment.erasing_probability": 0.4,
        "model.dropout_rate": 0.5,
        "optim.name": "adamw",
        "optim.schedule": "cosine",
        "optim.warmup_epochs": 3.0,
        "optim.weight_decay": 0.05,
        "predict.flip": True,
        "train.ema_decay": 0.995,
        "train.label_smoothing": 0.05,
    },
    "exp25_crop": {"data.crop": "foreground"},
    "exp26_clahe": {"data.equalise": "clahe"},
}

BASELINE = {
    # What the reference's baseline is, value by value, wherever base.py may be turned to.
    "data.image_size": (120, 80),
    "data.channels": 1,
    "data.resize": "stretch",
    "data.crop": "none",
    "data.equalise": "none",
    "data.mean": (0.5,),
    "data.std": (0.5,),
    "data.label_column": "SEX",
    "data.group_column": "ID",
    "data.classes": ("0", "1"),
    "split.validation_fraction": 0.2,
    "split.grouped": True,
    "split.selection": "inner",
    "augment.flip_probability": 0.5,
    "augment.brightness": 0.2,
    "augment.contrast": 0.2,
    "augment.max_rotation_deg": 0.0,
    "augment.erasing_probability": 0.0,
    "augment.erasing_area": (0.02, 0.33),
    "augment.erasing_aspect": (0.3, 3.3),
    "augment.erased_value": 0.0,
    "augment.fill_value": 0.0,
    "augment.scale": (1.0, 1.0),
    "augment.elastic_alpha_px": 0.0,
    "augment.mixup_alpha": 0.0,
    "augment.cutmix_alpha": 0.0,
    "model.conv_features": (6, 16),
    "model.dense_features": (120, 84),
    "model.dropout_rate": 0.0,
    "model.batch_norm": False,
    "model.head": "own",
    "model.squeeze_excitation": 0,
    "optim.name": "adam",
    "optim.learning_rate": 1e-3,
    "optim.schedule": "constant",
    "optim.weight_decay": 0.0,
    "train.batch_size": 32,
    "train.num_epochs": 50,
    "train.label_smoothing": 0.0,
    "train.class_weights": "none",
    "train.early_stopping": "none",
    "train.eval_every_epochs": 5,
    "train.selection_metric": "accuracy",
    "train.ema_decay": 0.0,
    "predict.flip": False,
    "predict.shift_px": 0,
}


def module_of(file: pathlib.Path) -> ModuleType:
    return importlib.import_module(".".join(file.relative_to(HOME.parent).with_suffix("").parts))


def parent_of(file: pathlib.Path) -> ModuleType:
    """The module whose `get_config()` a config file starts from, as its source says."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr == "get_config" and isinstance(node.value, ast.Name):
            return getattr(module_of(file), node.value.id)
    raise AssertionError(f"{file} starts from no other config")


def names(files: list[pathlib.Path]) -> list[str]:
    return [str(file.relative_to(HOME)) for file in files]


EXPERIMENTS = [file for file in FILES if file not in (HOME / "base.py", HOME / "footprints" / "baseline.py")]


@pytest.mark.parametrize("file", EXPERIMENTS, ids=names(EXPERIMENTS))
def test_an_experiment_is_its_parent_plus_what_it_declares(file: pathlib.Path) -> None:
    module, parent = module_of(file), parent_of(file)
    assert set(differences(parent.get_config(), module.get_config())) == {"name", *module.CHANGES}
    assert list(module.CHANGES) == sorted(set(module.CHANGES))


def test_footprint_experiments_start_from_the_baseline() -> None:
    for file in FOOTPRINTS:
        assert parent_of(file) is (base if file.stem == "baseline" else baseline), file


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_pretrained_experiments_are_those_of_the_reference_and_one_with_care_each(name: str) -> None:
    reference, proper = (load_config(f"configs/footprints/{name}{end}.py") for end in ("", "_proper"))
    for config in (reference, proper):
        assert config.model.name == config.model.weights == name
        assert config.finetune.freeze_before == "head"
    assert (reference.finetune.new_stem, reference.finetune.batch_norm) == (True, "train_all")
    assert (proper.finetune.new_stem, proper.finetune.batch_norm) == (False, "auto")
    assert not reference.finetune.unfreeze
    assert len(proper.finetune.unfreeze) == 2
    assert f"accuracy {PRETRAINED[name]:.3f}" in (module_of(HOME / "footprints" / f"{name}.py").__doc__ or "")
    for config in (reference, proper):
        build_model(config.model, 2, config.data.image_size)
        make_plan(build_model(config.model, 2, config.data.image_size), config)


@pytest.mark.parametrize("name", MODERN)
def test_networks_that_the_reference_names_are_fine_tuned_with_the_same_care(name: str) -> None:
    care, config = (load_config(f"configs/footprints/{file}.py") for file in ("resnet18_proper", name))
    assert config.model.name == name
    found = {key for key in differences(care, config) if not key.startswith("model.")}
    size = {"data.image_size"} if name == "vit_b_16" else set()
    assert found == {"name", "finetune.unfreeze"} | size
    assert [epochs for _, epochs in config.finetune.unfreeze] == [epochs for _, epochs in care.finetune.unfreeze]
    make_plan(build_model(config.model, 2, config.data.image_size), config)


@pytest.mark.parametrize("file", EXPERIMENTAL, ids=names(EXPERIMENTAL))
def test_an_experiment_says_what_it_expects_and_how_to_run_it(file: pathlib.Path) -> None:
    module = module_of(file)
    lines = (module.__doc__ or "").splitlines()
    assert re.match(r"(Footprints, baseline|Experiment \d+): .+\.$", lines[0])
    hypothesis, reference, run, *more = (line for line in lines[1:] if line)
    assert re.match(r"Hypothesis: .+\.$", hypothesis)
    if file.stem in OUR_OWN:
        assert reference == "Reference: none, our own."
    else:
        accuracy, f1, _ = REFERENCE[file.stem]
        assert reference.startswith(f"Reference: accuracy {accuracy:.3f}, F1 {f1:.3f}")
        assert "people shared between training and validation" in reference
    number = re.match(r"Experiment (\d+)", lines[0])
    assert file.stem.startswith(f"exp{int(number[1]):02d}_" if number else "baseline")
    command = " ".join([run.removesuffix("\\"), *more]).split()
    assert command == [
        *("Run:", "python", "launch.py", "train"),
        f"--config=configs/footprints/{file.name}",
        "--config.data.root=DIR",
    ]


def test_the_run_line_of_the_demo() -> None:
    assert "Run: python launch.py\n" in (demo.__doc__ or "")


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_a_config_is_called_like_its_file_and_passes_every_check(file: pathlib.Path) -> None:
    config = load_config(str(file))
    assert config.name == file.stem
    decided = decided_by_weights(config) if config.model.weights else {}
    assert flatten(config) == flatten(module_of(file).get_config()) | decided


def test_names_are_unique() -> None:
    found = [load_config(str(file)).name for file in FILES]
    assert len(found) == len(set(found))


def test_get_config_gives_a_fresh_config_each_time() -> None:
    """A command that changes its config must not change the next one's."""
    first = baseline.get_config()
    first.seed = 99
    assert baseline.get_config().seed == 0


def test_the_experiments_are_those_of_the_reference_and_our_own() -> None:
    assert {file.stem for file in FOOTPRINTS} >= {*REFERENCE, *OUR_OWN}
    was = baseline.get_config()
    expected = {name: changes for name, (_, _, changes) in REFERENCE.items()} | OUR_OWN
    for name, changes in expected.items():
        config = load_config(f"configs/footprints/{name}.py")
        found = {key: new for key, (_, new) in differences(was, config).items() if key != "name"}
        assert found == changes, name


def test_the_baseline_is_the_one_of_the_reference() -> None:
    values = flatten(baseline.get_config())
    assert {key: values[key] for key in BASELINE} == BASELINE


def test_the_demo_is_the_final_model_on_drawn_data() -> None:
    final = load_config("configs/footprints/exp04_early_stopping_dropout.py")
    found = {key: new for key, (_, new) in differences(final, demo.get_config()).items()}
    assert found == {"name": "demo", "data.source": "synthetic"}
