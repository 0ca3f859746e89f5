"""What a study says at its end, said again where nothing has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from fpclass.common import files
from fpclass.common.console import program, say
from fpclass.errors import RunError
from fpclass.study.report import LEFT_OUT
from fpclass.study.study import Study

REASONS = "left_out.json"
"""Why a search did not train some of its configs on all folds, by name."""
SAID, HEAD = "study.txt", "What the study said at its end. It is of these settings and members:"


def conclude_once(study: Study, failures: dict[str, str], *steps: Callable[[Study, dict[str, str]], str]) -> str:
    """What some steps, mostly `conclude`, say of a study; as they said it before, if nothing has changed since.

    study.txt holds it, with a digest of study.json and of the times of the members' tables. With failures it is asked
    anew.
    """
    text, study_json = study.path(SAID), json.dumps(study.to_json(), sort_keys=True)
    digest = hashlib.sha256(study_json.encode())
    for name in study.configs:
        for member in study.members(name):
            for file in ("predictions.csv", "test_predictions.csv", "log.jsonl"):
                path = member.run.path(file)
                digest.update(f"{path.stat().st_mtime_ns if path.is_file() else None} ".encode())
    head = f"{HEAD} {digest.hexdigest()}"
    outputs = ("study.md", "study.csv", "results.json", "ensemble.json", study.predictions_file)
    if not failures and all(path.is_file() for path in (text, *map(study.path, outputs))):
        before, _, said = text.read_text(encoding="utf-8", errors="replace").partition("\n")
        if before == head:
            return said
    said = "\n".join(step(study, failures) for step in steps)
    files.write_text(text, f"{head}\n{said}")
    return said


def judge_what_is_done(study: Study, conclude: Callable[[Study, dict[str, str]], str]) -> None:
    """Judges the configs of a stopped study all of whose members are trained, unless they were, and says which.

    Raises:
      RunError: there is no such config.
    """
    reasons = untrained(study)
    if not reasons:
        return
    done = [name for name in study.configs if name not in reasons]
    if not set(done) & set(study.names):
        raise RunError(f"{study.folder}: no config is trained whole yet: {next(iter(reasons.values()))}")
    num_members = sum(len(study.members(name)) for name in done)
    of_all = sum(len(study.members(name)) for name in study.configs)
    is_search = all(reason.startswith(LEFT_OUT) for reason in reasons.values())  # which decided so
    if not is_search:
        say(
            f"a stopped study: by {len(done)} of its {len(study.configs)} configs, those that are trained whole, "
            f"{num_members} of {of_all} trainings; `{program()} study --resume` goes on with the others"
        )
    written = study.path("ensemble.json")
    last = max(m.run.path("predictions.csv").stat().st_mtime for name in done for m in study.members(name))
    if not written.is_file() or written.stat().st_mtime < last:
        conclude(study, reasons)


def untrained(study: Study) -> dict[str, str]:
    """The configs of which members are not trained, as reasons why they are in no table; a search has its own."""
    path = study.path(REASONS)
    known: dict[str, Any] = files.read_object(path) if path.is_file() else {}
    reasons: dict[str, str] = {}
    for name in study.configs:
        members = study.members(name)
        missing = sum(not member.is_done for member in members)
        if missing:
            reasons[name] = (
                str(known.get(name) or "")
                or f"{missing} of {len(members)} members are not trained; `{program()} study --resume` goes on"
            )
    return reasons
