"""Do the configs of a study look at the same thing? Rank correlations of their maps of the same images.

Each image's map is made by the member that never saw it, for the class that all configs together predict. Two numbers
say what a correlation is worth: that of two trainings of one config (the most that can be expected), by other seeds,
or, with one seed, by the member of the next fold, which was trained on the image; and that of maps of different images
(what the layout of the pictures alone gives). Maps of two configs are compared at the coarser one's resolution.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fpclass.common import files
from fpclass.common.console import say
from fpclass.explain.checks.agreement import NOTE, Looks, agreement_report, compare_looks
from fpclass.explain.checks.maps import BATCH_SIZE, in_batches
from fpclass.explain.methods import METHODS
from fpclass.explain.stages import default_stage
from fpclass.run.checks.map_checks import bootstrap_of
from fpclass.run.checks.ways import way_of
from fpclass.run.explain import explained
from fpclass.stats.intervals import describe_intervals
from fpclass.stats.metrics import log_softmax
from fpclass.study.maps.members import Drawn, data_of, draw_images, models_of
from fpclass.study.study import Study
from fpclass.study.trained.conclusions import untrained
from fpclass.study.trained.explain import of_one_geometry

FILE, FIGURE = "map_agreement.json", "figures/map_agreement.png"


def compare_configs(study: Study, method: str, num_images: int) -> dict[str, Any] | None:
    """Compares the maps of a study's configs, and writes `FILE` and `FIGURE`; what the file holds.

    None where there is nothing to compare: one training of one config.

    Raises:
      As `check_study`.
    """
    from fpclass.explain.checks.figures import draw_agreement
    from fpclass.report.style import save_figure

    failed = untrained(study)
    names = [name for name in study.names if name not in failed]
    drawn = draw_images(study, names, num_images)
    classes = _chosen_by_all(drawn)
    looks: dict[str, Looks] = {}
    for name in of_one_geometry(study, names, names[0])[0]:
        say(f"maps of {name}")
        found = _looks_of(study, name, method, drawn, classes)
        if found is not None:
            looks[name] = found
    if sum(len(of.maps) for of in looks.values()) < 2:
        return None
    cohort, bootstrap = drawn.predictions.cohort.take(drawn.positions), bootstrap_of(study.configs[study.baseline])
    compared = compare_looks(looks, cohort, bootstrap)
    intervals = describe_intervals(cohort, bootstrap)
    title = METHODS[method].title
    about = f"{title}, {len(cohort)} labelled images" + (f"; {intervals}" if intervals else "")
    report = agreement_report(compared, title, f"{about}. {NOTE}", FIGURE)
    result = {
        "method": method,
        "stages": {name: of.stage for name, of in looks.items()},
        "num_images": len(cohort),
        "num_groups": cohort.num_groups,
        "interval": intervals,
        **compared,
        "left_out": [name for name in study.names if name not in looks],
        "report": report,
    }
    files.write_json(study.path(FILE), result)
    save_figure(draw_agreement(compared, title, about), study.path(FIGURE))
    return result


def _chosen_by_all(drawn: Drawn) -> Int[np.ndarray, " m"]:
    """The class of each image that all configs together predict."""
    of_configs: Mapping[str, np.ndarray] = drawn.predictions.logits
    means = [log_softmax(logits[:, drawn.positions]).mean(axis=0) for logits in of_configs.values()]
    return np.mean(means, axis=0).argmax(axis=-1)


def _looks_of(study: Study, name: str, method: str, drawn: Drawn, classes: Int[np.ndarray, " m"]) -> Looks | None:
    """Maps of a config by each seed, and by the next fold's member where there is one seed; None without stages."""
    config, num_folds = study.configs[name], study.num_splits
    prepared, rows = data_of(study, name, drawn)
    maps: dict[object, Float[np.ndarray, "m h w"]] = {}
    stage = ""
    for seed, fold, best in models_of(study, name, prepared.table.num_classes):
        wanted: dict[object, np.ndarray] = {seed: np.flatnonzero(drawn.folds == fold)}
        if study.num_seeds == 1 and num_folds > 1:
            wanted["next fold"] = np.flatnonzero((drawn.folds + 1) % num_folds == fold)
        for training, own in wanted.items():
            if not len(own):
                continue
            model, inputs = explained(best, np.asarray(prepared.images[rows[own]]))
            stage = config.explain.stage or default_stage(model, inputs)
            if METHODS[method].needs_stage and not stage:
                return None
            way = way_of(model, METHODS[method], stage)
            compute = in_batches(functools.partial(way.make_maps, best.variables), BATCH_SIZE)
            heat = compute(np.asarray(inputs), classes[own])
            of_all = maps.setdefault(training, np.full((len(rows), *heat.shape[1:]), np.nan, np.float32))
            of_all[own] = heat
    return Looks(stage, list(maps.values()), is_same_data=study.num_seeds > 1)
