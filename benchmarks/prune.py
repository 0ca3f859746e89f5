r"""Magnitude pruning of a study's networks: what is lost, how small the file becomes when compressed, how fast it is.

Of every fold's member of a config the smallest weights of convolutions and dense layers are set to zero, a share of all
of them together; then it is trained on for a few epochs by the same images, at a lower rate, with those weights kept at
zero. Both are judged on the images of the fold, which neither saw: the difference from the whole network is paired,
over people. The file is the StableHLO export, compressed by gzip; its time, of one image on one core by the CPU's clock
and by turns, is relative to the whole network's. Zeros compress; they are multiplied all the same.

Run: python benchmarks/prune.py runs/study exp20_gap_head
     python benchmarks/prune.py runs/prints cut_and_tuned --folds 2 --epochs 1 --shares 0.5 0.7
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from fpclass.config import Config
from fpclass.data.splits import VALIDATION
from fpclass.deploy.formats import FORMATS
from fpclass.report.text_tables import align_columns
from fpclass.run.best import BestModel
from fpclass.run.predictor import Predictor, predictor_of_run
from fpclass.run.prepare import Prepared, prepare_again
from fpclass.run.train import make_member
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import resample_configs
from fpclass.stats.comparison.verdicts import compare_all
from fpclass.stats.intervals import Bootstrap, format_number
from fpclass.study.study import Study, StudyMember
from fpclass.train.placement import Placement, place_run
from fpclass.train.trained import Variables

WHOLE = "whole"
NUM_TIMED = 40


def masks_of(params: Variables, share: float) -> Variables:
    """1 for the weights that stay, 0 for this share of all kernels, the smallest by magnitude; biases stay."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(params).items()}
    kernels = {path: leaf for path, leaf in flat.items() if path[-1] == "kernel"}
    threshold = np.quantile(np.abs(np.concatenate([leaf.ravel() for leaf in kernels.values()])), share)
    masks = {path: np.abs(leaf) > threshold if path in kernels else np.ones_like(leaf) for path, leaf in flat.items()}
    return unflatten_dict({path: np.float32(mask) for path, mask in masks.items()})


def tuning_config(config: Config, epochs: int, rate: float) -> Config:
    """All of the network learns, from weights that it has, for a few epochs at a share of its rate."""
    tuned: Any = ConfigDict(config.to_dict())
    tuned.train.num_epochs, tuned.train.early_stopping, tuned.train.ema_decay = epochs, "none", 0.0
    tuned.optim.learning_rate, tuned.optim.schedule = rate * config.optim.learning_rate, "constant"
    tuned.finetune.freeze_before, tuned.finetune.num_frozen, tuned.finetune.unfreeze = "", 0, ()
    tuned.finetune.cache_views, tuned.finetune.from_probe = 0, False
    return tuned.lock()


def tune(placement: Placement, config: Config, prepared: Prepared, variables: Variables, masks: Variables) -> Variables:
    """Trains on, with what is masked kept at zero after every step."""
    engine, member = placement.engine, make_member(config, prepared)
    masked = jax.jit(lambda params: jax.tree.map(jnp.multiply, params, masks))
    on_device = engine.put_members([member])
    state = engine.init(on_device, placement.dataset)
    of_trained = {kind: jax.tree.map(jnp.array, variables[kind]) for kind in ("params", "batch_stats")}
    state = dataclasses.replace(state, **of_trained)
    for _ in range(config.train.num_epochs):
        for i in range(engine.num_batches(on_device)):
            at = np.int32(i), np.int32(i + 1)
            state, _ = engine.train_parts[0](state, on_device, placement.dataset, engine.hyper, *at)
            state = dataclasses.replace(state, params=masked(state.params))
    return {"params": jax.device_get(state.params), "batch_stats": jax.device_get(state.batch_stats)}


def prune_member(
    member: StudyMember, prepared: Prepared, shares: Sequence[float], epochs: int, rate: float
) -> dict[str, tuple[Variables, np.ndarray]]:
    """The variables of each way, and the logits that they give for the images of the member's fold."""
    config = tuning_config(member.run.config, epochs, rate)
    own = prepared.divided(config)
    best = BestModel(member.run, prepared.table.num_classes)
    whole = jax.device_get(best.variables)
    placement = place_run(config, own.table, own.images) if epochs else None
    ways = {WHOLE: whole}
    if placement:
        ways[f"{WHOLE}, tuned"] = tune(placement, config, own, whole, jax.tree.map(np.ones_like, whole["params"]))
    for share in shares:
        masks = masks_of(whole["params"], share)
        cut = {**whole, "params": jax.tree.map(np.multiply, whole["params"], masks)}
        ways[f"{share:.0%} cut"] = cut
        if placement:
            ways[f"{share:.0%} cut, tuned"] = tune(placement, config, own, cut, masks)
    found = {}
    for name, variables in ways.items():
        other = best.of_member(member.run)
        other.__dict__["variables"] = variables
        found[name] = variables, other.predict(prepared.images, own.splits.rows(VALIDATION))
        print(f"fold {member.fold}: {name}", flush=True)
    return found


def exported(predictor: Predictor, variables: Variables) -> tuple[bytes, Any]:
    """The export of a network with these variables, and what runs it."""
    (name, (network,)) = next(iter(predictor.members.items()))
    own = dataclasses.replace(predictor, members={name: [network.with_weights(lambda: variables)]})
    stablehlo = FORMATS["stablehlo"]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / stablehlo.filename
        stablehlo.write(own, path, [])
        return path.read_bytes(), stablehlo.load(path)


def times(runs: dict[str, Any], image: np.ndarray) -> dict[str, float]:
    """Median CPU seconds of one image, by turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(NUM_TIMED + 2):
        for name, run in runs.items():
            began = time.process_time()
            run([image])
            taken[name] += [time.process_time() - began] * (i >= 2)  # the first ones compile
    return {name: float(np.median(of)) for name, of in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=pathlib.Path)
    parser.add_argument("config")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.3, 0.5, 0.7, 0.9])
    parser.add_argument("--folds", type=int, default=0, help="so many of them; default: all")
    parser.add_argument("--epochs", type=int, default=5, help="of training on; 0: none")
    parser.add_argument("--rate", type=float, default=0.3, help="of training on, a share of the config's")
    args = parser.parse_args()
    study = Study.open(args.study)
    members = [m for m in study.members(args.config) if m.seed == study.configs[args.config].seed]
    members = members[: args.folds or len(members)]
    prepared = prepare_again(members[0].run)
    of_each = [prune_member(member, prepared, args.shares, args.epochs, args.rate) for member in members]
    rows = [prepared.divided(member.run.config).splits.rows(VALIDATION) for member in members]
    at, folds = np.concatenate(rows), np.repeat(np.arange(len(rows)), list(map(len, rows)))
    units = prepared.splits.frame["unit"].to_numpy(str)[at]
    cohort = Cohort(prepared.table.labels[at], units, folds, prepared.table.class_names)
    logits = {name: np.concatenate([of[name][1] for of in of_each])[None] for name in of_each[0]}
    scores: dict[str, list[str]] = {name: [] for name in logits}
    for metric in ("accuracy", "log_loss"):
        resampled = resample_configs(logits, cohort, metric, Bootstrap(2000, 0.95))
        compared = compare_all(resampled, WHOLE, margin=0.02)
        for name in logits:
            scores[name] += [format_number(resampled[name].score.mean.value)]
            scores[name] += [format(compared[name].difference, "+") if name in compared else ""]
    predictor = predictor_of_run(members[0].run)
    made = {name: exported(predictor, variables) for name, (variables, _) in of_each[0].items()}
    seconds = times({name: run for name, (_, run) in made.items()}, prepared.images[np.array([rows[0][0]])])
    table = [["", "accuracy", "difference", "log loss", "difference", "MB", "MB, gzip", "time"]]
    for name, (data, _) in made.items():
        sizes = [f"{len(each) / 1e6:.2f}" for each in (data, gzip.compress(data, 9))]
        table.append([name, *scores[name], *sizes, f"{seconds[name] / seconds[WHOLE]:.2f}"])
    print("\n".join(align_columns(table)))
    print(f"{len(at)} images of {cohort.num_groups} people, {len(members)} folds; {args.epochs} epochs of training on")


if __name__ == "__main__":
    main()
