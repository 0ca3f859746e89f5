"""The programs of a study's next config, compiled in a thread while a config trains."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from fpclass.common.console import Interruption
from fpclass.common.parallel import num_processes
from fpclass.common.threads import UNSTOPPABLE
from fpclass.experiment import is_trained
from fpclass.run.prepare import Prepared
from fpclass.study.study import Study
from fpclass.study.training import OnEpoch, missing_trainees
from fpclass.train.placement import compile_ahead

ASKED_SECONDS = 0.1
"""Between two looks at whether somebody asked to stop."""


class Ahead:
    """Compiles what a config needs ahead of its turn, one config at a time, in one thread.

    What goes wrong there goes wrong again when its turn comes, and is said then. Nobody waits for the thread but the
    config whose programs it compiles.
    """

    def __init__(self, study: Study):
        self._study = study
        self._name, self._thread = "", threading.Thread()

    def beginning_with(self, name: str | None, prepared: Prepared, on_epoch: OnEpoch) -> OnEpoch:
        """`on_epoch` of a training in whose first epoch the next config is begun with, whose data these are.

        Not where processes compute together: they would have to compile in the same order. A probe needs no programs.
        """
        if name is None or num_processes() > 1 or not is_trained(self._study.configs[name]):
            return on_epoch

        def begin_and_go_on(num_members: int, lines: Sequence[dict[str, Any]]) -> None:
            if name != self._name and not self._thread.is_alive():
                self._begin(name, prepared)
            on_epoch(num_members, lines)

        return begin_and_go_on

    def _begin(self, name: str, prepared: Prepared) -> None:
        # Not one of those that Python waits for at its end: XLA cannot be told to stop.
        self._name = name
        self._thread = threading.Thread(target=self._compile, args=(name, prepared), name=UNSTOPPABLE, daemon=True)
        self._thread.start()

    def wait_for(self, name: str, interruption: Interruption) -> bool:
        """Waits until the programs of a config are compiled, if that was begun; False if somebody asks to stop."""
        while name == self._name and self._thread.is_alive():
            if interruption.signal_number:
                return False
            self._thread.join(ASKED_SECONDS)
        return True

    def _compile(self, name: str, prepared: Prepared) -> None:
        with contextlib.suppress(Exception):
            trainees = missing_trainees(self._study.members(name), prepared)
            members = [trainee.member for trainee in trainees]
            if members:
                compile_ahead(self._study.configs[name], prepared.table, prepared.images, members)
