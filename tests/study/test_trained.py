"""What a finished study is used for: new images, explanations, tables anew; a second start; damage by hand."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
from archives import arrays_of
from PIL import Image
from test_study import EXP04_NAME, fails

from fpclass import cli
from fpclass.run.folder import Run
from fpclass.stats.comparison import scores
from fpclass.study.study import Study

pytestmark = pytest.mark.promise


@pytest.fixture(scope="module")
def member(study, tmp_path_factory):
    """One of its members with all that `evaluate` leaves; read only."""
    folder = tmp_path_factory.mktemp("members") / "member"
    shutil.copytree(study / "members" / EXP04_NAME / "fold-0-seed-0", folder)
    assert cli.main(["evaluate", f"--workdir={folder}"]) == 0
    return folder


def test_a_second_start_begins_nothing(study, tmp_path, capsys, monkeypatch):
    """No image is opened, no weights are asked for, nothing is computed again; what was said is said again."""

    def forbidden(*_, **__):
        raise AssertionError("something that is done was begun again")

    for name in ("run.audit_data", "run.require_weights", "run.train_config", "conclude.collect"):
        monkeypatch.setattr(f"fpclass.study.{name}", forbidden)
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    assert cli.main(["study", "--resume", f"--workdir={folder}"]) == 0
    out = capsys.readouterr().out
    assert "6 members were there" in out
    assert "best config:" in out
    with pytest.raises(AssertionError, match="begun again"):
        cli.main(["study", "--resume", f"--workdir={folder}", "--config.study.margin=0.3"])


def test_a_study_predicts_new_images_as_it_hands_them_in(study, blobs, tmp_path, capsys):
    """The same files by `predict` and by `submit`: the same probabilities, calibrated, and the same decisions."""
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    ensemble = json.loads((folder / "ensemble.json").read_text())
    ensemble["weights"] = {"baseline": 0.75, EXP04_NAME: 0.25}
    ensemble["calibration"] = {"method": "temperature", "scale": [0.5, 0.5], "bias": [0.0, 0.0]}
    ensemble["thresholds"]["f1"] = 1.0  # everything is class 0 then
    (folder / "ensemble.json").write_text(json.dumps(ensemble))
    assert cli.main(["submit", f"--workdir={folder}"]) == 0
    words = {"abstain": str, "set": str}
    handed_in = pd.read_csv(folder / "ensemble_predictions.csv", dtype=words).set_index("filename")
    expected = np.exp(handed_in[["logit_0", "logit_1"]])
    images = [str(blobs / "processed/processed" / f"{name}.png") for name in handed_in.index]
    output = tmp_path / "out.csv"
    predict = ["predict", *images, f"--workdir={folder}", f"--output={output}"]
    assert cli.main(predict) == 0
    said = "ensemble of 12 members (0.75 baseline, 0.25 exp04_early_stopping_dropout); probabilities: temperature 2.00"
    assert said in capsys.readouterr().err
    frame = pd.read_csv(output, dtype=words)
    np.testing.assert_allclose(frame[["probability_0", "probability_1"]], expected, atol=1e-5)
    assert frame["predicted"].tolist() == pd.read_csv(folder / "submission.csv")["SEX"].tolist()
    for column in ("abstain", "set"):
        assert frame[column].fillna("").tolist() == handed_in[column].fillna("").tolist()
    assert cli.main([*predict, "--config.submit.threshold_for=f1"]) == 0
    assert set(pd.read_csv(output)["predicted"]) == {0}
    shutil.rmtree(folder / "members" / EXP04_NAME / "fold-1-seed-1" / "checkpoints")
    capsys.readouterr()
    fails(capsys, predict, "fold-1-seed-1: its checkpoint is gone")


def calls_of(monkeypatch, owner, name):
    """Arguments of all calls of a function from now on."""
    calls, plain = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **options: calls.append(args) or plain(*args, **options))
    return calls


def test_promises_of_a_study_are_kept_and_one_from_before_them_still_hands_in(study, tmp_path, capsys, monkeypatch):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("checkpoints")))
    path, said = folder / "ensemble.json", folder / "ensemble_predictions.csv"
    ensemble = json.loads(path.read_text())
    read, resampled = calls_of(monkeypatch, Run, "read_csv"), calls_of(monkeypatch, scores, "resample_scores")
    assert cli.main(["evaluate", f"--workdir={folder}", "--config.study.sets=class"]) == 0
    of_members = [(run.folder, name) for run, name, *_ in read if name.endswith("predictions.csv")]
    assert len(of_members) == len(set(of_members)) == 2 * 12, "tables of a member are read once"
    assert len(resampled) == 3, "and a config, and the ensemble, is resampled once"
    out = " ".join(capsys.readouterr().out.split())
    assert "no threshold can promise at most 5 % errors with 90 % confidence; it takes 45 decided people" in out
    changed = json.loads(path.read_text())["promises"]
    assert (ensemble["promises"]["kind"], changed["kind"]) == ("marginal", "class")
    assert (
        changed["quantiles"]
        == json.loads((folder / "results.json").read_text())["decisions"]["conformal_by_class"]["quantiles"]
    )
    assert "## Coverage of the conformal sets" in (folder / "study.md").read_text()
    promises = ensemble["promises"] | {"smallest_confidence": 0.5, "quantiles": [1.0, 0.0]}
    path.write_text(
        json.dumps(ensemble | {"promises": promises, "sharpening": {"scale": 3.0, "fitted_on": "x", "why_not": ""}})
    )
    assert cli.main(["submit", f"--workdir={folder}"]) == 0
    sharp = pd.read_csv(said, dtype={"set": str})
    assert set(sharp["abstain"]) == {"no"}
    assert set(sharp["set"]) == {"0"}
    for key in ("promises", "sharpening"):
        del ensemble[key]
    path.write_text(json.dumps(ensemble))
    assert cli.main(["submit", f"--workdir={folder}"]) == 0
    plain = pd.read_csv(said)
    assert not {"abstain", "set"} & set(plain.columns)
    odds = [frame["logit_1"] - frame["logit_0"] for frame in (sharp, plain)]
    np.testing.assert_allclose(odds[0], 3 * odds[1], rtol=1e-3)
    for damage in ({"promises": 3}, {"promises": promises | {"quantiles": [1.0]}}, {"sharpening": {"scale": 0}}):
        path.write_text(json.dumps(ensemble | damage))
        fails(capsys, ["submit", f"--workdir={folder}"], "ensemble.json: ")


@pytest.mark.figures
def test_a_study_is_explained_by_the_members_that_never_saw_the_image(study, tmp_path, monkeypatch):
    from fpclass.study.trained import explain as study_explain

    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    ensemble = json.loads((folder / "ensemble.json").read_text())
    ensemble["weights"] = {"baseline": 0.75, EXP04_NAME: 0.25}
    (folder / "ensemble.json").write_text(json.dumps(ensemble))
    looked, maps_of = [], study_explain.maps_of

    def spy(best, images, *others):
        looked.extend([best.run.folder] * len(images))
        return maps_of(best, images, *others)

    monkeypatch.setattr(study_explain, "maps_of", spy)
    assert cli.main(["explain", f"--workdir={folder}", "--config.explain.num_images=4"]) == 0
    found = arrays_of(folder / "grad_cam_worst.npz")
    assert found["maps"].shape == (4, 4, 24, 20), "2 configs x 2 seeds, each image by the members of its fold"
    assert len(looked) == 4 * 4
    for name, fold in zip(found["filename"], found["fold"], strict=True):
        for member in folder.glob(f"members/*/fold-{fold}-*"):
            if "image-random" not in str(member):
                assert name in pd.read_csv(member / "predictions.csv")["filename"].tolist()
                assert member in looked
    np.testing.assert_allclose(found["weight"], [0.375, 0.375, 0.125, 0.125])
    np.testing.assert_allclose(found["mean"], np.einsum("m,mnhw->nhw", found["weight"], found["maps"]), atol=1e-6)
    predictions = pd.read_csv(folder / "out_of_fold.csv")
    logits = predictions["logit_1"] - predictions["logit_0"]
    wrong = np.logaddexp(0, np.where(predictions["label"] == 1, -logits, logits))
    loss = predictions.assign(right=np.exp(-wrong)).groupby(["config", "filename"])["right"].mean()
    mixed = (0.75 * loss["baseline"] + 0.25 * loss[EXP04_NAME]).sort_values()
    assert found["filename"].tolist() == mixed.index[:4].tolist(), "the worst of the ensemble, worst first"
    (sheet,) = json.loads((folder / "explain.json").read_text())["sheets"].values()
    assert sheet["size"][0] < 24, "as the stage gives the maps, not as they are averaged"
    height, width = sheet["size"]
    assert f"maps of {height} x {width} places in images of 24 x 20 pixels" in sheet["notes"][0]
    for name in ("grad_cam_worst", "feature_maps"):
        assert (folder / f"figures/{name}.png").stat().st_size > 5000


def test_evaluate_makes_the_tables_of_a_study_anew(study, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    expected = {name: (folder / name).read_bytes() for name in ("study.csv", "results.json", "out_of_fold.csv")}
    for name in expected:
        (folder / name).unlink()
    assert cli.main(["evaluate", f"--workdir={folder}"]) == 0
    assert "best config:" in capsys.readouterr().out
    assert {name: (folder / name).read_bytes() for name in expected} == expected
    assert cli.main(["evaluate", f"--workdir={folder}", "--config.study.metric=log_loss"]) == 0
    assert set(pd.read_csv(folder / "study.csv")["metric"]) == {"log_loss"}
    (folder / "members" / EXP04_NAME / "fold-0-seed-0" / "predictions.csv").unlink()
    assert cli.main(["evaluate", f"--workdir={folder}"]) == 1
    assert "FAILED: 1 of 6 members are not trained" in capsys.readouterr().out


LEFT_OVERS = ("*/checkpoints", "*/log.jsonl", "*/tensorboard", "*/fold-0-*/checkpoints")


@pytest.mark.parametrize("gone", LEFT_OVERS)
def test_who_deletes_checkpoints_or_logs_still_has_what_is_judged(study, tmp_path, capsys, gone):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    expected = {name: (folder / name).read_bytes() for name in ("study.csv", "results.json", "out_of_fold.csv")}
    for path in sorted(folder.glob(f"members/{gone}") if "fold" in gone else folder.glob(f"members/*/{gone}")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for command in (["evaluate"], ["study", "--resume"]):
        assert cli.main([*command, f"--workdir={folder}"]) == 0
        assert "best config:" in capsys.readouterr().out
        assert {name: (folder / name).read_bytes() for name in expected} == expected
    table = pd.read_csv(folder / "training.csv")
    assert table["accuracy"].notna().all()
    is_known = gone == "*/tensorboard"
    assert table["gap"].notna().all() == (is_known or "fold" in gone)
    assert "nan" not in (folder / "study.md").read_text().partition("Training beside validation")[2][:2000]


SHAPES = {
    "list": "[]", "null": "null", "empty object": "{}", "text": '"x"', "number": "3", "nothing": "",
    "deep": "[" * 100_000, "bytes": b"\xff\xfe\x00", "wrong types": None, "truncated": None,
    "other columns": "a,b\n1,2\n",
}  # fmt: skip
FAST = ("list",)
OF_MEMBER = {
    "config.json": ["evaluate", "explain", "submit"], "model.json": ["predict"], "environment.json": ["evaluate"],
    "metrics.json": ["explain"], "calibration.json": ["predict"], "log.jsonl": ["evaluate"],
    "stages.json": ["evaluate"], "predictions.csv": ["explain"],
}  # fmt: skip
OF_STUDY = {
    "study.json": ["evaluate", "predict", "submit"], "ensemble.json": ["predict", "submit", "explain"],
    "study.txt": ["study"], "stages.json": ["study"], "results.json": ["evaluate"],
    "members/baseline/fold-0-seed-0/config.json": ["evaluate"],
    "members/baseline/fold-0-seed-0/model.json": ["evaluate"],
    "members/baseline/fold-0-seed-0/splits.csv": ["evaluate"],
    "members/baseline/fold-0-seed-0/predictions.csv": ["evaluate"],
    "members/baseline/fold-0-seed-0/test_predictions.csv": ["evaluate", "submit"],
    "members/baseline/fold-0-seed-0/log.jsonl": ["evaluate"],
}  # fmt: skip
READ_BY_NOBODY = ("stages.json", "study.txt", "results.json", "members/baseline/fold-0-seed-0/config.json")
"""What is made anew, or not asked for, whatever it holds."""


def spoiled(shape: str, content: bytes) -> bytes:
    """A file's content after an accident, or an edit by hand."""
    if shape == "truncated":
        return content[: len(content) // 2]
    if shape == "wrong types":
        for old, new in (
            (b": {", b": [{"),
            (b': "', b': 3, "x": "'),
            (b": 0", b': "0"'),
            (b",0,", b",x,"),
            (b": 1", b": []"),
        ):
            content = content.replace(old, new)
        return content
    text = SHAPES[shape]
    return text if isinstance(text, bytes) else text.encode()


@pytest.mark.parametrize("shape", [pytest.param(s, marks=() if s in FAST else pytest.mark.slow) for s in SHAPES])
@pytest.mark.parametrize("kind", ["member", "study"])
def test_a_file_of_the_wrong_shape_is_one_line_that_names_it(study, member, blobs, tmp_path, capsys, kind, shape):
    image = str(blobs / "processed/processed/img_0033.png")
    source, files = (member, OF_MEMBER) if kind == "member" else (study, OF_STUDY)
    folder = pathlib.Path(shutil.copytree(source, tmp_path / kind))
    for name, commands in files.items():
        path, content = folder / name, (folder / name).read_bytes()
        for command in commands:
            path.write_bytes(spoiled(shape, content))
            more = {"predict": [image], "study": ["--resume"]}.get(command, [])
            code = cli.main([command, *more, f"--workdir={folder}"])
            error = capsys.readouterr().err
            met = f"{shape} as {name} in {command}: {error[-500:]}"
            if name in READ_BY_NOBODY:
                assert code == 0, met
            elif code == 2:
                lines = [line for line in error.splitlines() if line.startswith("fpclass: ")]
                assert len(lines) == 1, met
                assert path.name in lines[0], met
            else:
                assert code == 0, met
        path.write_bytes(content)
    assert not Study.open(study).path("nothing").exists()


def test_people_are_pooled_where_that_is_asked_for(study, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    plain = json.loads((study / "results.json").read_text())
    assert plain["person"]["pool"] == "none"
    assert json.loads((study / "ensemble.json").read_text())["pooling"]["method"] == "none"
    pool = "--config.predict.pool=mean"
    assert cli.main(["submit", "--ensemble", f"--workdir={folder}", pool]) == 2
    assert f"evaluate --workdir={folder} {pool}" in capsys.readouterr().err
    assert cli.main(["evaluate", f"--workdir={folder}", pool]) == 0
    assert "the person as the unit: accuracy" in " ".join(capsys.readouterr().out.split())
    assert "submissions and predictions are pooled so" in (folder / "study.md").read_text()
    assert cli.main(["submit", "--ensemble", f"--workdir={folder}", pool]) == 0
    pooled = pd.read_csv(folder / "ensemble_predictions.csv")
    assert (pooled["logit_1"] == pooled.groupby("group")["logit_1"].transform("first")).all()
    assert cli.main(["submit", "--ensemble", f"--workdir={folder}", "--config.predict.pool=none"]) == 0
    single = pd.read_csv(folder / "ensemble_predictions.csv")
    means = single.groupby("group")[["logit_0", "logit_1"]].transform("mean").to_numpy()
    expected = means - np.logaddexp.reduce(means, axis=1, keepdims=True)
    np.testing.assert_allclose(pooled[["logit_0", "logit_1"]], expected, rtol=1e-6, atol=1e-12)
    assert (single["logit_1"] != single.groupby("group")["logit_1"].transform("first")).any()


def test_a_submission_is_pooled_by_person_and_files_are_not(study, tmp_path, capsys):
    folder, pool = tmp_path / "study", "--config.predict.pool=submission"
    shutil.copytree(study, folder)
    submit = ["submit", "--ensemble", f"--workdir={folder}", pool]
    assert cli.main(submit) == 2
    assert "--config.predict.pool=calibrated` first" in capsys.readouterr().err
    assert cli.main(["evaluate", f"--workdir={folder}", pool]) == 0
    assert "submissions are pooled so where their people are known" in (folder / "study.md").read_text()
    assert cli.main(submit) == 0
    assert "one class for all images of a person; pooled over" in capsys.readouterr().out
    pooled = pd.read_csv(folder / "ensemble_predictions.csv")
    assert (pooled["logit_1"] == pooled.groupby("group")["logit_1"].transform("first")).all()
    Image.new("L", (20, 24), 200).save(tmp_path / "new.png")
    predict = ["predict", str(tmp_path / "new.png"), f"--workdir={folder}", f"--output={tmp_path / 'new.csv'}", pool]
    assert cli.main(predict) == 0
    assert "person" not in pd.read_csv(tmp_path / "new.csv").columns
