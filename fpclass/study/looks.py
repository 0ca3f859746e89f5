"""How often a study has been judged, and by what: who looks until a verdict appears will find one."""

from __future__ import annotations

import dataclasses
from typing import Any

from fpclass.common import files
from fpclass.errors import RunError
from fpclass.study.study import Study

FILE = "looks.json"


@dataclasses.dataclass(frozen=True)
class Look:
    """What a study was judged by; `metric` as it is called in study.md."""

    metric: str
    confidence: float
    margin: float
    num_seeds: int

    def __str__(self) -> str:
        seeds = f"{self.num_seeds} seed{'s' * (self.num_seeds > 1)}"
        return f"{self.metric.replace('_', ' ')} at {100 * self.confidence:g} %, margin {self.margin:g}, {seeds}"


def look_at(study: Study, look: Look) -> list[Look]:
    """All looks at a study, in the order of their first time, this one included; looks.json keeps them.

    Raises:
      RunError: looks.json is damaged, or cannot be written.
    """
    looks = earlier_looks(study)
    if look not in looks:
        looks.append(look)
        files.write_json(study.path(FILE), [dataclasses.asdict(one) for one in looks])
    return looks


def earlier_looks(study: Study) -> list[Look]:
    """The looks that looks.json holds; none where there is no such file.

    Raises:
      RunError: it is damaged.
    """
    path = study.path(FILE)
    if not path.is_file():
        return []
    try:
        values: Any = files.read_json(path)
        return [Look(str(v["metric"]), float(v["confidence"]), float(v["margin"]), int(v["num_seeds"])) for v in values]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: is no list of what the study was judged by ({error}); restore or remove it") from error


def describe_looks(looks: list[Look], now: Look) -> list[str]:
    """What a reader of the verdicts has to know of them, a line each; nothing of a first and only look."""
    if len(looks) < 2:
        return []
    again = "" if now == looks[0] else f", now by {now}"
    return [
        f"judged {len(looks)} times by different rules or seeds: first by {looks[0]}{again}; adjusted p values are "
        f"multiplied by {len(looks)} for it"
    ]
