"""`fpclass eda` through the command line: what the page says, shows and hides, and what lies beside it."""

from __future__ import annotations

import html.parser
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import draw_blobs
from PIL import Image

from fpclass import cli
from fpclass.eda import commands

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "<img src=x onerror=alert(1)>&\"'.png"
BASE = "--config=configs/footprints/baseline.py"


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced; collects what a test asks about."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} twice"
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without <{tag}>"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def section(self, start: str, end: str) -> str:
        return self.words.partition(start)[2].partition(end)[0]


def eda(data: pathlib.Path, workdir: pathlib.Path, *more: str) -> tuple[int, Page, dict]:
    code = cli.main(["eda", BASE, f"--config.data.root={data}", f"--workdir={workdir}",
                     "--config.data.image_size=(60,40)", "--config.evaluate.num_resamples=200", *more])  # fmt: skip
    page = Page((workdir / "eda.html").read_text(encoding="utf-8"))
    return code, page, json.loads((workdir / "eda.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """Blobs of 60 people with two wrong labels, an outlier, a copy, a copy with another label, and a broken file."""
    folder = tmp_path_factory.mktemp("troubled")
    draw_blobs(folder, num_people=60)
    images = folder / "processed" / "processed"
    table = pd.read_csv(folder / "all_labels.csv", dtype=str)
    # One person of two images: both labels wrong, so that it is no person with two labels.
    table.loc[table["ID"] == "1010", "SEX"] = "1.0"
    stripes = np.tile(np.array([[0, 255] * 20], np.uint8), (60, 1))
    Image.fromarray(stripes).save(images / "img_0030.png")
    shutil.copy(images / "img_0001.png", images / "copy.png")
    shutil.copy(images / "img_0002.png", images / "torn.png")
    (images / "broken.png").write_bytes(b"no image")
    Image.open(images / "img_0050.png").resize((400, 600)).save(images / "img_0050.png")
    shutil.copy(images / "img_0060.png", images / HOSTILE.replace("/", ""))
    more = pd.DataFrame(
        {
            "filename": ["copy", "torn", "broken", HOSTILE],
            "ID": ["1000", "2000", "1003", "<b>1030</b>"],
            "SEX": ["0.0", "0.0", "1.0", "0.0"],
        }
    )
    pd.concat([table, more]).to_csv(folder / "all_labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def looked(troubled, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "look"
    code, page, found = eda(troubled, workdir)
    assert code == 0
    return workdir, page, found


def test_the_page_is_one_file_without_anything_from_outside(looked):
    workdir, page, _ = looked
    text = (workdir / "eda.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert [tag for tag, _ in page.attributes if tag in ("script", "link", "iframe", "object", "embed")] == []
    sources = [attributes["src"] for tag, attributes in page.attributes if tag == "img"]
    assert len(sources) > 20
    assert all(source.startswith("data:image/") for source in sources)
    assert "url(" not in text
    assert "@import" not in text
    assert all(attributes.get("alt") for tag, attributes in page.attributes if tag == "img")
    assert not [name for _, attributes in page.attributes for name in attributes if name.startswith("on")]


def test_every_link_leads_to_a_place_on_the_page(looked):
    _, page, _ = looked
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    links = [attributes["href"] for tag, attributes in page.attributes if tag == "a"]
    assert len(ids) == len(set(ids))
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)


def test_hostile_names_are_text(looked):
    workdir, page, _ = looked
    text = (workdir / "eda.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "<b>1030" not in text
    assert HOSTILE.removesuffix(".png") in page.words
    assert "person <b>1030</b>" in page.words


def test_label_errors_are_found_shown_and_written(looked):
    workdir, page, found = looked
    suspected = [entry["filename"] for entry in found["label_errors"]["suspected"]]
    assert {"img_0020", "img_0021"} <= {name.removesuffix(".png") for name in suspected}
    entry = next(e for e in found["label_errors"]["suspected"] if e["filename"] == "img_0020")
    assert (entry["label"], entry["suspected_instead"]) == ("1", "0")
    assert entry["probability_instead"] > 0.5 > entry["probability_label"]
    accuracy = found["label_errors"]["accuracy"]
    assert 0.8 < accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    words = page.section("Suspected label errors None", "Suspected outliers Unlike") or page.words
    assert "img_0020" in words
    assert "rather" in words
    assert "logistic regression" in words
    lines = (workdir / commands.SUSPECTS).read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") for line in lines), "nothing is left out unless somebody says so"
    assert [line.split('"')[1] for line in lines if line.startswith('#"')] == suspected
    table = pd.read_csv(workdir / "label_errors.csv")
    assert table["is_suspected"].sum() == len(suspected) == found["label_errors"]["num_suspected"]
    assert len(table) == found["label_errors"]["num_judged"] == 123
    assert table["is_suspected"].is_monotonic_decreasing


def test_outliers_are_found_shown_and_written(looked):
    workdir, page, found = looked
    table = pd.read_csv(workdir / "outliers.csv", keep_default_na=False)
    assert table["filename"].iloc[0] == "img_0030"
    assert table["is_suspected"].iloc[0]
    assert table["robust_z"].is_monotonic_decreasing
    assert found["outliers"]["suspected"][0]["filename"] == "img_0030"
    extreme = {entry["filename"]: entry["reasons"] for entry in found["outliers"]["extreme"]}
    assert any("longer side 600 px (median 60 px)" in reason for reason in extreme["img_0050"])
    assert "stranger than" in page.words
    assert "longer side 600 px" in page.words


def test_the_findings_of_the_audit_are_shown(looked):
    _, page, found = looked
    copies = page.section("Copies None", "People") or page.words.partition("The same file more than once")[2]
    assert "CONTRADICTORY LABELS" in copies
    assert "torn" in copies
    findings = page.words.partition("Findings of the audit")[2].partition("The same file more than once")[0]
    assert "unreadable" in findings
    assert "broken" in findings
    assert found["summary"]["num_quarantined"] == 1
    assert "Images per person" in str(page.attributes)


def test_near_duplicates_of_the_audit_are_shown(looked, troubled):
    from fpclass import experiment
    from fpclass.data.audit import Audit
    from fpclass.data.table import WARNING, Finding
    from fpclass.eda.explore import explore
    from fpclass.eda.page import render
    from fpclass.run.prepare import audit_data

    config = experiment.load_config(
        BASE.removeprefix("--config="), [f"--config.data.root={troubled}", "--config.data.image_size=(60,40)"]
    )
    audit, images = audit_data(config)
    finding = Finding("near_duplicate", WARNING, ("img_0007", "img_0011"), "2 times nearly the same <picture>")
    found = explore(config, Audit(audit.table, (finding,), audit.summary), images, None)
    words = Page(render(found)).words
    near = words.partition("Nearly the same picture")[2].partition("People")[0]
    assert "2 times nearly the same <picture>" in near
    assert "img_0007" in near
    assert "img_0011" in near


def test_two_looks_are_alike_and_what_a_person_edits_stays(looked, troubled, tmp_path):
    workdir, _, _ = looked
    shutil.copytree(workdir, tmp_path / "again")
    for name in ("eda.json", "eda.html", "label_errors.csv", "outliers.csv"):
        (tmp_path / "again" / name).unlink()
    edited = (workdir / commands.SUSPECTS).read_text(encoding="utf-8").replace('#"', '"', 1)
    (tmp_path / "again" / commands.SUSPECTS).write_text(edited, encoding="utf-8")
    eda(troubled, tmp_path / "again")
    assert (tmp_path / "again" / commands.SUSPECTS).read_text(encoding="utf-8") == edited
    for name in ("eda.json", "label_errors.csv", "outliers.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (workdir / name).read_bytes(), name
    dateless = [
        re.sub(r" on \d{4}-\d\d-\d\d \d\d:\d\d", "", (folder / "eda.html").read_text(encoding="utf-8"))
        for folder in (workdir, tmp_path / "again")
    ]
    assert dateless[0] == dateless[1]


def test_originals_are_left_alone_and_nothing_temporary_stays(troubled, tmp_path):
    before = {path: path.read_bytes() for path in troubled.rglob("*") if path.is_file()}
    eda(troubled, tmp_path / "run")
    assert {path: path.read_bytes() for path in troubled.rglob("*") if path.is_file()} == before
    assert [path for path in (tmp_path / "run").rglob("*") if ".tmp" in path.name] == []


def test_synthetic_data_say_so(tmp_path):
    size = ["--config.data.image_size=(60,40)", "--config.data.synthetic.image_size=(90,60)"]
    drawn = ["--config=configs/demo.py", "--config.data.synthetic.num_images=24", *size]
    code = cli.main(["eda", *drawn, f"--workdir={tmp_path}"])
    assert code == 0
    page = Page((tmp_path / "eda.html").read_text(encoding="utf-8"))
    assert page.words.count("SYNTHETIC data: drawn, not real prints") == 2
    assert json.loads((tmp_path / "eda.json").read_text(encoding="utf-8"))["is_synthetic"] is True


@pytest.mark.parametrize("labels", [("",), ("0",), ("0", "1")], ids=["none", "one class", "one person a class"])
def test_sets_that_nothing_can_be_learnt_from_have_a_page_too(tmp_path, labels):
    rng = np.random.default_rng(0)
    lines = ["filename,ID,SEX"]
    for k in range(4):
        Image.fromarray(rng.integers(0, 256, (60, 40), np.uint8)).save(tmp_path / f"{k}.png")
        label = labels[k % len(labels)]
        lines.append(f"{k},{label or k},{label}")
    (tmp_path / "all_labels.csv").write_text("\n".join(lines))
    code, page, found = eda(tmp_path, tmp_path / "run")
    assert code == 0
    assert "Not looked for" in page.words
    assert found["label_errors"]["reason"]
    assert len(pd.read_csv(tmp_path / "run" / "outliers.csv")) == 4
    assert len(pd.read_csv(tmp_path / "run" / "label_errors.csv")) == 0


def test_a_set_without_a_readable_image_has_a_page_too(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "all_labels.csv").write_text("filename,ID,SEX\na,1,0\nb,2,1\n")
    code, page, found = eda(tmp_path, tmp_path / "run")
    assert code == 0
    assert "Cannot be trained on" in page.words
    assert "empty" in page.words
    assert found["outliers"]["suspected"] == []
    assert "extremes" in pd.read_csv(tmp_path / "run" / "outliers.csv"), "the same columns as ever"


def test_what_a_user_can_mend_is_one_line(blobs, tmp_path, capsys):
    for folder in (tmp_path / "nowhere", blobs):
        args = ["eda", BASE, f"--config.data.root={blobs}", f"--workdir={tmp_path / 'run'}", f"--predictions={folder}"]
        assert cli.main([*args, "--config.data.image_size=(60,40)"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(folder) in error
        assert "--workdir of a finished study" in error
    assert not (tmp_path / "run").exists(), "it is said before every image is opened"


def test_the_first_command_of_the_help_does_it(tmp_path, monkeypatch, capsys):
    """As a new user gives it, on photographs in folders; predictions that are weak are called so in the terminal."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "DIR" / name).mkdir(parents=True)
        for k in range(12):
            pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "DIR" / name / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    command = shlex.split(commands.EPILOG.split("fpclass eda")[1].strip().split("  ")[0])
    assert cli.main(["eda", *command, "--workdir=run", "--config.evaluate.num_resamples=100"]) == 0
    said = capsys.readouterr().out
    found = json.loads(pathlib.Path("run/eda.json").read_text(encoding="utf-8"))["label_errors"]
    assert found["accuracy_of_the_commonest_class"] == 0.5
    assert found["verdict"].startswith("That cannot be told from guessing")
    assert found["verdict"] in said
    words = Page(pathlib.Path("run/eda.html").read_text(encoding="utf-8")).words
    assert found["verdict"] in words
    assert "as the config reads them: 32 x 40 pixels (height x width), in colour." in words


def test_help_says_what_it_is_for(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["eda", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for word in ("--predictions", "eda.html", "data.root", "label errors"):
        assert word in out
