"""What a study says at its end, said again where nothing has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from fpclass import files
from fpclass.console import program
from fpclass.study.study import Study

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


def untrained(study: Study) -> dict[str, str]:
    """The configs of which members are not trained, as reasons why they are in no table."""
    reasons = {}
    for name in study.configs:
        members = study.members(name)
        missing = sum(not member.is_done for member in members)
        if missing:
            reasons[name] = f"{missing} of {len(members)} members are not trained; `{program()} study --resume` goes on"
    return reasons
