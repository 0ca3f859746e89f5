"""Keys that are set and not read are refused, with when they are; who switches something off resets no details."""

from __future__ import annotations

import pathlib

import pytest

from configs import base
from fpclass.config import flatten
from fpclass.errors import ConfigError
from fpclass.experiment import from_json, load_config, load_configs, override, to_json
from fpclass.experiment.unread import OF_A_RUN, OF_A_STUDY, READ, find_unread

BASELINE, EXP04 = "configs/footprints/baseline.py", "configs/footprints/exp04_early_stopping_dropout.py"

UNREAD = {
    # key: (a value, what makes the key read, a word of the message)
    "code_folders": ("('/modules',)", "augment.custom=fpclass.augment.warp:flip", "a function of your own"),
    "data.csv": ("labels.csv", "data.source=csv", "data.source=csv"),
    "data.separator": (";", "data.source=csv", "data.source=csv"),
    "data.image_dir": ("images", "data.source=csv", "data.source=csv"),
    "data.group_column": ("person", "data.source=csv", "data.source=csv"),
    "data.label_column": ("sex", "data.source=csv", "not synthetic"),
    "data.tfds_name": ("cifar10", "data.source=tfds", "data.source=tfds"),
    "data.synthetic.num_images": ("20", "data.source=synthetic", "data.source=synthetic"),
    "data.synthetic.image_size": ("(60,40)", "data.source=synthetic", "data.source=synthetic"),
    "data.synthetic.seed": ("1", "data.source=synthetic", "data.source=synthetic"),
    "data.pad_value": ("0", "data.resize=pad", "data.resize=pad"),
    "split.validation_fraction": ("0.3", "split.num_folds=0", "split.num_folds=0"),
    "split.selection": ("validation", "train.early_stopping=patience", "train.early_stopping"),
    "split.selection_fraction": ("0.3", "optim.schedule=plateau", "optim.schedule=plateau"),
    "augment.policy_magnitude": ("5", "augment.policy_operations=1", "policy_operations"),
    "augment.policy_names": ("('rotate',)", "augment.policy_operations=1", "policy_operations"),
    "augment.elastic_sigma_px": ("5", "augment.elastic_alpha_px=1", "elastic_alpha_px"),
    "augment.fill_mode": ("wrap", "augment.zoom=(0.1,)", "geometry"),
    "augment.interpolation": ("nearest", "augment.scale=(0.9,1.1)", "geometry"),
    "augment.fill_value": ("1", "augment.max_rotation_deg=5", "geometry"),
    "augment.erasing_area": ("(0.1,0.2)", "augment.erasing_probability=0.5", "erasing_probability"),
    "augment.erasing_aspect": ("(0.5,2)", "augment.erasing_probability=0.5", "erasing_probability"),
    "augment.erased_value": ("1", "augment.cutout_px=4", "cutout_px"),
    "augment.class_probability": ("(1,0.5)", "augment.flip_probability=0.5", "augmented"),
    "model.batch_norm": ("True", "model.dense_features=(8,)", "dense_features"),
    "model.dense_l2": ("0.1", "model.dense_features=(8,)", "dense_features"),
    "finetune.backbone_rate": ("0.1", "finetune.freeze_before=block2", "stages learn"),
    "finetune.rate_decay": ("0.9", "finetune.freeze_before=block2", "stages learn"),
    "finetune.new_stem": ("True", "finetune.freeze_before=block2", "model.weights"),
    "finetune.cache_gb": ("1", "model.name=blocks", "cache_views"),
    "optim.momentum": ("0.8", "optim.name=sgd", "optim.name=sgd or rmsprop"),
    "optim.plateau_factor": ("0.3", "optim.schedule=plateau", "optim.schedule=plateau"),
    "optim.plateau_patience": ("3", "optim.schedule=plateau", "optim.schedule=plateau"),
    "train.patience": ("3", "train.early_stopping=patience", "train.early_stopping=patience"),
    "train.selection_metric": ("loss", "train.early_stopping=restore_best", "restore_best or patience"),
    "model.probe_stages": ("('block1',)", "model.head=probe", "model.head=probe"),
    "model.probe_pooling": ("covariances", "model.head=probe", "model.head=probe"),
    "finetune.from_probe": ("True", "model.head=probe", "model.head=probe"),
    "augment.noise": ("0.1", "model.head=gap", "fitted"),
    "finetune.num_frozen": ("1", "model.head=gap", "fitted"),
    "optim.learning_rate": ("0.1", "model.head=gap", "fitted"),
    "train.num_epochs": ("3", "model.head=gap", "fitted"),
    "unlabelled.self_training": ("people", "model.head=probe", "model.head=probe"),
    "unlabelled.confidence": ("0.5", "unlabelled.self_training=images", "images or people"),
    "unlabelled.pretrain_epochs": ("5", "model.weights=", "random weights"),
    "predict.averaging": ("logits", "predict.flip=True", "predict.flip"),
    "predict.pool": ("mean", "data.group_column=ID", "data.group_column, data.group_pattern or"),
}
"""Of a single run; CONTEXT is what makes the key unread in the first place, where the defaults do not."""
OF_TRAINING = ("augment.noise", "finetune.num_frozen", "optim.learning_rate", "train.num_epochs")
CONTEXT = {
    **{f"data.{key}": ("data.source=folder",) for key in ("csv", "separator", "image_dir", "group_column")},
    "data.label_column": ("data.source=synthetic",),
    "predict.pool": ("data.source=csv",),
    "split.validation_fraction": ("split.num_folds=5",),
    "augment.class_probability": tuple(f"augment.{k}=0" for k in ("flip_probability", "brightness", "contrast")),
    "finetune.backbone_rate": ("model.name=blocks", "finetune.freeze_before=head"),
    "finetune.rate_decay": ("model.name=blocks", "finetune.freeze_before=head"),
    "finetune.new_stem": ("model.name=blocks",),
    "finetune.cache_gb": ("model.name=blocks",),
    "model.probe_stages": ("model.name=blocks",),
    "model.probe_pooling": ("model.name=blocks",),
    "finetune.from_probe": ("model.name=blocks",),
    "unlabelled.self_training": ("model.name=blocks",),
    "unlabelled.confidence": ("model.name=blocks", "model.head=probe"),
    "unlabelled.pretrain_epochs": ("model.weights=efficientnet_lite0", "data.channels=3"),
    **dict.fromkeys(OF_TRAINING, ("model.name=blocks", "model.head=probe")),
}


def flags(*settings: str) -> list[str]:
    return [f"--config.{setting}" for setting in settings]


def write(folder: pathlib.Path, *lines: str) -> str:
    file = folder / "mine.py"
    changes = "".join(f"    {line}\n" for line in lines)
    text = "from configs import base\n\ndef get_config():\n    config = base.get_config()\n"
    file.write_text(f"{text}{changes}    return config\n")
    return str(file)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file that sets nothing."""
    return write(tmp_path_factory.mktemp("configs"))


@pytest.mark.parametrize("key", UNREAD)
def test_a_key_that_is_not_read_is_refused_and_says_when_it_is(key: str, plain: str) -> None:
    value, reads_it, word = UNREAD[key]
    given = flags(*CONTEXT.get(key, ()), f"{key}={value}")
    with pytest.raises(ConfigError) as caught:
        load_config(plain, given)
    message = str(caught.value)
    assert message.startswith(f"config.{key} is ")
    assert "it is read only where" in message
    assert word in message
    if key != "finetune.cache_gb":  # which wants weights
        set_to = flatten(load_config(plain, [*given, *flags(reads_it)]))[key]
        assert set_to != flatten(base.get_config())[key]


def test_every_line_of_the_table_is_tried() -> None:
    tried = set(UNREAD) | {"split.num_folds", "split.fold", "submit.refit", "data.synthetic."}
    tried |= {key for key in flatten(base.get_config()) if key.startswith("study.")}
    tried |= {
        key
        for reading in READ
        for key in reading.keys.split()
        if "fitted" in reading.when and key.startswith(("augment.", "finetune.", "optim.", "train."))
    }
    keys = {key for reading in (*READ, *OF_A_RUN, *OF_A_STUDY) for key in reading.keys.split()}
    assert keys <= tried
    known = flatten(base.get_config())
    assert not [key for key in keys if not any(name == key or name.startswith(key) for name in known)]


def test_the_defaults_are_never_refused(plain: str) -> None:
    defaults = flatten(base.get_config())
    given = [f"--config.{key}={value}" for key, value in defaults.items() if value not in ("", ())]
    assert not find_unread(load_config(plain, given), OF_A_STUDY)


def test_what_only_a_study_reads_is_refused_in_a_run_and_the_other_way_round() -> None:
    of_a_study = {
        "study.metric=brier": "freeze-sweep",
        "study.margin=0.1": "freeze-sweep",
        "study.max_risk=0.1": "freeze-sweep",
        "study.miss_rate=0.2": "freeze-sweep",
        "study.risk_confidence=0.8": "freeze-sweep",
        "study.sets=class": "freeze-sweep",
    }
    for setting, word in of_a_study.items():
        with pytest.raises(ConfigError, match=word):
            load_config(BASELINE, flags(setting))
        with pytest.raises(ConfigError, match=word):
            override(load_config(BASELINE), flags(setting))
        assert load_configs([BASELINE], flags(setting))
        assert override(load_config(BASELINE), flags(setting), is_study=True)
    with pytest.raises(ConfigError, match=r"config\.split\.num_folds is 4: |--folds"):
        load_configs([BASELINE], flags("split.num_folds=4"))


def test_of_a_study_one_config_has_to_read_it() -> None:
    assert [
        c.train.patience for c in load_configs([BASELINE], flags("train.early_stopping=patience", "train.patience=3"))
    ] == [3]
    assert len(load_configs([BASELINE, EXP04], flags("train.selection_metric=loss"))) == 2
    with pytest.raises(ConfigError, match=r"config\.train\.patience is 3"):
        load_configs([BASELINE, EXP04], flags("train.patience=3"))


def test_a_file_reads_what_it_sets_unless_the_command_line_sees_to_it(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path, "config.train.patience = 3")
    with pytest.raises(
        ConfigError, match=r"config\.train\.patience is 3, but it is read only where train\.early_stopping"
    ):
        load_config(file)
    assert load_config(file, flags("train.early_stopping=patience")).train.patience == 3


def test_who_switches_something_off_need_not_reset_its_details(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path, "config.train.early_stopping = 'patience'", "config.train.patience = 3")
    assert load_config(file, flags("train.early_stopping=none")).train.patience == 3
    with pytest.raises(ConfigError, match=r"config\.train\.patience is 4"):
        load_config(file, flags("train.early_stopping=none", "train.patience=4"))


def test_a_file_may_describe_its_data_for_every_source(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path, "config.data.source = 'folder'", "config.data.tfds_name = 'cifar10'")
    assert load_config(file).data.tfds_name == "cifar10"
    assert load_config(file, flags("data.source=tfds")).data.source == "tfds"
    with pytest.raises(ConfigError, match=r"config\.data\.tfds_name is 'horses_or_humans'"):
        load_config(file, flags("data.tfds_name=horses_or_humans"))


def test_folders_of_finished_runs_open_whatever_they_set() -> None:
    config = load_config(BASELINE).copy_and_resolve_references()
    config.train.patience, config.augment.fill_value, config.study.margin = 3, 1.0, 0.5
    assert find_unread(config)
    assert from_json(to_json(config), "config.json").train.patience == 3


def test_what_an_earlier_version_took_can_be_mended_when_opening() -> None:
    config = load_config(BASELINE).copy_and_resolve_references()
    config.data.class_names = ("a", "a")
    with pytest.raises(ConfigError, match=r"class_names is \('a', 'a'\)"):
        from_json(to_json(config), "config.json")
    mended = from_json(to_json(config), "config.json", flags("data.class_names=('a','b')"))
    assert mended.data.class_names == ("a", "b")
