"""report.html and methods.md of a run: one file, numbers by their keys, and what is missing named in its place."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from pages import check_page

from fpclass import cli, experiment
from fpclass.report.facts import Facts
from fpclass.run.report.write import METHODS, REPORT, write_run_report

HOSTILE = "<script>alert('x')</script>"
QUOTED = "a\"b'c&d.png"


@pytest.fixture
def run(photo_run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished run without its weights, to be changed."""
    folder = tmp_path / "run"
    shutil.copytree(photo_run, folder, ignore=shutil.ignore_patterns("checkpoints", "tensorboard", REPORT, METHODS))
    return folder


@pytest.fixture
def sketched(run: pathlib.Path) -> pathlib.Path:
    """The same without its figures, which take their time."""
    shutil.rmtree(run / "figures")
    return run


def change(path: pathlib.Path, edit: Callable[[Any], Any]) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps(edit(values) or values))


def test_train_leaves_a_page_that_needs_nothing_else(photo_run: pathlib.Path) -> None:
    assert (photo_run / METHODS).is_file()
    assert "Missing here" not in (photo_run / METHODS).read_text()
    assert "Missing here" not in (photo_run / REPORT).read_text()


def test_the_page_is_one_file_of_all_sections(run: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run)]) == 0
    assert f"written: {run / REPORT}" in capsys.readouterr().out
    page = check_page((run / REPORT).read_text())
    sections = "question data split model learning results calibration confusion images checks limits reproduce paper"
    places = [page.ids.index(name) for name in sections.split()]
    assert places == sorted(places)
    shown = {str(picture["alt"]) for picture in page.pictures}
    assert len(shown) == len(list((run / "figures").glob("*.png"))), "every figure of the folder, none twice"
    assert len(page.scripts) == 1
    assert "Not done yet: " in page.text
    assert f"robustness {run.name}" in page.text
    assert "Missing here" not in page.text
    accuracy = Facts(run).interval("metrics.json", "validation", "accuracy").text
    assert page.text.startswith("photos: report")
    assert f"accuracy {accuracy}" in page.text.partition("Question")[0], "the verdict stands on top"


def test_every_number_of_the_text_is_the_one_of_its_key(sketched: pathlib.Path) -> None:
    write_run_report(sketched)
    text = (sketched / METHODS).read_text()
    sources = dict(re.findall(r"^\[\^(\d+)\]: (.+)$", text, flags=re.MULTILINE))
    assert set(re.findall(r"\[\^(\d+)\]", text)) == set(sources)
    scores = [source for source in sources.values() if source.startswith("metrics.json: validation.")]
    assert len(scores) > 6
    changed = []

    def rewrite(values: dict[str, Any]) -> None:
        for source in scores:
            inner: Any = values
            for key in source.partition(": ")[2].split("."):
                inner = inner[key] if isinstance(inner, dict) and key in inner else None
            if isinstance(inner, dict) and "value" in inner:
                inner.update(value=0.4242, low=0.1234, high=0.8765)
                changed.append(source)

    change(sketched / "metrics.json", rewrite)
    write_run_report(sketched)
    text = (sketched / METHODS).read_text()
    page = (sketched / REPORT).read_text()
    number = {source: number for number, source in re.findall(r"^\[\^(\d+)\]: (.+)$", text, flags=re.MULTILINE)}
    assert len(changed) > 6
    for source in changed:
        assert f"0.424 [0.123, 0.876][^{number[source]}]" in text
        assert f'title="{source}">0.424 [0.123, 0.876]</span>' in page


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("audit.json", "Per image, on"),
        ("metrics.json", "The data set ("),
        ("config.json", "Per image, on"),
        ("environment.json", "Per image, on"),
        ("splits.csv", "Per image, on"),
        ("table.csv", "Per image, on"),
        ("model.txt", "Per image, on"),
    ],
)
@pytest.mark.parametrize("content", [None, b'{"torn', b"[]"])
def test_what_is_missing_is_named_and_the_rest_is_there(
    name: str, kept: str, content: bytes | None, sketched: pathlib.Path
) -> None:
    (sketched / name).unlink()
    if content is not None:
        (sketched / name).write_bytes(content)
    write_run_report(sketched)
    page = check_page((sketched / REPORT).read_text())
    assert kept in page.text
    if name not in ("table.csv", "model.txt"):  # nobody asks for people here, and any text will do
        assert re.search(rf"Missing here: {re.escape(name)}\b", page.text)
    assert str(sketched) not in page.text.partition("Missing here: ")[2][:80], "paths are those inside the folder"


def test_of_a_folder_with_nothing_else_a_page_comes_out(sketched: pathlib.Path) -> None:
    for path in sketched.iterdir():
        if path.name != "config.json":
            path.unlink()
    write_run_report(sketched)
    text = check_page((sketched / REPORT).read_text()).text
    assert "Not judged yet: metrics.json: not found" in text
    assert "learning_rate" in text


def test_nothing_on_it_is_a_path_of_this_machine(sketched: pathlib.Path, photos: pathlib.Path) -> None:
    elsewhere = "/home/some body/my photos"

    def moved(values: dict[str, Any]) -> None:
        values["config"]["data"]["root"] = elsewhere
        values["config"]["data"]["exclude"] = "~/lists/out.txt"

    change(sketched / "config.json", moved)
    change(
        sketched / "audit.json", lambda audit: audit.update(source=f"folder {elsewhere}/train, unpacked from /a/b.zip")
    )
    change(sketched / "metrics.json", lambda metrics: metrics.update(warnings=[f"{photos}/cat/1.png and 3/4/5"]))
    write_run_report(sketched)
    for name in (REPORT, METHODS):
        text = re.sub(r'"data:[^"]*"', "", (sketched / name).read_text())
        for path in (elsewhere, str(sketched), str(photos), str(pathlib.Path.home()), "~/", "/a/"):
            assert path not in text, name
    assert "folder my photos/train, unpacked from b.zip" in (sketched / METHODS).read_text()
    page = check_page((sketched / REPORT).read_text())
    assert "1.png and 3/4/5" in page.text
    digest = json.loads((sketched / "environment.json").read_text())["data_sha256"]
    assert f"the same ones, of SHA-256 {digest}" in page.text


def test_names_are_text_whatever_they_hold(sketched: pathlib.Path) -> None:
    for name in ("metrics.json", "audit.json", "model.json"):
        (sketched / name).write_text((sketched / name).read_text().replace('"cat"', json.dumps(HOSTILE)))
    finding = {"kind": "unreadable", "severity": "quarantine", "filenames": [QUOTED], "reason": HOSTILE}
    change(
        sketched / "audit.json",
        lambda audit: audit | {"findings": [finding], "quarantined": {QUOTED: HOSTILE}, "source": HOSTILE},
    )
    change(sketched / "config.json", lambda values: values["config"].update(name=HOSTILE))
    write_run_report(sketched)
    page = check_page((sketched / REPORT).read_text())
    assert len(page.scripts) == 1
    assert HOSTILE in page.text
    assert QUOTED in page.text
    assert not re.findall("Missing here: (?!figures/)", page.text)


def test_the_command_of_the_page_trains_the_same(photo_run: pathlib.Path) -> None:
    page = check_page((photo_run / REPORT).read_text())
    (command,) = re.findall(r"train (--config=fpclass/configs/base\.py .+?) --workdir=NEW", page.text)
    file, *flags = shlex.split(command)
    again = experiment.load_config(file.removeprefix("--config="), flags)
    there = experiment.from_json(json.loads((photo_run / "config.json").read_text()), "config.json")
    assert not experiment.training_differences(there, again)
    assert again.data.root == pathlib.Path(there.data.root).name
    assert len(flags) > 5


def test_what_other_commands_leave_is_shown_as_it_is(run: pathlib.Path) -> None:
    report = {
        "title": "How it bears <noise>",
        "sentences": ["At strength 5 accuracy falls by 0.2 [0.1, 0.3]."],
        "table": [["blur", "accuracy"], ["5", "0.6"]],
        "figures": ["figures/roc.png"],
        "note": "five strengths",
    }
    (run / "robustness.json").write_text(json.dumps({"report": report}))
    (run / "shortcuts.json").write_text(json.dumps({"report": report | {"figures": ["figures/../../secret.png"]}}))
    write_run_report(run)
    page = check_page((run / REPORT).read_text())
    for text in (report["title"], report["sentences"][0], "blur accuracy 5 0.6", report["note"]):
        assert text in page.text
    assert "How it bears <noise>: roc" in [picture["alt"] for picture in page.pictures]
    assert "'figures/../../secret.png' is no figure of this folder" in page.text
    assert f"{report['sentences'][0]}[^" in (run / METHODS).read_text()


def test_a_torn_figure_costs_itself_alone(run: pathlib.Path) -> None:
    roc = run / "figures" / "roc.png"
    whole = roc.read_bytes()
    roc.write_bytes(whole[: len(whole) // 2])  # that of an unpainted figure is 350 bytes
    (run / "figures" / "confusion_matrix.png").unlink()
    write_run_report(run)
    page = check_page((run / REPORT).read_text())
    missing = dict(re.findall(r"Missing here: (figures/\w+\.png), ([a-z ]+)", page.text))
    why_not = {"figures/roc.png": "cannot be read ", "figures/confusion_matrix.png": "not found"}
    assert missing == why_not
    assert len(page.pictures) == len(list((run / "figures").glob("*.png"))) - 1


def test_a_folder_of_something_else_is_refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "neither a run nor a study folder" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path), "--config.seed=1"]) == 2
    assert not list(tmp_path.iterdir())
