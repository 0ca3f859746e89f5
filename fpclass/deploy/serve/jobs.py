"""Trainings that a client may start: from configs that the owner allowed, one at a time, in processes of their own."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import time
from typing import Any

from fpclass.deploy.serve.settings import Settings
from fpclass.errors import ConfigError

LAST_LINES = 2000
"""Letters at the end of a log that are looked through for what went wrong."""
NICENESS = 10
"""So much a training lets others go first: the server has the same cores."""
STOP_SECONDS = 20
"""That a training has to save its state when the server ends."""


class JobRunningError(Exception):
    """A training is going on."""


class Job:
    """A training: its process and its folder."""

    def __init__(self, name: str, config: pathlib.Path, folder: pathlib.Path):
        self.id = secrets.token_hex(8)
        self.config, self.folder = name, folder / self.id
        self._started, self._ended = time.time(), 0.0
        self.folder.mkdir(parents=True)
        command = [sys.executable, "-m", "fpclass", "train", f"--config={config}", f"--workdir={self.folder / 'run'}"]
        with (self.folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        with contextlib.suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)

    @property
    def is_running(self) -> bool:
        """Whether its process has not ended."""
        return self._process.poll() is None

    def describe(self) -> dict[str, Any]:
        """What GET /jobs/{id} tells; no path is in it."""
        code = self._process.poll()
        if code is not None and not self._ended:
            self._ended = time.time()
        status = "running" if code is None else "done" if code == 0 else "failed"
        told = {"id": self.id, "config": self.config, "status": status, **self._progress()}
        told["seconds"] = round((self._ended or time.time()) - self._started, 1)
        if code is not None and code < 0:
            return told | {"error": f"killed by signal {-code} ({signal.Signals(-code).name})"}
        return told | ({"error": self._last_complaint(code)} if code else {})

    def stop(self) -> None:
        """Asks it to end, which leaves a state that the same command goes on from."""
        if not self.is_running:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _progress(self) -> dict[str, int]:
        """The last epoch that is done, and how many there are; nothing before the first."""
        try:
            config = json.loads((self.folder / "run" / "config.json").read_text(encoding="utf-8"))
            with (self.folder / "run" / "log.jsonl").open(encoding="utf-8") as lines:
                epochs = [json.loads(line)["epoch"] for line in lines if line.endswith("\n")]
            return {"epoch": epochs[-1], "num_epochs": config["train"]["num_epochs"]} if epochs else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _last_complaint(self, code: int) -> str:
        text = (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-LAST_LINES:]
        said = [line.removeprefix("fpclass: ") for line in text.splitlines() if line.startswith("fpclass: ")]
        where = str(self.folder.resolve())
        return (said[-1] if said else f"ended with code {code}").replace(where, "").replace(str(self.folder), "")


class Jobs:
    """The trainings of a server since it began."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._jobs: dict[str, Job] = {}

    @property
    def are_allowed(self) -> bool:
        """Whether there is a token and a config."""
        return bool(self._settings.train_token and self._settings.train_configs)

    def is_token(self, authorization: str) -> bool:
        """Whether a header is `Bearer` with the token; takes as long for any wrong one."""
        expected = f"Bearer {self._settings.train_token}".encode()
        return self.are_allowed and hmac.compare_digest(authorization.encode("utf-8", "replace"), expected)

    def start(self, name: str) -> Job:
        """Starts a training.

        Raises:
          ConfigError: no config of this name is allowed.
          JobRunningError: another one is going on.
        """
        allowed = self._settings.train_configs
        if name not in allowed:
            raise ConfigError(f"no such config; allowed are {', '.join(allowed)}")
        if any(job.is_running for job in self._jobs.values()):
            raise JobRunningError
        job = Job(name, allowed[name], self._settings.jobs)
        self._jobs[job.id] = job
        return job

    def find(self, job_id: str) -> Job | None:
        """A training by its id."""
        return self._jobs.get(job_id)

    def stop(self) -> None:
        """Ends the one that is going on."""
        for job in self._jobs.values():
            job.stop()
