"""Spaces of a search: what is read, what is refused, and what becomes of values that another one switches off."""

from __future__ import annotations

import pathlib

import pytest

from fpclass.config import flatten
from fpclass.errors import ConfigError
from fpclass.experiment import load_configs
from fpclass.tune.space import Choice, Range, read_space, with_values

CONFIG = "configs/footprints/exp11_adamw_cosine.py"


def base(*overrides: str, file: str = CONFIG):
    return load_configs([file], overrides)[0]


def written(folder: pathlib.Path, entries: str) -> str:
    path = folder / "space.py"
    path.write_text(f"SPACE = {entries}\n")
    return str(path)


def test_the_example_is_a_space_of_the_config_that_it_names():
    space = read_space("configs/spaces/small_cnn.py", base())
    assert space["optim.learning_rate"] == Range(3e-4, 1e-2, is_log=True)
    assert space["train.num_epochs"] == Range(20, 60)
    assert isinstance(space["train.num_epochs"].low, int)
    assert space["augment.erasing_probability"] == Choice((0.0, 0.2, 0.4))


def test_values_come_back_from_what_optuna_stores():
    choice = Choice(((6, 16), (8,), True, "adamw"))
    assert [choice.loaded(choice.stored(value)) for value in choice.values] == list(choice.values)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ('{"optim.learnin_rate": (0.1, 0.2)}', ("no such key optim.learnin_rate", "did you mean optim.learning_rate?")),
        ('{"train.label_smoothing": (0.0, 1.2)}', ("train.label_smoothing is 1.2", "in [0, 1)")),
        ('{"optim.learning_rate": (0.0, 0.2)}', ("optim.learning_rate is 0.0", "> 0")),
        ('{"optim.learning_rate": ("log", 0.0, 0.2)}', ("begin above 0",)),
        ('{"optim.learning_rate": (0.2, 0.1)}', ("expected (low, high)",)),
        ('{"optim.learning_rate": 0.1}', ("expected (low, high)",)),
        ('{"optim.learning_rate": ["a", "b"]}', ("optim.learning_rate is 'a'", "of type float")),
        ('{"train.num_epochs": (1.5, 3)}', ("whole numbers",)),
        ('{"optim.name": (1, 2)}', ("optim.name is no number", "list of values")),
        ('{"optim.name": ["adamw", "lion"]}', ("optim.name is 'lion'", "sgd")),
        ('{"split.seed": (0, 9)}', ("split.seed cannot be searched", "same images")),
        ('{"data.root": ["a", "b"]}', ("data.root cannot be searched",)),
        ('{"model.weights": ["", "resnet50"]}', ("model.weights cannot be searched", "study")),
        ('{"optim.momentum": (0.5, 0.9)}', ("optim.momentum is read only where", "optim.name=sgd")),
        ('{"predict.averaging": ["logits", "probabilities"]}', ("predict.averaging cannot be searched",)),
        ('{"train.max_minutes": (1.0, 2.0)}', ("train.max_minutes cannot be searched",)),
        ('{"optim.momentum": [0.9, 0.9]}', ("optim.momentum is [0.9, 0.9]", "give each choice once")),
        ("{}", ("has no SPACE",)),
        ("open('nowhere')", ("cannot be read", "FileNotFoundError")),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path, entries, words):
    path = written(tmp_path, entries)
    with pytest.raises(ConfigError) as caught:
        read_space(path, base())
    for word in (path, *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_only_the_network_or_the_optimiser_can_tell_is_known_before(tmp_path):
    adam = base(file="configs/footprints/baseline.py")
    with pytest.raises(ConfigError, match=r"optim\.weight_decay is 0\.1 but optim\.name is 'adam'"):
        read_space(written(tmp_path, '{"optim.weight_decay": (0.1, 0.2)}'), adam)


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(ConfigError, match=r"nowhere\.py: no such file; configs/spaces/small_cnn\.py is an example"):
        read_space("nowhere.py", base())


def test_keys_that_another_one_switches_off_stay_as_they_were(tmp_path):
    """Momentum is of SGD: beside AdamW it is no value of the trial, and two such trials are one."""
    entries = '{"optim.name": ["adamw", "sgd"], "optim.momentum": (0.1, 0.8), "optim.warmup_epochs": (0.0, 2.0)}'
    space = read_space(written(tmp_path, entries), base())
    assert set(space) == {"optim.name", "optim.momentum", "optim.warmup_epochs"}
    sgd, read = with_values(base(), {"optim.name": "sgd", "optim.momentum": 0.3})
    assert (sgd.optim.momentum, read) == (0.3, {"optim.name": "sgd", "optim.momentum": 0.3})
    adamw, read = with_values(base(), {"optim.name": "adamw", "optim.momentum": 0.3})
    assert read == {"optim.name": "adamw"}
    assert flatten(adamw) == flatten(base())


def test_a_value_that_fits_only_beside_another_one_is_fine(tmp_path):
    """A warm-up belongs to a schedule, and the config as it stands has none."""
    constant = base("--config.optim.schedule=constant", "--config.optim.warmup_epochs=0")
    alone = written(tmp_path, '{"optim.warmup_epochs": [0.0, 2.0]}')
    with pytest.raises(ConfigError, match=r"optim\.warmup_epochs is 2\.0"):
        read_space(alone, constant)
    both = written(tmp_path, '{"optim.warmup_epochs": [0.0, 2.0], "optim.schedule": ["constant", "cosine"]}')
    assert len(read_space(both, constant)) == 2


def test_a_size_may_be_one_number(tmp_path):
    space = read_space(written(tmp_path, '{"data.image_size": [64, (120, 80)]}'), base())
    assert space["data.image_size"] == Choice(((64, 64), (120, 80)))
