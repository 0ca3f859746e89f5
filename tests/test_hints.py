"""What is said to who mistypes: the program by its own name, and the command, flag, key or config that was meant."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest

from fpclass import __version__, cli
from fpclass.config import base_config, config_files, flatten
from fpclass.experiment import load_config

PROJECT = pathlib.Path(__file__).parents[1]


def run(*command: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=PROJECT)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("start", "name"), [(["launch.py"], "python launch.py"), (["-m", "fpclass"], "python -m fpclass")]
)
def test_hints_name_the_program_as_it_was_started(start, name):
    assert run(*start, "--version") == (0, f"fpclass {__version__}\n", "")
    code, _, said = run(*start, "trian")
    assert (code, said) == (2, f"fpclass: trian: no such command, did you mean train?; {name} --help lists them\n")
    _, text, _ = run(*start, "weights", "--help")
    assert f"  {name} weights list" in text
    assert f"usage: {name} weights" in text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["train", "--confg=x"], "did you mean --config?; see fpclass train --help"),
        (["study", "--seed=3"], "did you mean --seeds?"),
        (["train", "--image_size=224"], "did you mean --config.data.image_size=…?"),
        (["train", "image_size=224"], "did you mean --config.data.image_size=224?"),
        (["train", "--config.image_size=224"], "did you mean data.image_size?"),
        (["train", "--config.modl.name=cnn"], "did you mean model.name?"),
        (["train", "--config=xp04"], "--config=xp04: no such file"),
        (["train", "--config=liner_probe"], "did you mean linear_probe?"),
        (["train", "--config=exp0"], "which one? configs/footprints/exp01_dropout.py, configs/footprints/exp02_"),
        (["weights", "fetsh"], "invalid choice: 'fetsh'"),
    ],
)
def test_what_was_meant_is_said(typed, meant, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(typed)
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    assert meant in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_a_config_is_found_by_the_beginning_of_its_name():
    assert load_config("exp04").name == "exp04_early_stopping_dropout"
    assert load_config("footprints/exp20").name == "exp20_gap_head"
    assert load_config("baseline").name == "baseline"


@pytest.mark.parametrize("given", [["--config.data.image_size=96"], ["--config.data.image_size", "96"]])
def test_one_number_is_a_square(given):
    assert load_config("baseline", given).data.image_size == (96, 96)
    assert load_config("baseline", [*given, "--config.data.image_size=(64,48)"]).data.image_size == (64, 48)


COMPLETED = {
    "fpclass trai": "train",
    "fpclass train --work": "--workdir",
    "fpclass train --config=configs/demo": "configs/demo.py",
    "fpclass study --configs configs/transfer/lin": "configs/transfer/linear_probe.py",
    "fpclass train --config.data.image_s": "--config.data.image_size=",
    "fpclass weights verif": "verify",
    "fpclass predict READ": "README.md",
    "fpclass collect --config.see": "",
}


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_the_script_completes_in_bash(capsys):
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for line in COMPLETED:  # as bash sets them: "=" is a word of its own
        words = line.replace("=", " = ").split()
        array = " ".join(f"'{word}'" for word in words)
        script += f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={len(words) - 1} COMP_WORDS=({array})\n"
        script += '_fpclass; echo "${COMPREPLY[*]}"\n'
    done = subprocess.run(["bash", "--norc"], input=script, capture_output=True, text=True, cwd=PROJECT)
    assert done.stderr == ""
    offered = [" ".join(dict.fromkeys(line.split())) for line in done.stdout.splitlines()]  # a file may come twice
    assert offered == list(COMPLETED.values())


def test_the_script_knows_every_command_key_and_config(capsys):
    assert cli.main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert "bashcompinit" in script
    for word in (*cli.COMMANDS, *flatten(base_config()), *config_files()):
        assert word in script
