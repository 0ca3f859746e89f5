"""What judging a study takes: wall clock, CPU and memory, part by part, from drawn predictions.

Claim, on two CPU cores: everything that `launch.py study` does after training takes under 60 s for 24 configs x 5 folds
x 3 seeds of 1,570 images, and under 60 s and 4 GiB for two configs of 100,000 images, with 2,000 resamples.

Run: python benchmarks/judge.py                                                               (the first claim)
     python benchmarks/judge.py --configs 2 --seeds 1 --images 100000 --people 10000              (the second)
     python benchmarks/judge.py --configs 2 --seeds 1 --images 100000 --people 100000     (nobody has two images)
     python benchmarks/judge.py --configs 3 --output BEFORE --profile judge.prof     (to compare and to look at)

Nothing is trained: a folder of SYNTHETIC members is written in a process of its own, with logits drawn so that the
images of a person err alike, configs are of different strength, and every training has noise of its own. Then
`conclude` reads, judges and draws it as after training, with a subgroup column, a positive class, 200 rows to predict.
Seconds of a part are its own, without those of parts that it calls; memory is the peak of the process until its end.

Left out: the grid of images (there are none), labelled test images, the comparison of splits (`--compare-splits`, which
doubles the members), opening of checkpoints (there are none), and starting Python.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass.common import files
from fpclass.data.table import COLUMN
from fpclass.experiment import load_config
from fpclass.study import conclude
from fpclass.study.study import Study

NUM_CLASSES, NUM_PREDICT, NUM_EPOCHS = 2, 200, 5
PARTS = {
    "collect": "reading members",
    "write_tables": "out_of_fold.csv, test_predictions.csv",
    "resample_configs": "scores and resamples of configs",
    "judge": "table: comparisons",
    "judge_choice": "choice",
    "judge_ensemble": "ensemble, calibration, decisions",
    "pool_ensemble": "pooling of people",
    "sharpening_of": "sharpening",
    "collect_labelled_test": "looking for test images",
    "answer_referee": "people, evidence, diagnostics",
    "study_subgroups": "subgroups",
    "draw_gallery": "figures of all configs",
    "tests_for_reviewers": "clustered tests",
    "training_table": "table of trainings",
    "reports_markdown": "classification reports",
    "study_figure": "figure of the table",
    "save_figure": "saving of figures",
    "_write": "study.csv, study.md, results.json",
    "write_study_checklist": "checklist",
    "conclude": "the rest",
}
"""Functions of `fpclass.study.conclude` that are timed, in the order in which they are shown."""


def make_study(folder: Path, args: argparse.Namespace) -> Study:
    """The plan of the study; its configs are the footprint baseline by other names."""
    config = load_config("configs/footprints/baseline.py")
    config.data.root = str(folder / "no_images")
    config.evaluate.positive_class = "1"
    config.evaluate.subgroups = ("hand",)
    config.evaluate.num_resamples = args.resamples
    configs = {}
    for c in range(args.configs):
        name = "baseline" if c == 0 else f"config{c:02d}"
        configs[name] = ConfigDict({**config.to_dict(), "name": name}).lock()
    return Study(folder, configs, args.folds, args.seeds, "baseline")


def draw_study(folder: Path, args: argparse.Namespace) -> None:
    """Writes what training leaves in the folders of all members, but for checkpoints."""
    study, rng = make_study(folder, args), np.random.default_rng(0)
    person = np.sort(np.concatenate([np.arange(args.people), rng.integers(0, args.people, args.images - args.people)]))
    label, fold = person % NUM_CLASSES, person // NUM_CLASSES % args.folds
    signal = 1.2 * (2 * label - 1) + rng.normal(size=args.people)[person] + rng.normal(size=args.images)
    named = [f"image{i:06d}" for i in range(args.images)]
    images = pd.DataFrame({"filename": named, "group": np.char.add("p", person.astype(str)), "label": label})
    splits = images.assign(unit=images["group"], fold=fold, role=np.where(fold == 0, "validation", "train"))
    to_predict = pd.DataFrame({"filename": [f"new{i:03d}" for i in range(NUM_PREDICT)], "group": "", "label": -1})
    hands = np.where(rng.random(args.images) < 0.5, "left", "right")
    folder.mkdir(parents=True, exist_ok=True)
    for c, name in enumerate(study.configs):
        of_config = signal * rng.normal(1, 0.05) + 0.02 * c + rng.normal(scale=0.8, size=args.images)
        for member in study.members(name):
            rows = np.flatnonzero(fold == member.fold)
            margin = of_config[rows] + rng.normal(scale=0.2) + rng.normal(scale=0.5, size=len(rows))
            _write_member(member.run.folder, splits, images.iloc[rows], margin, to_predict, rng)
    files.write_csv(folder / "table.csv", images.assign(**{f"{COLUMN}hand": hands}))  # last: what is there is whole


def _write_member(
    folder: Path, splits: pd.DataFrame, judged: pd.DataFrame, margin: np.ndarray, others: pd.DataFrame, rng: Any
) -> None:
    described = {"classes": ["0", "1"], "class_names": ["woman", "man"], "trained_on": "drawn", "is_synthetic": True}
    files.write_json(folder / "model.json", described)
    if not (folder.parent / "splits.csv").exists():  # the same for all members but for who validates
        files.write_csv(folder.parent / "splits.csv", splits)
    (folder / "splits.csv").hardlink_to(folder.parent / "splits.csv")
    for name, frame, split, logits in (
        ("predictions.csv", judged, "validation", margin),
        ("test_predictions.csv", others, "predict", rng.normal(size=len(others))),
    ):
        halves = {"logit_0": (-logits / 2).astype(np.float32), "logit_1": (logits / 2).astype(np.float32)}
        files.write_csv(folder / name, frame.assign(member=folder.name, split=split, **halves))
    lines = [
        f'{{"epoch": {epoch}, "train_accuracy": 0.7, "train_loss": 0.6, "train_precision": 0.7, '
        f'"validation_accuracy": 0.7, "validation_loss": 0.6, "validation_macro_f1": 0.7, "seconds": 0.5}}\n'
        for epoch in range(1, NUM_EPOCHS + 1)
    ]
    files.write_text(folder / "log.jsonl", "".join(lines))


class Clock:
    """Wall and CPU seconds of functions, each without those of timed ones that it calls, and the peak of memory."""

    def __init__(self) -> None:
        self.spent: dict[str, np.ndarray] = {}
        self.peak: dict[str, float] = {}
        self._inner = [np.zeros(2)]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which from now on is timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(np.zeros(2))
            start = np.array([time.perf_counter(), time.process_time()])
            try:
                return function(*args, **kwargs)
            finally:
                total = np.array([time.perf_counter(), time.process_time()]) - start
                self.spent[name] = self.spent.get(name, 0) + total - self._inner.pop()
                self._inner[-1] += total
                self.peak[name] = peak_memory()

        return call


def peak_memory() -> float:
    """Of this process, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=24)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1570)
    parser.add_argument("--people", type=int, default=157)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the study there; draw it only where it is new")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write a profile of the functions, which slows")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.output or Path(scratch, "study")
        if not (folder / "table.csv").exists():
            drawing = multiprocessing.get_context("spawn").Process(target=draw_study, args=(folder, args))
            drawing.start()
            drawing.join()
            if drawing.exitcode:
                sys.exit("the study could not be drawn")
        started, clock = peak_memory(), Clock()
        for name in PARTS:
            setattr(conclude, name, clock.timed(name, getattr(conclude, name)))
        profile = cProfile.Profile() if args.profile else contextlib.nullcontext()
        with contextlib.redirect_stderr(io.StringIO()), profile:  # it says why there is no grid of images
            conclude.conclude(make_study(folder, args), {})
        if args.profile:
            profile.dump_stats(args.profile)
    print(f"SYNTHETIC predictions of {args.configs} configs x {args.folds} folds x {args.seeds} seeds: {args.images} ")
    print(f"images of {args.people} people, {args.resamples} resamples; memory at the start {started:.2f} GiB\n")
    print(f"{'part':<40} {'wall s':>8} {'CPU s':>8} {'peak GiB':>9}")
    for name, title in PARTS.items():
        if name in clock.spent:
            print(f"{title:<40} {clock.spent[name][0]:8.2f} {clock.spent[name][1]:8.2f} {clock.peak[name]:9.2f}")
    wall, cpu = sum(clock.spent.values())
    print(f"{'all':<40} {wall:8.2f} {cpu:8.2f} {peak_memory():9.2f}")


if __name__ == "__main__":
    main()
