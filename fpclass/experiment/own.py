"""Keys that may name a function of the user's own, and what is recorded of such functions in a config."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from fpclass.common import extension
from fpclass.config import Config, flatten
from fpclass.experiment.conditions import Conditions

OWN = ("data.source", "augment.custom", "model.name", "study.metric")
"""Keys that may name a function of the user's own."""


def with_own(config: Config, folders: Sequence[str] = (), given: Collection[str] = OWN) -> Config:
    """Records of the functions that keys name the digests of their sources, and the folders that hold these.

    Args:
      folders: where their modules are looked for, beside `code_folders` and the working folder.
      given: keys that are new; what others name is not looked at.

    Raises:
      ConfigError: as `extension.load`.
    """
    values = flatten(config)
    own = {key: values[key] for key in OWN if key in given and extension.is_own(values[key])}
    code_folders = [os.path.abspath(str(folder)) for folder in config.code_folders]
    extension.add_folders(code_folders)
    if not own:
        return config
    extension.add_folders([*folders, os.getcwd()])
    pinned = {key: extension.pinned(value, key) for key, value in own.items()}
    found = [extension.folder_of(value, key) for key, value in own.items()]
    changed = ConfigDict(config.to_dict())
    changed.update_from_flattened_dict(pinned)
    changed.code_folders = tuple(dict.fromkeys(filter(None, [*code_folders, *found])))
    return changed.lock()


def own_conditions(values: Mapping[str, Any], choices: Mapping[str, tuple[str, ...]]) -> Conditions:
    """Those of the keys that may name a function; what networks there are, where one is built says."""
    keys = {"augment.custom": ("",)} | {key: choices[key] for key in OWN if key in choices}
    return {
        key: (
            values[key] in words or extension.is_own(values[key]),
            f"{', '.join(filter(None, words)) or 'nothing'}, {extension.EXPECTED}",
        )
        for key, words in keys.items()
    }
