"""checklist.md of a run: whom it is of, with intervals or without, and what it says of a table that is damaged."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import pytest

from fpclass.run.checklist import run_facts
from fpclass.run.folder import Run


def facts_of(folder: pathlib.Path, **judged: Any) -> dict[str, str]:
    """The facts of a run of which other things were judged."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["validation"] |= judged
    return run_facts(folder, Run.open(folder).config, metrics, "validation")


def test_people_are_called_so_whether_or_not_there_are_intervals(photo_run: pathlib.Path) -> None:
    of_310: dict[str, Any] = {"num_images": 310, "num_groups": 31, "interval": None}
    for key in ("flow", "counts"):
        assert "310 images of 31 people" in facts_of(photo_run, **of_310, groups_are="people")[key]
        said = facts_of(photo_run, **of_310, groups_are="independent images")[key]
        assert "310 images (31 independent)" in said


def test_folders_of_earlier_versions_tell_it_by_the_line_about_intervals(photo_run: pathlib.Path) -> None:
    of_310 = {"num_images": 310, "num_groups": 31, "groups_are": None}
    people = facts_of(photo_run, **of_310, interval="95 % bootstrap t over 31 people, 500 resamples")
    assert people["counts"].startswith("310 images of 31 people;")
    images = facts_of(photo_run, **of_310, interval="95 % bootstrap t over 31 independent images, 500 resamples")
    assert images["counts"].startswith("310 images (31 independent);")


@pytest.mark.parametrize("text", [None, "filename\na.png\n", "a,b\n1\n1,2,3\n", ""])
def test_a_division_that_cannot_be_read_costs_its_part_alone(
    photo_run: pathlib.Path, tmp_path: pathlib.Path, text: str | None
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(photo_run, folder, ignore=shutil.ignore_patterns("checkpoints", "figures"))
    whole, path = facts_of(folder), folder / "splits.csv"
    part, _, others = whole["division"].partition("; ")
    assert part.startswith("images by part: train ")
    path.unlink() if text is None else path.write_text(text)
    assert facts_of(folder) == whole | {"division": others}
