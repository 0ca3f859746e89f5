"""How a run is made again, to the letter: the command that says every key that is read, and where that is known."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from fpclass import experiment
from fpclass.common.console import program
from fpclass.config import Config, base_config, differences
from fpclass.experiment.propose import as_flags
from fpclass.experiment.unread import OF_A_RUN, OF_A_STUDY, Reading, find_unread
from fpclass.report.blocks import Block, Code, text
from fpclass.report.facts import Facts, Sentence, sentence

BASE = "fpclass/configs/base.py"
OF_FLAGS = ("split.num_folds", "split.fold")
"""Keys that flags of `study` decide."""


def changed_keys(config: Config, readings: Iterable[Reading]) -> dict[str, Any]:
    """Values by key that make base.py a config; keys that it does not read are left out, and change nothing."""
    unread = find_unread(config, readings)
    return {key: now for key, (_, now) in differences(base_config(), config).items() if key not in unread}


def command_of(facts: Facts) -> list[Block]:
    """The command that trains a run once more; errors as `experiment.from_json`."""
    config = experiment.from_json(facts.object("config.json"), "config.json")
    flags = [f"--config={BASE}", *as_flags(changed_keys(config, OF_A_STUDY))]
    command = shlex.join([*program().split(), "train", *flags, "--workdir=NEW"])
    return [text(about_images(facts)), Code(command)]


def about_images(facts: Facts) -> Sentence:
    """What has to be there before the command is run; without the digest where that is not known."""
    about = (
        "This trains it once more, with the versions below. NEW is a new folder; data.root says where the images are"
    )
    if facts.get("environment.json", "data_sha256") is None:
        return (f"{about}.",)
    digest = facts.cite("environment.json", "data_sha256")
    return sentence(f"{about}: the same ones, of SHA-256 {{digest}} (names, contents, labels, people).", digest=digest)


def config_file(config: Config, name: str) -> str:
    """A config of a study as a file that has its keys."""
    of_study = {key: value for key, value in changed_keys(config, OF_A_RUN).items() if key not in OF_FLAGS}
    keys = "\n".join(f"            {key!r}: {value!r}," for key, value in of_study.items())
    return f"""# {name}.py
from configs import base


def get_config():
    config = base.get_config()
    config.update_from_flattened_dict(
        {{
{keys}
        }}
    )
    return config
"""
