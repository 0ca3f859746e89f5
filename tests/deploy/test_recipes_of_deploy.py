"""Files and commands for containers and clouds, as far as they can be checked without these."""

from __future__ import annotations

import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).parents[2]
KNOWN = {
    "build", "cap_drop", "deploy", "image", "ports", "profiles", "read_only", "restart", "security_opt",
    "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
"""Keys of a service in the Compose specification, of which this file has these."""


def test_every_shell_command_of_the_documentation_is_one(tmp_path):
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    commands = [block for block in blocks if not re.match(r"[\w.]+ \{", block)]  # those of proxies are no shell's
    assert len(commands) >= 7
    for script in [*commands, *(path.read_text() for path in (ROOT / "docker").glob("*.sh"))]:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_compose_names_what_is_there():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert {key for key in compose if not key.startswith("x-")} == {"services"}
    for name, service in compose["services"].items():
        assert service.keys() <= KNOWN, name
        assert (ROOT / service["build"]["context"] / "Dockerfile").is_file()
        assert re.fullmatch(r"127\.0\.0\.1:\d+:8000", service["ports"][0])
        assert all(option == "no-new-privileges:true" for option in service["security_opt"])
