"""What `launch.py collect` is told: query files, lists and flags, and one line for those that make no sense."""

from __future__ import annotations

import pathlib

import pytest

from fpclass import cli
from fpclass.data.collect.backends import Query
from fpclass.data.collect.plan import make_plan


def collect(folder, *flags):
    return cli.main(["collect", str(folder), *map(str, flags)])


def refused(capsys, folder, *flags):
    assert collect(folder, *flags) == 2
    said = capsys.readouterr().err
    assert said.startswith("fpclass: ")
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("met None", "{class:")),
        ("[a, b]", ("met ['a', 'b']",)),
        ("a: x", ("class a", "met 'x'")),
        ("a: {en: 3}", ("a: en", "met 3")),
        ("a: {en: [x, 3]}", ("a: en", "3]")),
        ("a: {en: []}", ("a: en", "met []")),
        ("a: {no: x}", ("language False", "quotes")),
        ("a: {English: x}", ("'English'", "en, ja")),
        ("a: {en: x}\na: {ja: y}", ("'a' is there twice",)),
        ("a: {en: x, en: y}", ("'en' is there twice",)),
        ("a/b: {en: x}", ("'a/b'", "folder")),
        ("..: {en: x}", ("'..'", "folder")),
        ("con: {en: x}", ("'con'",)),
        ("a: {en: x}\nA: {en: y}", ("a, A", "one class")),
        ("'1': {en: x}\n'01': {en: y}", ("1, 01", "one class")),
        ("a: [", ("not YAML",)),
        ("a: {2024-13-45: x}", ("not YAML",)),
        ('a: {en: "\\ud800"}', ("a: en", "not UTF-8")),
        ("[" * 5000, ("nested too deeply",)),
        ("a: &a [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i or ''}, *a{i or ''}]\n" for i in range(40)), ("a",)),
        ("!!python/object/apply:os.system [ls]", ("not YAML",)),
    ],
)
def test_query_files_that_cannot_be_understood(tmp_path, capsys, text, words):
    file = tmp_path / "queries.yaml"
    file.write_text(text, encoding="utf-8")
    said = refused(capsys, tmp_path / "out", "--queries", file)
    for word in words:
        assert word in said, said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ("nothing to collect",)),
        (["--query", "heel hook"], ("CLASS:LANGUAGE=TEXT",)),
        (["--urls", "a.txt"], ("CLASS=FILE",)),
        (["--urls", "a=missing.txt"], ("missing.txt", "cannot be read")),
        (["--queries", "missing.yaml"], ("missing.yaml", "cannot be read")),
        (["--query", "a:en=x", "--contact", "me\nHost: evil"], ("--contact", "ASCII")),
        (["--query", "a:en=x", "--config.seed=1"], ("--config.seed=1",)),
    ],
)
def test_flags_that_cannot_be_understood(tmp_path, capsys, flags, words):
    said = refused(capsys, tmp_path / "out", *flags)
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("flag", ["--delay=-1", "--delay=nan", "--per-query=0", "--min-side=1.5", "--licence=free"])
def test_values_that_make_no_sense(tmp_path, capsys, flag):
    with pytest.raises(SystemExit) as stop:
        collect(tmp_path / "out", "--query", "a:en=x", flag)
    assert stop.value.code == 2
    assert flag.partition("=")[0] in capsys.readouterr().err


def test_a_folder_of_something_else(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "thesis" not in refused(capsys, tmp_path, "--query", "a:en=x")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_table_that_a_spreadsheet_saved(tmp_path, capsys):
    (tmp_path / "provenance.csv").write_text("filename;url\n")
    assert "spreadsheet" in refused(capsys, tmp_path, "--query", "a:en=x")


def test_offline(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    assert "FPCLASS_OFFLINE" in refused(capsys, tmp_path / "out", "--query", "a:en=x")


def test_the_query_file_of_the_repository():
    plan = make_plan(pathlib.Path(__file__).parents[3] / "configs" / "climbing" / "queries.yaml")
    assert plan.classes == ["heel_hook", "toe_hook", "others"]
    for name in plan.classes:
        assert {q.language for q in plan.queries if q.class_name == name} == {"en", "ja", "es", "fr", "zh"}


def test_file_and_flags_add_up(tmp_path):
    file = tmp_path / "queries.yaml"
    file.write_text(
        "a:\n  en: one\n  ja: [二, ' 三  つ ']\n  urls: [http://x/1]\n'01':\n  'no': fire\n", encoding="utf-8"
    )
    (tmp_path / "list.txt").write_text("http://x/2\n# no\n\nhttp://x/1\n", encoding="utf-8")
    plan = make_plan(
        file, ["b:pt-BR=c=d:e", "a:en=one"], [f"a={tmp_path / 'list.txt'}", f"c d={tmp_path / 'list.txt'}"]
    )
    expected = [
        ("a", "one", "en"),
        ("a", "二", "ja"),
        ("a", "三 つ", "ja"),
        ("01", "fire", "no"),
        ("b", "c=d:e", "pt-BR"),
    ]
    assert plan.queries == tuple(Query(*each) for each in expected)
    assert plan.urls == {"a": ("http://x/1", "http://x/2"), "c d": ("http://x/2", "http://x/1")}
    assert plan.classes == ["a", "01", "b", "c d"]
