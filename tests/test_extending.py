"""Functions of one's own, from a package outside of the repository: networks, augmentations, sources, metrics."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from own_package import write_project

from fpclass import cli
from fpclass.errors import FpclassError
from fpclass.experiment import load_config
from fpclass.explain.stages import default_stage
from fpclass.models.own import build
from fpclass.train.task import check_network

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def importing_anew() -> Iterator[None]:
    """Every test is a process of its own as far as the user's package goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, blobs: pathlib.Path) -> pathlib.Path:
    """A project of its own with a run that uses all of the package, trained from another folder."""
    folder = write_project(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        args = ["train", f"--config={folder / 'mine.py'}", f"--config.data.root={blobs}", f"--workdir={folder / 'run'}"]
        assert cli.main(args) == 0
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]
    return folder / "run"


def fails(function: Callable[[], object], *words: str) -> None:
    with pytest.raises(FpclassError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def complains(capsys: pytest.CaptureFixture[str], args: list[str], *words: str) -> None:
    """The command ends with exit code 2 and one line that has these words."""
    capsys.readouterr()
    assert cli.main(args) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    for word in words:
        assert word in line, line


def test_everything_of_ones_own_in_one_run(run: pathlib.Path) -> None:
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["name"] == "mine", "a config knows its own file"
    assert config["code_folders"] == [str(run.parent)]
    metrics = json.loads((run / "metrics.json").read_text())
    cost = metrics["validation"]["mypackage.metrics:cost"]
    assert cost["low"] <= cost["value"] <= cost["high"]
    assert set(metrics["validation"]["subgroups"]["columns"]) == {"foot"}
    splits = pd.read_csv(run / "splits.csv").groupby("group")["role"].nunique()
    assert splits.max() == 1, "the groups that the function gives are kept together"
    submission = pd.read_csv(run / "submission.csv")
    assert len(submission) == 6
    assert set(submission.iloc[:, 1]) <= {"small", "large"}
    assert not (run / "figures/grad_cam_worst.png").exists(), "there are no stages"
    assert "BatchNorm_0" in (run / "model.txt").read_text(), "parameters stay where the module has them"


def test_what_is_left_out_without_stages_is_said(run: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", f"--workdir={run}"]) == 0
    assert "mypackage.nets:Net names no stage with maps" in capsys.readouterr().out
    args = [f"--config={run.parent / 'mine.py'}", "--config.data.root=nowhere", "--config.finetune.freeze_before=head"]
    complains(capsys, ["train", *args, f"--workdir={run.parent / 'other'}"], "mypackage.nets:Net has no stages")


def test_a_run_finds_its_functions_and_refuses_others(
    run: pathlib.Path, blobs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next(iter(sorted(blobs.rglob("*.png")))))
    predict = ["predict", image, f"--workdir={run}", f"--output={tmp_path / 'out.csv'}"]
    assert cli.main(predict) == 0
    assert pd.read_csv(tmp_path / "out.csv").loc[0, "predicted"] in ("small", "large")
    source = run.parent / "mypackage/nets.py"
    text = source.read_text()
    source.write_text(text.replace("0.2", "0.1"))
    complains(capsys, predict, "nets.py has changed since", "put it back as it was")
    again = ["train", f"--config={run.parent / 'mine.py'}", f"--config.data.root={blobs}", f"--workdir={run}"]
    complains(capsys, again, "belongs to another config", "model.name")
    source.write_text(text)
    assert cli.main(again) == 0, "everything was done"
    moved = tmp_path / "elsewhere"
    (run.parent / "mypackage").rename(moved)
    try:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
            del sys.modules[name]
        complains(capsys, predict, "no module mypackage", "--config.code_folders")
        moved.rename(tmp_path / "mypackage")
        assert cli.main([*predict, f"--config.code_folders=('{tmp_path}',)"]) == 0
    finally:
        (tmp_path / "mypackage").rename(run.parent / "mypackage")


WRONG = {
    "model.name=mypackage.nowhere:Net": ("no module mypackage.nowhere",),
    "model.name=mypackage.nets:Other": ("nets.py has no function Other",),
    "model.name=mypackage.nets:NUMBER": ("nets.py has no function", "NUMBER"),
    "model.name=mypackage.broken:Net": ("mypackage.broken cannot be imported", "nothing_of_that_name"),
    "model.name=mypackage.nets:failing": ("RuntimeError: out of ideas", "nets.py line "),
    "model.name=mypackage.nets:no_module": ("gave a int", "flax.linen.Module"),
    "model.name=mypackage.nets:too_many": ("gives (2, 3) of 2 images and 2 classes",),
    "model.name=mypackage.nets:WithMemory": ("keeps variables in memory",),
    "model.name=mypackage.nets:WithNoise": ("noise",),
    "model.name=mypackage.nets:WithoutTrain": ("TypeError", "train"),
    "model.name=mypackage": ("expected one of cnn,", "docs/extending.md"),
    "model.batch_norm=True": ("model.batch_norm", "mypackage.nets:Net does not read it"),
    "augment.custom=mypackage.augment:cropped": ("gave float32 (23, 20, 1) of an image float32 (24, 20, 1)",),
    "augment.custom=mypackage.augment:rounded": ("gave int32",),
    "augment.custom=shutil:rmtree": ("shutil is a module of Python's own",),
    "augment.custom=streak": ("augment.custom", "package.module:function"),
    "study.metric=mypackage.metrics": ("study.metric", "package.module:function"),
}


@pytest.mark.parametrize("setting", WRONG)
def test_what_cannot_be_used_is_refused_before_there_are_data(setting: str, project: pathlib.Path) -> None:
    fails(lambda: check_network(load_config(str(project / "mine.py"), [f"--config.{setting}"])), *WRONG[setting])


OF_DATA = {
    "without_labels": ("gave columns filename", "filename and label"),
    "twice": ("gave 'processed/processed/img_0000.png' twice",),
    "in_other_splits": ("gave split 'dev'", "train, validation, test"),
    "no_frame": ("gave dict", "data frame"),
}


@pytest.mark.parametrize("function", OF_DATA)
def test_a_source_says_what_it_expects(
    function: str,
    project: pathlib.Path,
    blobs: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = [f"--config={project / 'mine.py'}", f"--config.data.root={blobs}", f"--workdir={tmp_path}"]
    complains(capsys, ["audit", *args, f"--config.data.source=mypackage.data:{function}"], *OF_DATA[function])


def test_an_augmentation_of_ones_own_comes_last_and_leaves_the_draws_of_others(project: pathlib.Path) -> None:
    from fpclass.augment.compose import make_augment
    from fpclass.augment.settings import describe

    config = load_config(str(project / "mine.py"))
    plain = load_config(str(project / "mine.py"), ["--config.augment.custom="])
    image = np.random.default_rng(0).integers(0, 200, (24, 20, 1)).astype(np.uint8)
    custom, without = (make_augment(c.augment, mean=0.5, std=0.5)(jax.random.key(3), image) for c in (config, plain))
    is_same = np.isclose(custom, without).all(axis=(1, 2))
    assert np.sum(~is_same) == 1, "one row is overwritten, after everything else"
    np.testing.assert_array_equal(np.asarray(custom)[~is_same], 1.0)
    assert "custom mypackage.augment:streak" in describe(config.augment)


def test_padding_does_not_count_in_batch_statistics(project: pathlib.Path) -> None:
    name = load_config(str(project / "mine.py")).model.name
    model = build(name, None, 2, (24, 20))
    images = jax.random.normal(jax.random.key(0), (4, 24, 20, 1))
    variables = model.init(jax.random.key(1), images, train=False)
    assert sorted(variables["params"]) == ["BatchNorm_0", "Conv_0", "Dense_0"]

    def statistics(images: jax.Array, mask: list[bool]) -> jax.Array:
        options = {"rngs": {"dropout": jax.random.key(2)}, "mutable": ["batch_stats"]}
        _, updated = model.apply(variables, images, train=True, mask=jnp.array(mask), **options)
        return updated["batch_stats"]["BatchNorm_0"]["mean"]

    padded = statistics(images, [True, True, True, False])
    np.testing.assert_allclose(padded, statistics(images[:3], [True] * 3), rtol=1e-5)
    assert not np.allclose(padded, statistics(images, [True] * 4), rtol=1e-3)
    assert np.isfinite(statistics(images, [False] * 4)).all(), "a part that is nothing but padding"


def test_stages_that_a_network_names_are_explained(project: pathlib.Path) -> None:
    images = jnp.zeros((1, 24, 20, 1))
    for function, expected in {"Net": "", "staged": "maps", "network": "first"}.items():
        setting = f"--config.model.name=mypackage.nets:{function}"
        config = load_config(str(project / "mine.py"), [setting])
        check_network(config)
        assert default_stage(build(config.model.name, None, 2, (24, 20)), images) == expected
    frozen = [setting, "--config.finetune.freeze_before=second"]
    check_network(load_config(str(project / "mine.py"), frozen))
    fails(
        lambda: check_network(
            load_config(str(project / "mine.py"), [setting, "--config.finetune.freeze_before=third"])
        ),
        "the network's stages are first, second",
    )


def test_metrics_of_ones_own_are_resampled_by_people(project: pathlib.Path) -> None:
    from fpclass.stats.cohort import Cohort
    from fpclass.stats.intervals import Bootstrap, evaluate_predictions
    from fpclass.stats.weighted_metrics import is_lower_better

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    logits = rng.normal(size=(60, 2))
    logits[np.arange(60), labels] += 1
    cohort = Cohort(labels, [f"person {i // 2}" for i in range(60)], class_names=("a", "b"))
    bootstrap = Bootstrap(200, 0.95)
    load = lambda name: load_config(str(project / "mine.py"), [f"--config.study.metric=mypackage.metrics:{name}"])
    metric = load("cost").study.metric
    assert is_lower_better(metric)
    assert not is_lower_better(load("two_classes").study.metric)
    judged = evaluate_predictions(logits, cohort, bootstrap, metric)
    wrong = logits.argmax(axis=1) != labels
    found = judged["mypackage.metrics:cost"]
    assert found["value"] == pytest.approx((wrong * (1 + 4 * labels)).mean())
    # The cost of what accuracy counts, were all errors equally dear: its interval is about three times as wide.
    width = judged["accuracy"]["high"] - judged["accuracy"]["low"]
    assert 2 * width < found["high"] - found["low"] < 5 * width
    few = Cohort(np.array([0, 0, 0, 1]), [1, 2, 3, 4], class_names=("a", "b"))
    undefined = evaluate_predictions(logits[[0, 2, 4, 1]], few, bootstrap, load("two_classes").study.metric)
    found = undefined["mypackage.metrics:two_classes"]
    assert found["value"] is not None
    assert found["low"] is None, "a third of the resamples lack a class"
    fails(lambda: evaluate_predictions(logits, cohort, bootstrap, load("text").study.metric), "gave str")


@pytest.mark.promise
def test_a_study_of_ones_own(project: pathlib.Path, blobs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Real processes: a study by a metric of one's own, of which one network has stages, then new images and maps."""
    other = (project / "mine.py").read_text().replace("nets:Net", "nets:network")
    (project / "other.py").write_text(other)

    def launch(*args: str) -> str:
        command = [sys.executable, str(ROOT / "launch.py"), *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        return done.stdout

    study = str(tmp_path / "study")
    configs = [str(project / "mine.py"), str(project / "other.py")]
    said = launch("study", "--configs", *configs, "--folds=2", f"--workdir={study}", f"--config.data.root={blobs}")
    assert "mypackage.metrics:cost" in said
    table = pd.read_csv(f"{study}/study.csv").set_index("config")
    assert set(table["metric"]) == {"mypackage.metrics:cost"}
    assert table["mean"].notna().all()
    assert "large" in launch("predict", str(blobs), f"--workdir={study}", "--output=-")
    launch("explain", f"--workdir={study}")
