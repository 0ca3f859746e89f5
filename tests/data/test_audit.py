import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpclass.data.audit import NEAR_BLANK_STD, Audit, audit_table
from fpclass.data.table import Table, make_rows
from fpclass.errors import DataError


def make_table(labels, *, classes=("0", "1"), groups=None, splits=None, missing=(), unlisted=(), class_names=None):
    """A table of img_0, img_1, … with these label texts."""
    names = [f"img_{k}" for k in range(len(labels))]
    paths = ["" if k in missing else f"/data/{name}.png" for k, name in enumerate(names)]
    return Table(
        rows=make_rows(names, paths, list(labels), classes, group=groups, split=splits),
        classes=classes,
        class_names=class_names or classes,
        read=lambda position: b"",
        source="csv /data/labels.csv",
        unlisted=unlisted,
    )


def make_facts(num_images, **overrides):
    """Facts of ordinary, different images; overrides are {position: value} for a column."""
    facts = pd.DataFrame(
        {
            "error": "",
            "num_bytes": 1000,
            "sha256": [f"bytes{k}" for k in range(num_images)],
            "pixel_sha256": [f"pixels{k}" for k in range(num_images)],
            "width": 80,
            "height": 120,
            "mode": "L",
            "format": "PNG",
            "num_frames": 1,
            "mean": 200.0,
            "std": 50.0,
            "note": "",
        },
        index=range(num_images),
    )
    for column, values in overrides.items():
        for position, value in values.items():
            facts.loc[position, column] = value
    return facts


def break_rows(facts, errors):
    """Makes rows look as decoding leaves them when it fails: no hash of pixels, no size."""
    for position, error in errors.items():
        facts.loc[position, ["error", "pixel_sha256", "mode", "format"]] = [error, "", "", ""]
        facts.loc[position, ["width", "height", "num_frames"]] = 0
        facts.loc[position, ["mean", "std"]] = np.nan
        if error == "missing file":
            facts.loc[position, "num_bytes"] = 0
            facts.loc[position, "sha256"] = ""
    return facts


def run_audit(labels, facts=None, **options) -> Audit:
    return audit_table(make_table(labels, **options), make_facts(len(labels)) if facts is None else facts)


def of_kind(audit, kind):
    return [finding for finding in audit.findings if finding.kind == kind]


def the_only(audit, kind):
    """The finding of this kind, which is the only finding of all."""
    assert [finding.kind for finding in audit.findings] == [kind]
    return audit.findings[0]


def test_a_good_data_set_has_no_findings():
    audit = run_audit(["0", "1", "0", ""], groups=["a", "b", "a", "c"])
    assert audit.findings == ()
    assert audit.table.usable_mask.all()
    audit.raise_if_fatal()
    audit.raise_if_strict()
    assert "no findings" in audit.to_text()


def test_facts_become_columns_of_the_table():
    facts = make_facts(3, width={1: 99}, note={2: "16 bit, scaled"})
    audit = run_audit(["0", "1", "0"], facts)
    for column in facts:
        assert audit.table.rows[column].tolist() == facts[column].tolist()
    assert audit.table.rows.index.equals(pd.RangeIndex(3))


def test_facts_must_belong_to_the_table():
    with pytest.raises(ValueError, match="2 facts for 3 images"):
        run_audit(["0", "1", "0"], make_facts(2))


# --- files ----------------------------------------------------------------------------------------


def test_broken_files_are_quarantined_and_the_rest_goes_on():
    errors = {1: "missing file", 2: "0 bytes", 4: "not an image\n(magic number  89)", 5: "truncated", 6: "truncated"}
    errors[7] = "cannot be read: Permission denied"
    facts = break_rows(make_facts(9, num_bytes={2: 0, 7: 0}, sha256={7: ""}), errors)
    audit = run_audit(["0", "1", "1", "0", "1", "", "1", "1", "1"], facts, missing=(1,))
    assert [(f.kind, f.filenames) for f in audit.findings] == [
        ("missing", ("img_1",)),
        ("empty", ("img_2",)),
        ("unreadable", ("img_4",)),
        ("unreadable", ("img_5", "img_6")),
        ("unreadable", ("img_7",)),
    ]
    assert {finding.severity for finding in audit.findings} == {"quarantine"}
    assert audit.findings[2].reason == "not an image (magic number 89)"
    assert audit.table.usable_mask.tolist() == [True, False, False, True, False, False, False, False, True]
    assert audit.table.rows["quarantine"][5] == "truncated"
    assert audit.table.to_predict_mask[5]  # still a row of the submission
    audit.raise_if_fatal()
    with pytest.raises(DataError) as error:
        audit.raise_if_strict()
    message = str(error.value)
    assert "\n" not in message
    for part in ("6 of 9", "'img_1'", "missing file", "--strict", "labels.csv"):
        assert part in message
    assert audit.summary["num_quarantined"] == 6
    assert audit.summary["num_to_predict"] == 0
    assert audit.summary["images_per_class"] == {"0": 2, "1": 1}


def test_broken_files_are_no_copies_of_each_other():
    facts = break_rows(make_facts(5, sha256={3: "nothing", 4: "nothing"}), {3: "0 bytes", 4: "0 bytes"})
    audit = run_audit(["0", "1", "0", "1", "0"], facts)
    assert {finding.kind for finding in audit.findings} == {"unreadable"}


def test_hashes_that_are_not_known_are_no_copies():
    facts = make_facts(3)
    facts["sha256"] = [None, np.nan, ""]
    facts["pixel_sha256"] = ""
    assert run_audit(["0", "1", "0"], facts).findings == ()


def test_unlisted():
    finding = the_only(run_audit(["0", "1"], unlisted=("lost/a.png", "b.png")), "unlisted")
    assert finding.severity == "warning"
    assert finding.filenames == ("lost/a.png", "b.png")


# --- copies ---------------------------------------------------------------------------------------


def test_byte_identical_copies_are_one_finding_per_cluster():
    copies = {
        "sha256": {0: "x", 2: "x", 3: "x", 1: "y", 4: "y"},
        "pixel_sha256": {0: "x", 2: "x", 3: "x", 1: "y", 4: "y"},
    }
    audit = run_audit(["0", "1", "0", "0", "1"], make_facts(5, **copies), groups=["a", "b", "a", "a", "b"])
    assert [f.filenames for f in audit.findings] == [("img_0", "img_2", "img_3"), ("img_1", "img_4")]
    for finding in audit.findings:
        assert finding.kind == "byte_identical"  # and not pixel-identical as well
        assert finding.severity == "warning"
        for quiet in ("LABELS", "SPLITS", "people", "predict"):
            assert quiet not in finding.reason
    assert audit.table.usable_mask.all()


def test_pixel_identical_copies_in_different_files():
    facts = make_facts(4, pixel_sha256={0: "x", 1: "x", 3: "x"}, sha256={0: "same", 3: "same"})
    audit = run_audit(["0", "0", "1", "0"], facts)
    assert [(f.kind, f.filenames) for f in audit.findings] == [
        ("byte_identical", ("img_0", "img_3")),
        ("pixel_identical", ("img_0", "img_1", "img_3")),
    ]


@pytest.mark.parametrize("column", ["sha256", "pixel_sha256"])
def test_copies_say_what_they_cross(column):
    facts = make_facts(4, **{column: {0: "x", 1: "x", 2: "x"}})
    options = {"groups": ["ann", "bob", "ann", "eve"], "splits": ["train", "validation", "", "train"]}
    audit = run_audit(["0", "1", "", "1"], facts, **options)
    (finding,) = audit.findings
    for part in ("CONTRADICTORY LABELS 0, 1", "SPLITS train, validation", "2 people (ann, bob)", "some to predict"):
        assert part in finding.reason
    assert audit.table.usable_mask.all()  # they stay, and are kept together


def test_contradictory_copies_come_first():
    facts = make_facts(6, sha256={0: "x", 1: "x", 2: "y", 3: "y"})
    audit = run_audit(["0", "0", "0", "1", "0", "1"], facts)
    assert [f.filenames for f in audit.findings] == [("img_2", "img_3"), ("img_0", "img_1")]


# --- labels ---------------------------------------------------------------------------------------


def fatal_message(audit):
    with pytest.raises(DataError) as error:
        audit.raise_if_fatal()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_label_out_of_range():
    audit = run_audit(["0", "1", "2", "x", "2", ""])
    finding = the_only(audit, "label_out_of_range")
    assert finding.filenames == ("img_2", "img_3", "img_4")
    message = fatal_message(audit)
    for part in ("2 x '2'", "1 x 'x'", "'img_2'", "(0, 1)", "data.classes", "labels.csv"):
        assert part in message


def test_label_out_of_range_is_the_first_thing_said():
    audit = run_audit(["cat", "dog", "cat"])
    assert "2 x 'cat'" in fatal_message(audit)
    assert of_kind(audit, "no_labelled_image")


def test_empty_class():
    facts = break_rows(make_facts(3), {1: "truncated"})
    audit = run_audit(["a", "b", "a"], facts, classes=("a", "b", "c"))
    assert [f.filenames for f in of_kind(audit, "empty_class")] == [("img_1",), ()]
    message = fatal_message(audit)
    for part in ("'b'", "1 are in quarantine", "'img_1' (truncated)", "data.classes"):
        assert part in message
    assert "'c'" in of_kind(audit, "empty_class")[1].reason


def test_class_that_only_validation_or_test_has_is_empty():
    audit = run_audit(["0", "1", "1"], splits=["train", "validation", "test"])
    finding = the_only(audit, "empty_class")
    assert "'1'" in finding.reason
    assert finding.filenames == ()


def test_single_class():
    audit = run_audit(["0", "0", ""], classes=("0",))
    assert the_only(audit, "single_class").severity == "fatal"
    assert "'0'" in fatal_message(audit)


@pytest.mark.parametrize("classes", [(), ("0", "1")])
def test_no_labelled_image(classes):
    audit = run_audit(["", ""], classes=classes)
    assert the_only(audit, "no_labelled_image").severity == "fatal"
    assert "none of the 2 images" in fatal_message(audit)
    json.dumps(audit.to_json())
    audit.to_text()


def test_no_image_at_all_says_why():
    facts = break_rows(make_facts(2), {0: "missing file", 1: "missing file"})
    audit = run_audit(["0", "1"], facts, missing=(0, 1))
    assert [f.severity for f in audit.findings] == ["fatal", "quarantine"]
    message = fatal_message(audit)
    assert "2 are in quarantine" in message
    assert "'img_0' (missing file)" in message
    json.dumps(audit.to_json(), allow_nan=False)
    audit.to_text()


# --- people ---------------------------------------------------------------------------------------


def test_group_with_two_labels():
    groups = ["ann", "ann", "bob", "bob", "eve", "eve", "eve"]
    audit = run_audit(["0", "0", "0", "1", "1", "", "1"], groups=groups)
    finding = the_only(audit, "group_with_two_labels")
    assert finding.severity == "warning"
    assert finding.filenames == ("img_2", "img_3")
    for part in ("'bob'", "0: 1", "1: 1"):
        assert part in finding.reason


def test_rows_without_a_person_are_not_one_person():
    audit = run_audit(["0", "1", "0", "1"], groups=["", "", "a", "b"])
    finding = the_only(audit, "missing_group")
    assert finding.filenames == ("img_0", "img_1")
    assert audit.summary["num_people"] == 2
    assert run_audit(["0", "1"]).findings == ()  # a set without people lacks none


# --- looks ----------------------------------------------------------------------------------------


def test_near_blank_and_animated():
    facts = make_facts(4, std={0: NEAR_BLANK_STD / 2, 1: NEAR_BLANK_STD}, num_frames={2: 3})
    audit = run_audit(["0", "1", "0", "1"], facts)
    assert [(f.kind, f.filenames, f.severity) for f in audit.findings] == [
        ("near_blank", ("img_0",), "warning"),
        ("animated", ("img_2",), "warning"),
    ]
    assert f"{NEAR_BLANK_STD:g}" in audit.findings[0].reason
    assert audit.table.usable_mask.all()


# --- summary, JSON and text -----------------------------------------------------------------------


def test_summary():
    facts = make_facts(
        6, width={0: 40}, height={0: 60, 1: 130}, mode={0: "RGB"}, format={0: "JPEG"}, note={1: "scaled"}
    )
    facts = break_rows(facts, {5: "truncated"})
    groups = ["a", "a", "a", "b", "c", "c"]
    splits = ["train", "train", "train", "validation", "", "train"]
    summary = run_audit(["0", "0", "1", "1", "", "1"], facts, groups=groups, splits=splits).summary
    assert summary == {
        "num_images": 6,
        "num_labelled": 4,
        "num_to_predict": 1,
        "num_quarantined": 1,
        "num_left_out": 0,
        "num_bytes": 5000,
        "images_per_class": {"0": 2, "1": 2},
        "images_per_split": {"train": {"0": 2, "1": 1}, "validation": {"0": 0, "1": 1}},
        "num_people": 3,
        "images_per_person": {"min": 1.0, "median": 1.0, "max": 3.0},
        "height_px": {"min": 60.0, "median": 120.0, "max": 130.0},
        "width_px": {"min": 40.0, "median": 80.0, "max": 80.0},
        "sizes": {"120 x 80": 3, "60 x 40": 1, "130 x 80": 1},
        "modes": {"L": 4, "RGB": 1},
        "formats": {"PNG": 4, "JPEG": 1},
        "notes": {"scaled": 1},
    }


def test_many_sizes_are_cut_in_the_summary():
    facts = make_facts(100, width={k: k + 1 for k in range(60)})
    sizes = run_audit(["0", "1"] * 50, facts).summary["sizes"]
    assert sizes["120 x 80"] == 40
    assert sum(sizes.values()) == 100
    assert len(sizes) == 21


def test_json_holds_everything():
    facts = break_rows(make_facts(3), {2: "truncated"})
    audit = run_audit(["0", "1", "1"], facts, unlisted=("lost.png",), class_names=("female", "male"))
    report = json.loads(json.dumps(audit.to_json(), allow_nan=False))
    assert report["source"] == "csv /data/labels.csv"
    assert report["is_synthetic"] is False
    assert report["classes"] == ["0", "1"]
    assert report["class_names"] == ["female", "male"]
    assert report["quarantined"] == {"img_2": "truncated"}
    assert report["summary"] == audit.summary
    assert report["findings"] == [
        {"kind": "unreadable", "severity": "quarantine", "filenames": ["img_2"], "reason": "truncated"},
        {
            "kind": "unlisted",
            "severity": "warning",
            "filenames": ["lost.png"],
            "reason": "files below the data root that no row names",
        },
    ]


def test_text_of_a_small_set():
    facts = break_rows(make_facts(4, note={0: "16 bit, scaled"}), {3: "truncated"})
    options = {"groups": ["a", "b", "c", "c"], "splits": ["train", "train", "validation", ""]}
    text = run_audit(["0", "1", "1", ""], facts, class_names=("female", "male"), **options).to_text()
    for part in (
        "csv /data/labels.csv",
        "4 images: 3 labelled, 0 to predict, 1 in quarantine",
        "0 (female): 1, 1 (male): 2",
        "validation  0: 0, 1: 1",
        "3, images each 1 to 1 (median 1)",
        "120 x 80: 3 (height x width)",
        "L: 3; formats PNG: 3",
        "16 bit, scaled: 1",
        "QUARANTINE  unreadable: truncated: img_3",
    ):
        assert part in text, text


def make_bad_set(num_images):
    """A set with every kind of finding, most of them many times."""
    classes = tuple(f"class{k}" for k in range(200))
    k = np.arange(num_images)
    labels = [f"class{i % 190}" for i in k]
    labels[:50] = [f"odd{i}" for i in range(50)]
    table = make_table(
        labels,
        classes=classes,
        groups=["" if i % 50 == 0 else f"person{i // 3}" for i in k],
        splits=[("train", "validation", "test")[i % 3] for i in k],
        missing=tuple(range(60, 100)),
        unlisted=tuple(f"lost/{i}.png" for i in range(500)),
    )
    facts = make_facts(num_images)
    facts["sha256"] = [f"bytes{i // 2}" for i in k]
    facts["pixel_sha256"] = [f"pixels{i // 4}" for i in k]
    facts["std"] = np.where(k % 7 == 0, 0.0, 50.0)
    facts["num_frames"] = np.where(k % 11 == 0, 2, 1)
    facts["width"] = 80 + k % 1000
    facts["note"] = [f"note {i % 100}" if i % 5 == 0 else "" for i in k]
    errors = dict.fromkeys(range(60, 100), "missing file") | {i: f"broken in its own way {i}" for i in range(100, 160)}
    facts = break_rows(facts, errors | dict.fromkeys(range(160, 180), "0 bytes"))
    facts.loc[160:179, "num_bytes"] = 0
    return table, facts


def test_text_stays_short_however_long_the_lists_are():
    audit = audit_table(*make_bad_set(2000))
    assert {finding.kind for finding in audit.findings} == {
        *("label_out_of_range", "empty_class", "missing", "empty", "unreadable", "unlisted", "byte_identical"),
        *("pixel_identical", "group_with_two_labels", "missing_group", "near_blank", "animated"),
    }
    order = [finding.severity for finding in audit.findings]
    assert order == sorted(order, key=["fatal", "quarantine", "warning"].index)
    lines = audit.to_text().splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) < 400
    assert any(line.strip() == "and 58 more, see audit.json" for line in lines)  # unreadable: 60, two of them shown
    assert any(line.endswith("empty_class: 10 findings") for line in lines)
    (missing,) = (line for line in lines if "missing:" in line)
    assert "img_60, img_61, img_62 and 37 more, see audit.json" in missing
    json.dumps(audit.to_json(), allow_nan=False)


def test_a_hundred_thousand_rows_are_audited_in_seconds():
    table, facts = make_bad_set(100_000)
    start = time.perf_counter()
    audit = audit_table(table, facts)
    audit.to_text()
    audit.to_json()
    assert len(of_kind(audit, "byte_identical")) > 40_000
    assert time.perf_counter() - start < 20  # a comparison of pairs would take hours


# --- properties -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["", "0", "1", "2"]),
            st.sampled_from(["", "ann", "bob"]),
            st.integers(0, 3),
            st.sampled_from(["", "truncated", "missing file"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_is_accounted_for(rows):
    labels, groups, pixels, errors = zip(*rows, strict=True)
    facts = make_facts(len(rows))
    facts["sha256"] = facts["pixel_sha256"] = [f"pixels{k}" for k in pixels]
    facts = break_rows(facts, {k: error for k, error in enumerate(errors) if error})
    audit = run_audit(labels, facts, groups=list(groups))

    quarantined = {f"img_{k}" for k, error in enumerate(errors) if error}
    assert set(audit.to_json()["quarantined"]) == quarantined
    named = [name for finding in audit.findings if finding.severity == "quarantine" for name in finding.filenames]
    assert sorted(named) == sorted(quarantined)  # each of them once
    sound = [k for k, error in enumerate(errors) if not error]
    clusters = {p: {f"img_{k}" for k in sound if pixels[k] == p} for p in set(pixels)}
    found = [set(finding.filenames) for finding in of_kind(audit, "byte_identical")]
    assert sorted(map(sorted, found)) == sorted(sorted(c) for c in clusters.values() if len(c) > 1)
    for finding in of_kind(audit, "byte_identical"):
        of_cluster = {labels[int(name[4:])] for name in finding.filenames} - {""}
        assert ("CONTRADICTORY" in finding.reason) == (len(of_cluster) > 1)
    summary = audit.summary
    out_of_range = sum(labels[k] == "2" for k in sound)
    parts = summary["num_labelled"] + summary["num_to_predict"] + summary["num_quarantined"] + out_of_range
    assert parts == summary["num_images"] == len(rows)
