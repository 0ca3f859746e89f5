"""Configs: what is loaded is checked, what is mistyped is named, what no code reads does not exist."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import jax.numpy as jnp
import pytest

from configs import base
from configs.footprints import baseline
from fpclass.config import differences, flatten
from fpclass.errors import ConfigError
from fpclass.experiment import (
    AFTER_TRAINING,
    CHOICES,
    check,
    from_json,
    load_config,
    load_configs,
    needs_selection,
    override,
)
from fpclass.experiment.unlabelled import mark_of
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.optim import learning_rate, make_optimizer

BASELINE = "configs/footprints/baseline.py"


def fails(*overrides: str, path: str = BASELINE) -> str:
    """The one line that loading ends in."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


def changed(*overrides: str) -> dict[str, object]:
    return {key: new for key, (_, new) in differences(baseline.get_config(), load_config(BASELINE, overrides)).items()}


def write_config(folder: pathlib.Path, text: str) -> str:
    file = folder / "mine.py"
    file.write_text(text)
    return str(file)


def test_without_overrides_the_file_is_the_config() -> None:
    config = load_config(BASELINE)
    assert flatten(config) == flatten(baseline.get_config())
    assert config.is_locked


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["--config.optim.learning_rate=3e-4"], {"optim.learning_rate": 3e-4}),
        (["--config.optim.learning_rate", "3e-4"], {"optim.learning_rate": 3e-4}),
        (["-config.seed=7"], {"seed": 7}),
        (["--config.optim.learning_rate=1"], {"optim.learning_rate": 1.0}),
        (["--config.data.image_size=(60,40)"], {"data.image_size": (60, 40)}),
        (["--config.data.image_size=60,40", "--config.seed=3"], {"data.image_size": (60, 40), "seed": 3}),
        (["--config.data.root=/some where/with=signs"], {"data.root": "/some where/with=signs"}),
        (
            ["--config.augment.max_rotation_deg=9", "--config.augment.fill_value", "-1.0"],
            {"augment.max_rotation_deg": 9.0, "augment.fill_value": -1.0},
        ),
        (["--config.data.image_size=60,40", "--config.data.image_size", "24,20"], {"data.image_size": (24, 20)}),
        (
            ["--config.data.classes=1", "--config.seed=3", "--config.data.classes=2,3"],
            {"data.classes": (2, 3), "seed": 3},
        ),
        (["--config.model.dense_features=()"], {"model.dense_features": ()}),
        (["--config.model.dense_features=7", "--config.model.dense_features", "()"], {"model.dense_features": ()}),
        (["--config.model.dense_features=()", "--config.model.dense_features=(7,8)"], {"model.dense_features": (7, 8)}),
        (["--config.model.batch_norm=True"], {"model.batch_norm": True}),
        (["--config.model.batch_norm"], {"model.batch_norm": True}),
        (["--noconfig.split.grouped"], {"split.grouped": False}),
        (["--config.model.dropout_rate=0.1", "--config.model.dropout_rate=0.2"], {"model.dropout_rate": 0.2}),
    ],
)
def test_overrides_change_their_key_and_nothing_else(overrides: list[str], expected: dict[str, object]) -> None:
    assert changed(*overrides) == expected
    assert isinstance(changed(*overrides).popitem()[1], type(expected.popitem()[1]))


def test_a_value_in_two_parts_is_not_lost_for_booleans() -> None:
    """absl takes no second part for a boolean: `--config.split.grouped False` would mean True."""
    message = fails("--config.split.grouped", "False")
    assert "unexpected argument 'False'; values are given as --config.KEY=VALUE" in message


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--config.optim.momentun=1", "--config.optim.momentun: no such key, did you mean optim.momentum?"),
        ("--config.train.learning_rate=1e-3", "no such key, did you mean optim.learning_rate?"),
        ("--config.dropout_rate=0.5", "no such key, did you mean model.dropout_rate?"),
        ("-config.sede=1", "--config.sede: no such key, did you mean seed?"),
        ("--noconfig.model.batchnorm", "--config.model.batchnorm: no such key, did you mean model.batch_norm?"),
        ("--config.zzz=1", "--config.zzz: no such key; configs/base.py"),
        ("--learning_rate=1e-3", "'learning_rate'"),
        ("stray", "unexpected argument 'stray'"),
        ("--config=another.py", "--config=another.py: one config only"),
        ("--config.data.root", "--config.data.root"),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_may_be_meant(argument: str, said: str) -> None:
    assert said in fails(argument)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.learning_rate", "fast"),
        ("optim.learning_rate", ""),
        ("train.num_epochs", "1.5"),
        ("model.batch_norm", "perhaps"),
        ("data.image_size", "(1,2"),
        ("model", "5"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_key(key: str, value: str) -> None:
    message = fails(f"--config.{key}={value}")
    assert key in message
    assert value in message
    assert "configs/base.py" in message


OUT_OF_RANGE = {
    **dict.fromkeys(CHOICES, ("nothing of the kind",)),
    "seed": ("-1", "4294967296"),
    "data.class_names": ("('a','a')", "('a',)", "('a','b','c')", "('a','')", "(1,2)"),
    "data.image_size": ("(60,)", "(60,40,3)", "(0,40)", "(-60,40)", "(60.5,40)", "('a','b')"),
    "data.channels": ("0", "2", "4"),
    "data.mean": ("nan", "(0.1,0.2)", "(0.1,0.2,0.3)"),
    "data.std": ("0", "-1", "inf"),
    "split.validation_fraction": ("0", "1", "-0.1", "1.5", "nan"),
    "split.num_folds": ("1", "-2"),
    "split.fold": ("1", "-1"),
    "split.selection_fraction": ("0", "1"),
    "data.pad_value": ("-1", "256"),
    "augment.scale": ("(0.5,)", "(1.2,0.8)", "(0,1)"),
    "augment.elastic_alpha_px": ("-1",),
    "augment.elastic_sigma_px": ("0",),
    "augment.mixup_alpha": ("-1",),
    "augment.cutmix_alpha": ("-0.1",),
    "model.squeeze_excitation": ("-1",),
    "train.ema_decay": ("1", "-0.1"),
    "train.num_devices": ("-1",),
    "predict.shift_px": ("-1", "80"),
    "study.margin": ("-0.1",),
    "study.max_risk": ("-0.1", "2"),
    "study.miss_rate": ("0", "1"),
    "study.risk_confidence": ("0", "1"),
    "study.sets": ("mondrian",),
    "hardware.memory_gb": ("-1",),
    "augment.flip_probability": ("-0.1", "1.5", "nan"),
    "augment.brightness": ("-0.1", "inf"),
    "augment.fill_value": ("nan",),
    "augment.erasing_area": ("(0.1,'b')", "(0.1,1e999)"),
    "data.synthetic.image_size": ("tall",),
    "model.conv_features": ("()", "(6,0)", "(6,1.5)"),
    "model.dense_features": ("(0,)", "('a',)"),
    "model.dropout_rate": ("-0.1", "1"),
    "optim.learning_rate": ("0", "-1", "nan", "inf"),
    "optim.momentum": ("-0.1", "1"),
    "optim.weight_decay": ("-1",),
    "optim.gradient_clip_norm": ("-1",),
    "optim.warmup_epochs": ("-1", "3"),
    "optim.plateau_factor": ("0", "1"),
    "optim.plateau_patience": ("0",),
    "train.batch_size": ("0",),
    "train.num_epochs": ("0",),
    "train.label_smoothing": ("-0.1", "1"),
    "train.patience": ("0",),
    "train.eval_every_epochs": ("0",),
    "train.checkpoint_seconds": ("-1",),
    "evaluate.num_resamples": ("-1", "100001", "1000000000"),
    "evaluate.confidence": ("0.5", "1"),
    "explain.num_images": ("0",),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OUT_OF_RANGE.items() for value in values])
def test_a_value_out_of_range_is_named_with_its_key_and_the_range(key: str, value: str) -> None:
    message = fails(f"--config.{key}={value}")
    assert message.startswith(f"config.{key} is ")
    assert "expected" in message or "; give " in message


def test_what_may_be_chosen_is_listed() -> None:
    names = fails("--config.optim.name=adagrad")
    assert names == "config.optim.name is 'adagrad': expected adam, adamw, sgd or rmsprop"
    schedules = fails("--config.optim.schedule=steps")
    assert schedules == "config.optim.schedule is 'steps': expected constant, cosine, linear or plateau"
    assert "expected accuracy, loss or macro_f1" in fails("--config.train.selection_metric=auc")
    assert "expected none, restore_best or patience" in fails("--config.train.early_stopping=maybe")


def choices_in_comments() -> dict[str, tuple[str, ...]]:
    """The lists `a | b | c` in the comments of configs/base.py, by key; what stands in brackets explains a choice."""
    listed: dict[str, str] = {}
    key = ""
    for line in pathlib.Path(base.__file__).read_text(encoding="utf-8").splitlines():
        code, _, comment = line.partition("#")
        if assigned := re.match(r"\s*(?:\w+ = )?(\w+)\.(\w+) = ", code):
            key = f"{assigned[1]}.{assigned[2]}"
        listed[key] = f"{listed.get(key, '')} {comment}"
    found = {key: re.search(r"\w+(?: +\| +\w+)+", re.sub(r" \([^)]*\)", "", text)) for key, text in listed.items()}
    return {key: tuple(re.split(r" +\| +", match[0])) for key, match in found.items() if match}


def test_the_choices_that_a_user_reads_are_those_that_are_checked() -> None:
    assert choices_in_comments() == CHOICES


READ_WITH = {
    "split.selection": "train.early_stopping=patience",
    "augment.fill_mode": "augment.max_rotation_deg=5",
    "augment.interpolation": "augment.max_rotation_deg=5",
    "train.selection_metric": "train.early_stopping=patience",
    "submit.threshold_for": "study.cost=((0,1),(5,0))",
    "unlabelled.self_training": "model.head=probe",
    "model.probe_pooling": "model.head=probe",
}
"""Other keys with which these are read."""


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in CHOICES.items() for value in values])
def test_every_choice_can_be_made(key: str, value: str) -> None:
    more = [f"--config.{READ_WITH[key]}"] if key in READ_WITH else []
    (config,) = load_configs([BASELINE], [f"--config.{key}={value}", *more])
    assert flatten(config)[key] == value


def test_every_optimiser_and_schedule_can_be_built() -> None:
    for name in CHOICES["optim.name"]:
        make_optimizer(load_config(BASELINE, [f"--config.optim.name={name}"]).optim)
    configs = {name: load_config(BASELINE, [f"--config.optim.schedule={name}"]) for name in CHOICES["optim.schedule"]}
    rates = {
        name: float(learning_rate(config.optim, Hyperparameters.of(config), jnp.float32(25)))
        for name, config in configs.items()
    }
    assert rates["cosine"] == pytest.approx(rates["linear"]) == pytest.approx(rates["constant"] / 2)
    assert rates["plateau"] == rates["constant"]


def test_values_at_the_edge_of_their_range_are_fine() -> None:
    changed("--config.train.label_smoothing=0", "--config.evaluate.num_resamples=0", "--config.model.dense_features=()")
    changed("--config.split.num_folds=2", "--config.split.fold=1", "--config.seed=4294967295")
    changed("--config.optim.schedule=cosine", "--config.optim.warmup_epochs=49.5")


def test_keys_that_depend_on_each_other() -> None:
    assert "config.split.fold is 5: expected in [0, 4]" in fails("--config.split.num_folds=5", "--config.split.fold=5")
    too_long = fails("--config.optim.schedule=cosine", "--config.optim.warmup_epochs=50")
    assert "config.optim.warmup_epochs is 50.0: expected in [0, train.num_epochs)" in too_long


def test_a_missing_file_is_named_with_the_one_that_may_be_meant() -> None:
    assert fails(path="nowhere.py").startswith("--config=nowhere.py: no such file")
    message = fails(path="configs/footprints/exp04_early_stoping_dropout.py")
    assert "did you mean configs/footprints/exp04_early_stopping_dropout.py?" in message
    assert "no such file" in fails(path="")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filename,label\na,b\n", "NameError"),
        ("this is no Python\n", "SyntaxError"),
        ("\0\xff", "no config to load ("),  # Python 3.11.2 calls it a ValueError, later ones a SyntaxError
        ("learning_rate = 3\n", "get_config"),
        ("def get_config():\n    return {'seed': 3}\n", "gave a dict, expected a ConfigDict"),
        ("def get_config():\n    raise OSError('two\\nlines')\n", "OSError: two lines"),
        ("import no_such_module\n", "no_such_module"),
    ],
)
def test_a_file_that_is_not_a_config_is_named(tmp_path: pathlib.Path, text: str, said: str) -> None:
    path = write_config(tmp_path, text)
    message = fails(path=path)
    assert message.startswith(path)
    assert said in message


FROM_BASELINE = "from configs.footprints import baseline\n\ndef get_config():\n    config = baseline.get_config()\n"


def test_a_config_file_of_ones_own_is_checked_like_a_command_line(tmp_path: pathlib.Path) -> None:
    good = write_config(tmp_path, FROM_BASELINE + "    config.seed = 12\n    return config\n")
    assert load_config(good, ["--config.train.num_epochs=2"]).seed == 12
    unknown = write_config(tmp_path, FROM_BASELINE + "    config.modle = 12\n    return config\n")
    assert "modle" in fails(path=unknown)
    assert len(fails(path=unknown)) < 250, "the whole config is printed"
    typed = write_config(tmp_path, FROM_BASELINE + "    config.seed = 'twelve'\n    return config\n")
    assert "seed" in fails(path=typed)
    ranged = write_config(tmp_path, FROM_BASELINE + "    config.train.batch_size = 0\n    return config\n")
    assert "config.train.batch_size is 0" in fails(path=ranged)


def test_a_config_that_does_not_start_from_base_has_to_have_its_keys(tmp_path: pathlib.Path) -> None:
    unlocked = "    with config.unlocked():\n        "
    extra = write_config(tmp_path, FROM_BASELINE + unlocked + "config.model.depth = 3\n    return config\n")
    assert "no such key model.depth" in fails(path=extra)
    fewer = write_config(tmp_path, FROM_BASELINE + unlocked + "del config.train.patience\n    return config\n")
    assert "key train.patience is missing" in fails(path=fewer)
    other_type = unlocked + "del config.seed\n        config.seed = 'x'\n    return config\n"
    assert "seed is 'x', expected a value of type int" in fails(path=write_config(tmp_path, FROM_BASELINE + other_type))
    nothing = write_config(tmp_path, FROM_BASELINE + "    config.data.root = None\n    return config\n")
    assert "data.root is None, expected a value of type str" in fails(path=nothing)


def test_config_files_are_found_from_any_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(BASELINE).name == "baseline"
    # One's own file of the same name comes first.
    mine = tmp_path / BASELINE
    mine.parent.mkdir(parents=True)
    shutil.copy(baseline.__file__, mine)
    mine.write_text(mine.read_text().replace('"baseline"', '"mine"'))
    assert load_config(BASELINE).name == "mine"


def test_a_relative_path_to_ones_own_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, FROM_BASELINE + "    config.name = 'mine'\n    return config\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("mine.py").name == "mine"


def test_json_round_trip_keeps_every_value_and_its_type() -> None:
    config = load_config(BASELINE, ["--config.data.image_size=60,40", "--config.optim.learning_rate=1"])
    again = from_json(json.loads(json.dumps(config.to_dict())), "config.json")
    assert differences(config, again) == {}
    was, now = flatten(config), flatten(again)
    assert {k: type(v) for k, v in was.items()} == {k: type(v) for k, v in now.items()}
    assert now["data.image_size"] == (60, 40)
    assert again.is_locked


def test_a_config_json_of_another_version_is_refused() -> None:
    values = baseline.get_config().to_dict()
    with pytest.raises(
        ConfigError, match=r"^config\.json: no such key model\.depth.* it was written by fpclass 0\.1\.0"
    ):
        from_json({**values, "model": {**values["model"], "depth": 3}}, "config.json")
    with pytest.raises(ConfigError, match=r"key seed is missing; it was written by fpclass 0\.1\.0"):
        from_json({k: v for k, v in values.items() if k != "seed"}, "config.json")
    with pytest.raises(ConfigError, match=r"seed is 'x', expected a value of type int"):
        from_json({**values, "seed": "x"}, "config.json")


def test_after_training_only_what_does_not_touch_the_training_can_change() -> None:
    of_experiment, with_own_network = baseline.get_config(), baseline.get_config()
    with_own_network.model.name = "nets:build"
    for key, value in flatten(of_experiment).items():
        config = with_own_network if key == "code_folders" else of_experiment
        is_allowed = key.startswith(AFTER_TRAINING)
        text = {"True": "False", "False": "True"}.get(str(value))
        choice = {
            "study.metric": "brier",
            "study.calibration": "vector",
            "study.sets": "class",
            "hardware.together": "vmap",
            "submit.threshold_for": "f1",
            "data.sha256": "0" * 64,
            "study.cost": "((0,1),(5,0))",
            "data.class_names": "('woman','man')",
            "evaluate.subgroups": "('hand',)",
            "code_folders": "('/modules',)",
            "predict.pool": "mean",
        }
        other = {str: "other", float: "0.75", tuple: "(2,3)"}
        new = choice.get(key) or text or other.get(type(value)) or str(value + 1)
        if is_allowed:
            is_study = key != "submit.refit"
            assert set(differences(config, override(config, [f"--config.{key}={new}"], is_study=is_study))) == {key}
        else:
            with pytest.raises(ConfigError, match=rf"--config\.{key} cannot change after training"):
                override(config, [f"--config.{key}={new}"])
    assert {k for k in flatten(config) if k.startswith(AFTER_TRAINING)} == {
        "code_folders",
        "data.copies",
        "data.exclude",
        "data.max_file_mb",
        "data.class_names",
        "data.memory_gb",
        "data.root",
        "data.sha256",
        "evaluate.num_resamples",
        "evaluate.confidence",
        "evaluate.positive_class",
        "evaluate.prevalence",
        "evaluate.subgroups",
        "predict.pool",
        "explain.num_images",
        "explain.stage",
        "submit.fill_unreadable",
        "submit.refit",
        "submit.threshold_for",
        *(key for key in flatten(config) if key.startswith(("study.", "hardware."))),
    }


def test_override_leaves_the_config_it_was_given_alone() -> None:
    config = baseline.get_config()
    override(config, ["--config.explain.num_images=3"])
    assert config.explain.num_images == 5


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--config.explain.num_image=3", "did you mean explain.num_images?"),
        ("--config.evalute.confidence=0.9", "did you mean evaluate.confidence?"),
        ("--noconfig.split.grouped", "--config.split.grouped cannot change after training"),
        ("--config.explain.num_images=many", "config.explain.num_images=many"),
        ("--config.explain.num_images=0", "config.explain.num_images is 0: expected at least 1"),
        ("--config.model=5", "config.model=5"),
        ("stray", "unexpected argument 'stray'"),
        ("--stray", "'stray'"),
        ("--config=other.py", "a run folder has its own"),
    ],
)
def test_a_wrong_override_of_a_run_is_one_line(argument: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(baseline.get_config(), [argument])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_when_images_are_set_aside_for_choosing() -> None:
    assert not needs_selection(load_config(BASELINE))
    assert needs_selection(load_config(BASELINE, ["--config.train.early_stopping=restore_best"]))
    assert needs_selection(load_config(BASELINE, ["--config.train.early_stopping=patience"]))
    assert needs_selection(load_config(BASELINE, ["--config.optim.schedule=plateau"]))
    assert not needs_selection(load_config(BASELINE, ["--config.optim.schedule=cosine"]))


def test_base_passes_its_own_check() -> None:
    assert check(base.get_config()).is_locked


def test_what_learns_from_rows_to_predict_says_from_what() -> None:
    pretrained, both = ["--config.unlabelled.pretrain_epochs=3"], "--config.unlabelled.self_training=images"
    blocks = ["--config.model.name=blocks", "--config.model.head=probe"]
    given = ([], pretrained, [both], [*pretrained, both])
    configs = [load_config("configs/base.py", [*blocks, *more]) for more in given]
    marks = [mark_of(config, are_there=True) for config in configs]
    assert marks[0] == ""
    assert "learns from the pixels of rows to predict, of which" in marks[1]
    assert "learns from labels that it makes up for some rows to predict, of which" in marks[2]
    assert "pixels of rows to predict and from labels that it makes up for some of them, of which" in marks[3]
    assert [mark_of(config, are_there=False) for config in configs] == [""] * 4


def test_pretraining_is_in_single_precision() -> None:
    given = ["--config.unlabelled.pretrain_epochs=3", "--config.model.compute_dtype=bfloat16"]
    with pytest.raises(ConfigError, match="and 0 with"):
        load_config("configs/base.py", given)
