"""report.html and methods.md of a study: the comparison, what study.md says, and how to make it once more."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import pandas as pd
import pytest
from pages import check_page

from fpclass import cli, experiment
from fpclass.run.report.write import METHODS, REPORT
from fpclass.study.page.cited import SOURCES
from fpclass.study.page.write import write_report
from fpclass.study.study import Study


@pytest.fixture
def finished(study: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished study without its members and its figures, to be changed."""
    folder = tmp_path / "finished"
    shutil.copytree(study, folder, ignore=shutil.ignore_patterns("members", "figures", REPORT, METHODS))
    return folder


def test_study_leaves_a_page_that_needs_nothing_else(study: pathlib.Path) -> None:
    page = check_page((study / REPORT).read_text())
    assert "Missing here" not in page.text + (study / METHODS).read_text()
    assert {"comparison", "calibration", "confusion", "limits", "reproduce", "paper"} <= set(page.ids)
    shown = {str(picture["alt"]) for picture in page.pictures}
    assert "Score of each config with its interval, and its difference from the baseline" in shown
    titles = re.findall("^## (.+)$", (study / "study.md").read_text(), flags=re.MULTILINE)
    assert len(titles) > 5
    assert all(title in page.text for title in titles if title != "Figures"), "what study.md says is a part of it"


def test_numbers_of_study_md_say_which_file_and_key_they_are_of(study: pathlib.Path) -> None:
    """Every title of study.md is known, and every key that is named is there."""
    page = (study / REPORT).read_text()
    results = json.loads((study / "results.json").read_text())
    titles = re.findall("^## (.+)$", (study / "study.md").read_text(), flags=re.MULTILINE)
    assert all(any(title.startswith(start) for start in SOURCES) for title in titles if title != "Figures")
    named = set(re.findall(r'title="results\.json: ([\w.]+)(?: \(|")', page))
    assert {"choice", "diagnostics", "decisions", "decisions.thresholds"} <= named
    for key in named:
        values = results
        for part in key.split("."):
            values = values[part]
    cells = re.findall(r"<td>([^<]*\d\.\d[^<]*)</td>", page.partition('id="page-0"')[2].partition('id="checks"')[0])
    assert not cells, "a number without a source"
    assert 'title="results.json: diagnostics (sensitivity in ' in page
    assert 'title="results.json: choice"' in page


def test_the_comparison_is_that_of_the_table(finished: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(finished / "study.csv")
    table.loc[1, ["mean", "low", "high", "difference", "difference_low", "difference_high"]] = [
        *(0.777, 0.666, 0.888), *(0.111, 0.022, 0.222),
    ]  # fmt: skip
    table["verdict"] = table["verdict"].astype(object)
    table.loc[1, "verdict"] = "better"
    table.to_csv(finished / "study.csv", index=False)
    assert cli.main(["report", str(finished)]) == 0
    name = table.loc[1, "config"]
    page = check_page((finished / REPORT).read_text())
    assert f"{name} does better than the baseline; the ensemble has an accuracy of" in page.text
    assert f"{name} 0.777 [0.666, 0.888] +0.111 [+0.022, +0.222]" in page.text
    methods = (finished / METHODS).read_text()
    assert re.search(rf"{name} 0\.777 \[0\.666, 0\.888\]\[\^\d+\], \+0\.111 \[\+0\.022, \+0\.222\]\[\^\d+\]", methods)
    assert f"study.csv: {name}, difference" in methods
    assert f"written: {finished / REPORT}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["results.json", "study.csv", "study.md", "audit.json", "environment.json"])
def test_a_missing_file_costs_its_part_alone(name: str, finished: pathlib.Path) -> None:
    (finished / name).unlink()
    write_report(finished)
    page = check_page((finished / REPORT).read_text())
    assert f"Missing here: {name}: not found" in page.text
    assert "The baseline" in page.text or "the baseline is" in page.text


def test_who_was_not_trained_whole_is_left_out_of_the_text(finished: pathlib.Path) -> None:
    """By the results, and nobody without them."""
    first, second = Study.open(finished).names

    def said() -> str:
        write_report(finished)
        text = re.sub(r"\[\^\d+\]", "", (finished / METHODS).read_text())
        return next(line for line in text.splitlines() if "random seeds each" in line)

    assert "2 configs were trained on each of 3 folds of people" in said()
    assert f"each: {first}, {second}; the baseline is {first}." in said()
    results = json.loads((finished / "results.json").read_text())
    results["ensemble"]["weights"] = {first: 1.0}
    (finished / "results.json").write_text(json.dumps(results))
    assert "1 config was trained on each of 3 folds of people" in said()
    assert f"each: {first}; the baseline is {first}; 1 other was not trained whole, and left out." in said()
    (finished / "results.json").unlink()
    assert f"each: {first}, {second}; the baseline is {first}." in said()


def test_the_files_of_the_page_are_its_configs(finished: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write_report(finished)
    text = check_page((finished / REPORT).read_text()).text
    study = Study.open(finished)
    assert f"study --configs {' '.join(f'{name}.py' for name in study.names)} --folds=3 --seeds=2" in text
    page = (finished / REPORT).read_text()
    for name in study.names:
        (code,) = re.findall(rf"<pre><code>(# {re.escape(name)}\.py\n.+?)</code></pre>", page, flags=re.DOTALL)
        file = tmp_path / f"{name}.py"
        file.write_text(code.replace("&#39;", "'").replace("&#34;", '"'))
        again = experiment.load_config(str(file))
        assert again.name == name
        assert not experiment.training_differences(study.configs[name], again)
