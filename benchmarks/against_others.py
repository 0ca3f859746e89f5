r"""`best` beside fastai and AutoGluon: same images, folds, backbone, CPU minutes; judged by fpclass's own functions.

Each of the other two trains, for every fold of a study folder of `best`, on the images of the other folds, as its
documentation says: fastai's `vision_learner` and `fine_tune` with `aug_transforms` and the rate that `lr_find`
suggests; AutoGluon's `MultiModalPredictor` as it stands, with a timm backbone. Both get EfficientNet-Lite0 with the
weights that `best` had, at the size of its images, and the CPU minutes that `best` took for everything, divided by
its folds. Predictions of a fold are kept in OUTPUT, and folds that are there are not trained again; the others are left
out of the table, also for `best`.

CPU seconds are counted, not wall clock, so that a busy machine is as fair as an idle one. What fastai gets beyond its
minutes: the learning rate, searched for once, and test-time augmentation. AutoGluon's time limit counts CPU seconds as
well, training and its own evaluations, but not predicting.

Run: python benchmarks/against_others.py fastai STUDY OUTPUT --minutes=14 --weights=FILE.pth   (pip install fastai timm)
     python benchmarks/against_others.py autogluon STUDY OUTPUT --minutes=14 --weights=FILE.pth
     python benchmarks/against_others.py judge STUDY OUTPUT                                     (with fpclass)
     FILE.pth: as `fpclass weights fetch efficientnet_lite0` gets it. For PyTorch: MALLOC_TRIM_THRESHOLD_=-1
     MALLOC_MMAP_MAX_=0, without which half of its seconds are the system's, and OMP_NUM_THREADS=1 if others compute.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ARCHITECTURE = "tf_efficientnet_lite0"
MEAN = STD = (0.5, 0.5, 0.5)
RATE = 2e-3
"""What fastai's `fine_tune` takes where nobody looks for a rate."""
BATCH = 64

Predictions = dict[str, np.ndarray]
"""By way of predicting: log-probabilities [N, K]."""
Trainer = Callable[[pd.DataFrame, pd.DataFrame, argparse.Namespace], Predictions]


def folds_of(study: Path) -> pd.DataFrame:
    """The labelled images of a study, with columns filename, path, label, fold."""
    judged = pd.read_csv(study / "out_of_fold.csv", dtype={"filename": str})
    judged = judged[judged["config"] == judged["config"].iloc[0]]
    judged = judged.drop_duplicates("filename")[["filename", "label", "fold"]]
    table = pd.read_csv(study / "table.csv", dtype={"filename": str})[["filename", "path"]]
    return judged.merge(table, on="filename", validate="1:1")


def size_of(study: Path) -> int:
    """The side of the images that the first probe of a study read."""
    config = json.loads(next((study / "members" / "probe").glob("*/config.json")).read_text())
    return int(max(config["config"]["data"]["image_size"]))


def timm_weights(source: Path, folder: Path) -> Path:
    """The published weights under timm's names, whose layers come in the same order; without the head."""
    import timm
    import torch

    target = folder / "pytorch_model.bin"
    if target.is_file():
        return target
    published = {k: v for k, v in torch.load(source, map_location="cpu").items() if "num_batches" not in k}
    network = timm.create_model(ARCHITECTURE, pretrained=False)
    own = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    shapes = [[tuple(v.shape) for v in arrays.values()] for arrays in (published, own)]
    if shapes[0] != shapes[1]:
        raise SystemExit(f"{source}: not the layers of {ARCHITECTURE}")
    network.load_state_dict(dict(zip(own, published.values(), strict=True)), strict=False)
    folder.mkdir(parents=True, exist_ok=True)
    # AutoGluon loads strictly, into a network without its head.
    torch.save({k: v for k, v in network.state_dict().items() if not k.startswith("classifier")}, target)
    return target


def operators_of_torchvision() -> object:
    """Declares compiled operators that no network here needs, where torchvision came without them."""
    import torch

    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor a) -> Tensor")
    return library  # it undoes its definitions when it goes


def fit_fastai(train: pd.DataFrame, judged: pd.DataFrame, args: argparse.Namespace) -> Predictions:
    """`fine_tune` of a whole network for as many epochs as fit into the minutes, and one of its head before."""
    from fastai.vision import all as vision

    class Unjudged(vision.Callback):
        """Leaves out the evaluation after each epoch, which only shows how training goes."""

        def before_validate(self) -> None:
            raise vision.CancelValidException

    frame = pd.concat([train.assign(is_valid=False), judged.assign(is_valid=True)])
    frame = frame.assign(name=frame["path"].str.lstrip("/"), label=frame["label"].astype(str))

    def learner() -> Any:
        dls = vision.ImageDataLoaders.from_df(
            frame,
            path="/",
            fn_col="name",
            label_col="label",
            valid_col="is_valid",
            item_tfms=vision.Resize(args.size),
            batch_tfms=vision.aug_transforms(),
            bs=BATCH,
            num_workers=0,
        )
        weights = str(timm_weights(args.weights, args.output / "timm"))
        return vision.vision_learner(dls, ARCHITECTURE, pretrained_cfg_overlay={"file": weights})

    vision.set_seed(0)
    found = args.output / "fastai-lr_find.json"
    if not found.is_file():
        search, began = learner(), time.process_time()
        with search.no_bar():
            rate = float(search.lr_find(num_it=args.lr_find, show_plot=False).valley) if args.lr_find else RATE
        per_step = (time.process_time() - began) / args.lr_find if args.lr_find else 0.0
        found.write_text(json.dumps({"rate": rate, "seconds_per_step": per_step}))
    search = json.loads(found.read_text())
    # A step of the frozen network costs nearly as much as one of all of it: its batch norms learn in both.
    epoch = search["seconds_per_step"] * (len(train) // BATCH)
    epochs = max(1, round(args.seconds / epoch - 1)) if epoch else 1
    print(f"rate {search['rate']:.2g}, an epoch {epoch:.0f} CPU seconds, {epochs} epochs of everything", flush=True)
    learn = learner()
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(epochs, search["rate"], cbs=Unjudged())
        plain, views = learn.get_preds()[0], learn.tta()[0]
    assert list(learn.dls.vocab) == [str(k) for k in sorted(train["label"].unique())]
    return {"fastai": np.log(np.asarray(plain)), "fastai, views averaged": np.log(np.asarray(views))}


def fit_autogluon(train: pd.DataFrame, judged: pd.DataFrame, args: argparse.Namespace) -> Predictions:
    """`MultiModalPredictor` with its defaults but for the backbone, within the minutes."""
    from autogluon.multimodal import MultiModalPredictor
    from lightning.pytorch.callbacks import timer

    # The limit counts CPU seconds.
    timer.time = types.SimpleNamespace(monotonic=time.process_time)
    weights = timm_weights(args.weights, args.output / "timm")
    config = {
        "architecture": ARCHITECTURE,
        "num_features": 1280,
        "input_size": [3, args.size, args.size],
        "mean": MEAN,
        "std": STD,
        "interpolation": "bicubic",
    }
    (weights.parent / "config.json").write_text(json.dumps(config))
    predictor = MultiModalPredictor(
        label="label",
        problem_type="multiclass" if args.classes > 2 else "binary",
        path=str(args.output / "autogluon" / str(judged["fold"].iloc[0])),
    )
    predictor.fit(
        train[["path", "label"]].rename(columns={"path": "image"}),
        time_limit=args.seconds,
        seed=0,
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": str(weights.parent),
            "env.num_gpus": 0,
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
        },
    )
    p = predictor.predict_proba(judged[["path"]].rename(columns={"path": "image"}), as_pandas=False)
    return {"AutoGluon": np.log(np.maximum(np.asarray(p, np.float64), 1e-12))}


def train(fit: Trainer, args: argparse.Namespace) -> None:
    """Trains on every fold that is not there yet, and keeps what it predicts."""
    images = folds_of(args.study)
    args.size, args.classes = size_of(args.study), images["label"].nunique()
    args.seconds = 60 * args.minutes / images["fold"].nunique()
    args.output.mkdir(parents=True, exist_ok=True)
    kept = operators_of_torchvision()
    for fold in args.folds if args.folds is not None else sorted(images["fold"].unique()):
        target = args.output / f"{args.action}-{fold}.csv"
        if target.is_file():
            continue
        is_judged, began = images["fold"] == fold, time.process_time()
        judged = images[is_judged]
        parts = []
        for way, log_p in fit(images[~is_judged], judged, args).items():
            columns = {f"logit_{k}": log_p[:, k] for k in range(log_p.shape[1])}
            parts.append(pd.DataFrame({"way": way, "filename": judged["filename"].to_numpy(), **columns}))
            right = np.mean(log_p.argmax(axis=1) == judged["label"])
            print(f"fold {fold}: {way} {right:.3f}, {time.process_time() - began:.0f} CPU seconds", flush=True)
        pd.concat(parts).to_csv(target, index=False)
    del kept


def judge(args: argparse.Namespace) -> None:
    """Prints the table: scores with intervals over people, and paired differences from `best`."""
    from fpclass.common.compilation import prepare_libraries
    from fpclass.stats.cohort import Cohort
    from fpclass.stats.comparison.scores import resample_configs
    from fpclass.stats.comparison.verdicts import compare_all
    from fpclass.stats.metrics import image_log_losses
    from fpclass.stats.probabilities.ensembling import cross_fitted_ensemble
    from fpclass.study.conclude import bootstrap_of
    from fpclass.study.out_of_fold import collect
    from fpclass.study.study import Study

    prepare_libraries()
    study = Study.open(args.study)
    trained = [name for name in study.names if all(member.is_done for member in study.members(name))]
    predictions = collect(study, trained)
    settings = study.configs[study.baseline]
    ensemble = cross_fitted_ensemble(predictions.logits, predictions.cross_fitted, average=settings.predict.averaging)
    logits = {"best: its ensemble": ensemble.log_probabilities[None]} | predictions.logits
    filenames, cohort = np.array(predictions.filenames), predictions.cohort
    files = sorted(itertools.chain.from_iterable(args.output.glob(f"{tool}-*.csv") for tool in TOOLS))
    theirs = pd.concat([pd.read_csv(file, dtype={"filename": str}) for file in files])
    for way, frame in theirs.groupby("way", sort=False):
        of_way = frame.set_index("filename").drop(columns="way").reindex(filenames)
        logits[str(way)] = of_way.to_numpy(np.float64)[None]
    is_judged = np.all([np.isfinite(values[0, :, 0]) for values in logits.values()], axis=0)
    _, folds = np.unique(cohort.folds[is_judged], return_inverse=True)
    kept = Cohort(cohort.labels[is_judged], cohort.groups[is_judged], folds, cohort.class_names)
    logits = {way: values[:, is_judged] for way, values in logits.items()}
    resampled = resample_configs(logits, kept, "accuracy", bootstrap_of(settings))
    compared = compare_all(resampled, next(iter(logits)), margin=settings.study.margin)
    print(f"{len(kept)} images, {kept.num_groups} {kept.groups_are}, {kept.num_folds} of {cohort.num_folds} folds\n")
    print("| way | accuracy | difference from best | verdict | log loss |\n|---|---|---|---|---|")
    for row in rows(resampled, compared):
        print(f"| {' | '.join(row)} | {image_log_losses(logits[row[0]][0], kept.labels).mean():.3f} |")


def rows(resampled: dict[str, Any], compared: dict[str, Any]) -> Iterable[list[str]]:
    for way, of_way in resampled.items():
        other = compared.get(way)
        yield [way, str(of_way.score.mean), f"{other.difference:+}" if other else "", other.verdict if other else ""]


TOOLS: dict[str, Trainer] = {"fastai": fit_fastai, "autogluon": fit_autogluon}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("action", choices=[*TOOLS, "judge"])
    add("study", type=Path, help="folder of `best`")
    add("output", type=Path, help="folder for predictions")
    add("--minutes", type=float, default=10.0, help="CPU minutes that `best` took")
    add("--weights", type=Path, help="EfficientNet-Lite0, a .pth file")
    add("--folds", type=int, nargs="+", help="the first to be trained; all by default")
    add(
        "--lr-find",
        type=int,
        default=100,
        help="steps of lr_find; 0: fastai's own rate, and one epoch: its quick start",
    )
    args = parser.parse_args()
    args.output = args.output.resolve()
    if args.action == "judge":
        judge(args)
    else:
        train(TOOLS[args.action], args)


if __name__ == "__main__":
    main()
