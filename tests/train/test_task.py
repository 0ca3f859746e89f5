"""From published weights to a run folder: what the config resolves to, cached and gradual training, resume, study."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import signal

import jax
import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save
from tiny_network import STAGES, list_tiny, published_arrays

from fpclass.augment.intensity import normalise
from fpclass.cli import main
from fpclass.common.console import Interruption
from fpclass.config import flatten
from fpclass.errors import ConfigError
from fpclass.experiment import from_json, load_config
from fpclass.models.pretrained.manifest import MANIFEST
from fpclass.run import train as fitting
from fpclass.run.folder import Run
from fpclass.run.prepare import prepare
from fpclass.train.inputs import feature_inputs, image_inputs
from fpclass.train.inputs.feature_cache import FrozenStages
from fpclass.train.task import build_network, make_task

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def listed(tmp_path, monkeypatch):
    """A network of four stages with published weights in the cache."""
    list_tiny(tmp_path / "cache", monkeypatch)


def flags(blobs: pathlib.Path, **changes: object) -> list[str]:
    values = {
        "data.root": blobs, "data.image_size": "(32,24)", "model.name": "tiny", "model.weights": "tiny",
        "model.dense_features": "()", "train.num_epochs": 4, "train.batch_size": 8, "train.eval_every_epochs": 1,
        "train.early_stopping": "restore_best", "evaluate.num_resamples": 50, "explain.num_images": 1,
        "train.checkpoint_seconds": 0.0, "hardware.together": "sequential",
    } | {key.replace("__", "."): value for key, value in changes.items()}  # fmt: skip
    return [f"--config.{key}={value}" for key, value in values.items()]


BASELINE = "configs/footprints/baseline.py"
CACHED = {"finetune__freeze_before": "head", "finetune__cache_views": 2}
GRADUAL = CACHED | {"finetune__unfreeze": "(('layer3',2),)"}


def test_weights_decide_how_images_are_normalised(blobs):
    grey, colour = (load_config(BASELINE, flags(blobs, data__channels=channels)) for channels in (1, 3))
    assert (colour.data.mean, colour.data.std) == (MANIFEST["tiny"].mean, MANIFEST["tiny"].std)
    averages = np.mean(colour.data.mean), np.mean(colour.data.std)
    np.testing.assert_allclose((grey.data.mean[0], grey.data.std[0]), averages)
    assert grey.model.variant == "torchvision"
    for key, value in (("data.mean", "(0.4,)"), ("data.std", "(0.1,)"), ("model.name", "resnet18")):
        with pytest.raises(ConfigError, match=rf"config\.{key} is .*tiny need"):
            load_config(BASELINE, flags(blobs, **{key.replace(".", "__"): value}))
    by_hand = load_config(BASELINE, flags(blobs))
    prepared = prepare(by_hand)
    with by_hand.unlocked():
        by_hand.data.mean = (0.5,)
    with pytest.raises(ConfigError, match=r"data\.mean"):
        make_task(by_hand, prepared.table, prepared.images)


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/[!s]*/*.py")), ids=lambda file: file.stem)
def test_every_config_survives_its_run_folder(file):
    """What JSON makes of tuples must not look like another config on resume."""
    if file.name.startswith("__"):
        return
    config = load_config(str(file))
    again = from_json(json.loads(json.dumps(config.to_dict())), "config.json")
    assert flatten(again) == flatten(config)


class AfterEpochs(Interruption):
    """Asks to stop when so many epochs have passed."""

    def __init__(self, number: int):
        self._left = number

    @property
    def signal_number(self) -> int:
        self._left -= 1
        return 15 if self._left <= 0 else 0


def trained(folder: pathlib.Path, overrides: list[str], *, stop_after: int | None = None) -> Run:
    run = Run.create(folder, load_config(BASELINE, overrides))
    interruption = AfterEpochs(stop_after) if stop_after else Interruption()
    assert fitting.train(run, prepare(run.config), interruption) == (stop_after is None)
    return run


def best_weights(run: Run) -> dict:
    from fpclass.run.best import BestModel

    return flatten_dict(jax.device_get(BestModel(run, 2).variables), sep="/")


@pytest.mark.promise
@pytest.mark.parametrize("command", ["train", "study"])
@pytest.mark.parametrize("changes", [{"model__head": "probe"}, CACHED], ids=["probe", "cached features"])
def test_ctrl_c_while_features_are_computed_ends_the_command(blobs, tmp_path, monkeypatch, capsys, command, changes):
    compute, computed = FrozenStages.compute, []

    def asked(self, view, rows, features):
        for row in compute(self, view, rows, features):
            if not computed:
                signal.raise_signal(signal.SIGINT)
            computed.append(row)
            yield row

    monkeypatch.setattr(FrozenStages, "compute", asked)
    option = "--config" if command == "train" else "--configs"
    args = [command, f"{option}={BASELINE}", f"--workdir={tmp_path / 'stopped'}", *flags(blobs, **changes)]
    if changes != CACHED:  # a probe has no epochs
        args = [arg for arg in args if ".train." not in arg]
    assert main(args) == 128 + signal.SIGINT
    assert len(computed) == 1
    assert "and the same command goes on from there" in capsys.readouterr().out
    assert main(args) == 0


UNCACHED = pytest.param(CACHED | {"finetune__cache_views": 0}, id="uncached", marks=pytest.mark.slow)


@pytest.mark.promise
@pytest.mark.parametrize("changes", [pytest.param(GRADUAL, id="cached"), UNCACHED])
def test_interrupted_resumed_and_in_a_study_are_one_training(blobs, tmp_path, changes):
    overrides = flags(blobs, split__num_folds=2, **changes)
    straight = trained(tmp_path / "straight", overrides)
    trained(tmp_path / "resumed", overrides, stop_after=3)
    resumed = trained(tmp_path / "resumed", overrides)
    study = ["study", "--configs", BASELINE, "--folds=2", f"--workdir={tmp_path / 'study'}"]
    assert main([*study, *flags(blobs, **changes)]) == 0
    member = Run.open(tmp_path / "study" / "members" / "baseline" / "fold-0-seed-0")
    expected = best_weights(straight)
    for other, tolerance in ((resumed, 0), (member, 1e-6)):  # to the bit, as users compile: test_members.py
        found = best_weights(other)
        assert set(found) == set(expected)
        for path in expected:
            np.testing.assert_allclose(found[path], expected[path], rtol=0, atol=tolerance, err_msg=path)
    assert len(pd.read_csv(member.path("predictions.csv"))) == 16
    # The checkpoint is whole: frozen stages as published, learned ones not.
    published = published_arrays()
    kernel_of = lambda stage: published[f"{stage}.conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(expected["params/layer1_0/conv/kernel"], kernel_of("layer1_0"))
    summed = kernel_of("stem").sum(axis=2, keepdims=True)
    np.testing.assert_allclose(expected["params/stem/conv/kernel"], summed, atol=1e-6)
    is_moved = not np.array_equal(expected["params/layer3_0/conv/kernel"], kernel_of("layer3_0"))
    assert is_moved == ("finetune__unfreeze" in changes)


@pytest.mark.promise
def test_the_whole_command_on_cached_features(blobs, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", f"--config={BASELINE}", f"--workdir={folder}", *flags(blobs, **GRADUAL)]) == 0
    out = capsys.readouterr().out
    assert "features of 38 images x 3 views behind layer2_0, 0.0 MB: computing" in out
    assert "weights tiny" in out
    for name in ("submission.csv", "metrics.json", "figures/grad_cam_worst.png", "figures/feature_maps.png"):
        assert (folder / name).stat().st_size
    assert json.loads((folder / "metrics.json").read_text())["weights"] == "tiny"
    # What the whole network says of single files is what was said of the cached features.
    first = pd.read_csv(folder / "predictions.csv").iloc[0]
    image = blobs / "processed" / "processed" / f"{first['filename']}.png"
    assert main(["predict", str(image), f"--workdir={folder}", f"--output={tmp_path / 'out.csv'}"]) == 0
    logits = first[[name for name in first.index if name.startswith("logit")]].to_numpy(float)
    share = np.exp(logits[1]) / np.exp(logits).sum()
    assert abs(pd.read_csv(tmp_path / "out.csv")["probability_1"][0] - share) < 1e-4
    # What is finished needs no features, and another run has those of this one.
    capsys.readouterr()
    assert main(["train", f"--config={BASELINE}", f"--workdir={folder}", *flags(blobs, **GRADUAL)]) == 0
    assert "features" not in capsys.readouterr().out.replace("feature_maps", "")
    other = GRADUAL | {"seed": 1, "split__num_folds": 2, "split__fold": 1}
    other |= {"model__head": "gap", "model__dense_features": "(4,)"}
    command = ["train", f"--config={BASELINE}", f"--workdir={tmp_path / 'other'}", "--until=train"]
    assert main([*command, *flags(blobs, **other)]) == 0
    assert "features of 38 images x 3 views behind layer2_0, 0.0 MB: from the cache" in capsys.readouterr().out


def test_views_are_of_augmented_images_and_take_turns(blobs):
    config = load_config(BASELINE, flags(blobs, **CACHED | {"finetune__cache_views": 3}))
    prepared = prepare(config)
    task = make_task(config, prepared.table, prepared.images)
    features = task.dataset.images
    assert features.shape[:2] == (38, 4)
    for one in range(4):
        for other in range(one):
            assert not np.allclose(features[:, one], features[:, other])
    dataset = jax.device_put(task.dataset)
    member = fitting.make_member(config, prepared)
    rows = np.arange(38)
    drawn = [np.asarray(feature_inputs().draw(member, epoch, dataset, rows)) for epoch in range(3)]
    for row in rows:  # every augmented view once in three epochs, never the plain one
        seen = {view for epoch in drawn for view in range(4) if np.array_equal(epoch[row], features[row, view])}
        assert seen == {1, 2, 3}
    np.testing.assert_array_equal(feature_inputs().plain(dataset.images, rows), features[:, 0])
    still = load_config(BASELINE, flags(blobs, **CACHED, augment__flip_probability=0.0, augment__brightness=0.0,
                                        augment__contrast=0.0))  # fmt: skip
    assert make_task(still, prepared.table, prepared.images).dataset.images.shape[:2] == (38, 1)


REFUSED = {
    "nothing frozen": ({"finetune__cache_views": 1}, r"finetune\.cache_views.*freeze_before"),
    "nothing frozen to the end": (CACHED | {"finetune__unfreeze": "(('stem',1),)"}, "no stage stays frozen"),
    "random weights": (CACHED | {"model__weights": ""}, "random weights differ"),
    "views of a prediction": (CACHED | {"predict__flip": True}, r"predict\.flip"),
    "mixup": (CACHED | {"augment__mixup_alpha": 0.2}, r"augment\.mixup_alpha"),
    "cutmix": (CACHED | {"augment__cutmix_alpha": 0.2}, r"augment\.cutmix_alpha"),
    "drifting statistics": (CACHED | {"finetune__batch_norm": "train_all"}, r"finetune\.batch_norm"),
    "a new stem": (CACHED | {"finetune__new_stem": True}, r"finetune\.new_stem"),
    "too large": (CACHED | {"finetune__cache_gb": 1e-6}, r"finetune\.cache_gb"),
    "no such stage": ({"finetune__freeze_before": "layer9"}, "stem, layer1_0, layer2_0, layer3_0"),
    "unfrozen too late": (CACHED | {"finetune__unfreeze": "(('layer3',4),)"}, r"train\.num_epochs"),
    "not a pair": ({"finetune__unfreeze": "(5,)"}, r"finetune\.unfreeze"),
    "a key of another network": ({"model__squeeze_excitation": 2}, r"model\.squeeze_excitation.*does not read"),
    "a head that has none": ({"model__dense_features": "(8,)"}, r"model\.dense_features.*does not read"),
    "cnn": ({"model__name": "cnn", "model__weights": "", "finetune__rate_decay": 0.5}, r"finetune\.rate_decay"),
    "no weights": ({"model__name": "mobilenet_v2", "model__weights": "mobilenet_v2.v1"}, "not in the cache"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_one_line(blobs, tmp_path, capsys, changes, said):
    command = ["train", f"--config={BASELINE}", f"--workdir={tmp_path / 'run'}", *flags(blobs, **changes)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert error.count("\n") == 1


@pytest.mark.figures
@pytest.mark.promise
def test_the_freeze_sweep(blobs, tmp_path, capsys):
    folder = tmp_path / "sweep"
    command = ["freeze-sweep", f"--config={BASELINE}", "--folds=2", f"--workdir={folder}"]
    changes = GRADUAL | {"train__num_epochs": 3}
    assert main([*command, "--cuts", "head", "layer3", "layer2", *flags(blobs, **changes)]) == 0
    assert "freeze_sweep.png" in capsys.readouterr().out
    frame = pd.read_csv(folder / "freeze_sweep.csv")
    assert frame["num_frozen"].tolist() == [2, 3, 6]
    assert frame["freeze_before"].tolist() == ["layer2", "layer3", "head"]
    assert frame["accuracy"].between(0, 1).all()
    assert (frame["accuracy_members_low"] <= frame["accuracy_members_high"]).all()
    for row in frame.itertuples():
        said = [pd.read_csv(file) for file in sorted(folder.glob(f"members/{row.config}/*/predictions.csv"))]
        logits = [part[["logit_0", "logit_1"]].to_numpy() for part in said]
        for metric, mean in (
            ("accuracy", [np.mean(z.argmax(1) == part["label"]) for z, part in zip(logits, said, strict=True)]),
            ("log_loss", [np.mean(np.logaddexp(*z.T) - z[np.arange(len(z)), part["label"]])
                          for z, part in zip(logits, said, strict=True)]),
        ):  # fmt: skip
            assert getattr(row, metric) == pytest.approx(np.mean(mean)), "the mean over the members"
            assert getattr(row, f"{metric}_members_low") == pytest.approx(min(mean))
            assert getattr(row, f"{metric}_members_high") == pytest.approx(max(mean))
    assert (folder / "figures" / "freeze_sweep.png").stat().st_size > 5000
    arms = json.loads((folder / "study.json").read_text())["configs"]
    assert {arm["finetune"]["cache_views"] for arm in arms.values()} == {2}
    assert not any(arm["finetune"]["unfreeze"] for arm in arms.values())


def test_a_sweep_down_to_the_stem_compares_like_with_like(blobs, tmp_path):
    from fpclass.study.freeze_sweep import plan_sweep

    study = plan_sweep(tmp_path, BASELINE, flags(blobs, **CACHED), num_folds=2, num_seeds=1)
    assert [arm.finetune.freeze_before for arm in study.configs.values()] == ["head", "", *STAGES[1:]]
    assert {arm.augment.fixed_views for arm in study.configs.values()} == {2}, "all see the same views …"
    assert [arm.finetune.cache_views for arm in study.configs.values()] == [2, 0, 2, 2, 2], "… cached where they can be"
    assert study.baseline == "06-frozen-before-head"
    with pytest.raises(ConfigError, match="no stages to freeze"):
        plan_sweep(tmp_path, BASELINE, [], num_folds=2, num_seeds=1)


def test_views_that_are_not_cached_are_those_that_are(blobs):
    """What a cached arm of a sweep trains on, an arm without a cache computes anew in every step."""
    cached = load_config(BASELINE, flags(blobs, **CACHED | {"finetune__cache_views": 3}))
    fixed = load_config(BASELINE, flags(blobs, finetune__freeze_before="head", augment__fixed_views=3))
    prepared = prepare(cached)
    task = make_task(cached, prepared.table, prepared.images)
    prefix = build_network(cached, 2).prefix(task.num_cached)
    dataset, features = (jax.device_put(make_task(c, prepared.table, prepared.images).dataset) for c in (fixed, cached))
    rows, members = np.arange(38), [fitting.make_member(c, prepared) for c in (fixed, cached)]
    drawn = []
    for epoch in range(4):
        images = image_inputs(fixed).draw(members[0], epoch, dataset, rows)
        computed = prefix.apply(task.frozen, images, train=False)
        np.testing.assert_allclose(computed, feature_inputs().draw(members[1], epoch, features, rows), atol=1e-5)
        drawn.append(np.asarray(images))
    np.testing.assert_array_equal(drawn[3], drawn[0])
    assert not np.allclose(drawn[1], drawn[0])
    again = image_inputs(fixed).draw(dataclasses.replace(members[0], seed=np.uint32(7)), 0, dataset, rows)
    np.testing.assert_array_equal(again, drawn[0], err_msg="the same views for every member")
    plain = load_config(BASELINE, flags(blobs, finetune__freeze_before="head"))
    assert not np.allclose(image_inputs(plain).draw(members[0], 0, dataset, rows), drawn[0])


def test_a_probe_is_trained_on_behind_cached_features(blobs):
    changes = {"model__head": "probe", "model__probe_stages": "('layer2','layer3')", "finetune__from_probe": True}
    changes |= {"finetune__freeze_before": "layer3", "finetune__cache_views": 2}
    config = load_config(BASELINE, flags(blobs, **changes))
    prepared = prepare(config)
    task, whole = make_task(config, prepared.table, prepared.images), build_network(config, 2)
    images = normalise(prepared.images[:4], config.data.mean, config.data.std)
    drawn = whole.init(jax.random.key(0), images, train=False)
    rest = {kind: {k: v for k, v in drawn[kind].items() if k in ("layer3_0", "head")} for kind in task.frozen}
    expected = whole.apply(task.whole(rest), images, train=False)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(task.model.apply(rest, task.dataset.images[:4, 0], train=False), expected, atol=1e-5)
    config = load_config(BASELINE, flags(blobs, **changes | {"model__probe_stages": "('layer1','layer3')"}))
    with pytest.raises(ConfigError, match="behind layer2_0, whose features are cached, a probe cannot read layer1_0"):
        make_task(config, prepared.table, prepared.images)


@pytest.mark.promise
def test_a_sweep_goes_on_without_the_cache_that_would_be_too_large(blobs, tmp_path, capsys):
    """Slower, and the same table but for rounding: the views are those that would have been cached."""
    tables = []
    for name, limit in (("cached", 8), ("not", 1e-6)):
        changes = CACHED | {"train__num_epochs": 2, "finetune__cache_gb": limit}
        command = ["freeze-sweep", f"--config={BASELINE}", "--folds=2", f"--workdir={tmp_path / name}"]
        assert main([*command, "--cuts", "head", "layer3", *flags(blobs, **changes)]) == 0
        out = capsys.readouterr().out
        assert ("are computed anew in every step" in out) == (name == "not")
        assert ("views behind" in out) == (name == "cached")
        tables.append(pd.read_csv(tmp_path / name / "out_of_fold.csv"))
    assert tables[0]["filename"].tolist() == tables[1]["filename"].tolist()
    np.testing.assert_allclose(tables[0][["logit_0", "logit_1"]], tables[1][["logit_0", "logit_1"]], atol=2e-3)


def test_other_weights_are_noticed_on_resume(blobs, tmp_path, monkeypatch):
    from fpclass.errors import RunError

    path = tmp_path / "mine.safetensors"
    arrays = published_arrays()
    metadata = {"fpclass.weights": "tiny"}
    path.write_bytes(save(arrays, metadata))
    overrides = flags(blobs, model__weights=path, **CACHED)
    trained(tmp_path / "run", overrides, stop_after=2)
    path.write_bytes(save(arrays | {"stem.bn.bias": np.full(4, 0.2, np.float32)}, metadata))
    with pytest.raises(RunError, match=r"mine\.safetensors is another file"):
        trained(tmp_path / "run", overrides)


def test_weights_are_asked_for_before_the_data(blobs, tmp_path, capsys):
    """A study says at once which configs cannot be trained, and trains the others."""
    missing = tmp_path / "missing.py"
    missing.write_text(
        "from configs.footprints import resnet18\n\n\ndef get_config():\n"
        "    config = resnet18.get_config()\n    config.name = 'missing'\n    return config\n"
    )
    values = {"train.num_epochs": 1, "evaluate.num_resamples": 50, "data.root": blobs, "data.image_size": "(60,40)"}
    small = [f"--config.{key}={value}" for key, value in values.items()]
    command = ["study", "--configs", BASELINE, str(missing), "--folds=2", f"--workdir={tmp_path / 'study'}", *small]
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "resnet18" in out
    assert "not in the cache" in out
    assert len(list((tmp_path / "study" / "members" / "baseline").glob("*/predictions.csv"))) == 2


def test_accumulation_with_a_ragged_last_batch(blobs, tmp_path):
    """A part of a batch that is nothing but padding changes nothing, whatever batch norm does."""
    changes = {"finetune__batch_norm": "train", "train__accumulate": 4, "train__num_epochs": 2}
    run = trained(tmp_path / "run", flags(blobs, **changes))
    assert all(np.isfinite(line["train_loss"]) for line in run.history())
    assert all(np.isfinite(leaf).all() for leaf in best_weights(run).values())
