"""Grad-CAM of the images on which the chosen ensemble of a study was most wrong: the mean of its members' maps.

Only of members that never saw the image or its person: those of the fold that holds it. Each member's map is scaled by
its own largest value, because logits of different networks have no common unit; the mean weighs configs as the
ensemble does. How far the members agree stands beside it, and grad_cam.npz keeps every member's map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from fpclass import files
from fpclass.data.resize import Decoding
from fpclass.report.style import save_figure
from fpclass.run.explain import FEATURE_MAPS, draw_feature_maps, has_stages, maps_of, no_stages, titles_of
from fpclass.run.prepare import check_same_data, note_of, prepare
from fpclass.stats.probabilities.ensembling import average_members, weighted_average
from fpclass.study.out_of_fold import collect
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import ChosenEnsemble, best_models

FIGURE, MAPS = "figures/grad_cam_worst.png", "grad_cam.npz"


@dataclasses.dataclass(frozen=True)
class Worst:
    """The images with the highest loss of the ensemble out of fold, worst first.

    Attributes:
      filenames: [n].
      labels: class index [n].
      folds: that hold them [n].
      probabilities: of the ensemble, calibrated, [n, K].
    """

    filenames: np.ndarray
    labels: Int[np.ndarray, " n"]
    folds: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n K"]


def explain_study(study: Study) -> list[str]:
    """Writes figures/grad_cam_worst.png, figures/feature_maps.png and grad_cam.npz of a study; says what they show.

    Raises:
      RunError: the study is not finished, or a member's checkpoint is missing or damaged; the data have changed.
      ConfigError: `explain.stage` is no stage of some config's network, or has no places.
    """
    from fpclass.explain.figures import grad_cam_grid

    ensemble = ChosenEnsemble.read(study)
    settings = study.configs[study.baseline]
    worst = find_worst(study, ensemble, settings.explain.num_images)
    weight_of = {n: w for n, w in ensemble.weights.items() if has_stages(study.configs[n], len(ensemble.classes))}
    unseen = [no_stages(study.configs[name]) for name in ensemble.weights if name not in weight_of]
    if not weight_of:
        return unseen
    shown_as = max(weight_of, key=lambda name: weight_of[name])
    names, left_out = _of_one_geometry(study, weight_of, shown_as)
    images, maps, weights, members = {}, [], [], []
    shapes = None
    for name in names:
        images[name], of_files = _images_of(study, name, worst.filenames)
        shapes = of_files if name == shown_as else shapes
        of_seeds = member_maps(study, name, images[name], worst, ensemble, images[shown_as].shape[1:3])
        maps += of_seeds
        weights += [ensemble.weights[name] / len(of_seeds)] * len(of_seeds)
        members += [f"{name}, seed {study.configs[name].seed + i}" for i in range(len(of_seeds))]
    stacked = np.stack(maps)
    mean = np.einsum("m,mnhw->nhw", np.array(weights) / sum(weights), stacked)
    titles = titles_of(worst.filenames, worst.labels, worst.probabilities, ensemble.class_names)
    agreements = agreement(stacked)
    if len(maps) > 1:
        titles = [
            f"{title}; maps of {len(maps)} members correlate by {r:.2f}"
            for title, r in zip(titles, agreements, strict=True)
        ]
    note = note_of(ensemble.is_synthetic)
    is_right = (worst.probabilities.argmax(axis=1) == worst.labels).tolist()
    save_figure(
        grad_cam_grid(images[shown_as], scaled(mean), titles, is_right, note=note, shapes=shapes), study.path(FIGURE)
    )
    of_members = best_models(study, shown_as, len(ensemble.classes))
    first = next(best for member, best in of_members if member.fold == worst.folds[0])
    draw_feature_maps(first, study.path(FEATURE_MAPS), images[shown_as][0], titles[0], note=note, shapes=shapes)
    with files.replacing(study.path(MAPS)) as temporary:
        predicted = worst.probabilities.argmax(axis=1)
        np.savez(
            temporary,
            filename=worst.filenames.astype(str), predicted=predicted, fold=worst.folds, mean=mean, maps=stacked,
            member=np.array(members), weight=np.array(weights), agreement=agreements,
        )  # fmt: skip
    what = f"Grad-CAM: the mean over {len(maps)} members that never saw the image, weighted as the ensemble is"
    correlation = f"; their maps correlate by {np.mean(agreements):.2f} on average" if len(maps) > 1 else ""
    unlike = [f"left out: {name}, whose images are cut to another shape" for name in left_out]
    return [what + correlation, *unseen, *unlike]


def find_worst(study: Study, ensemble: ChosenEnsemble, num_images: int) -> Worst:
    """The labelled images of which the ensemble was most wrong, by members that never saw them."""
    predictions = collect(study, ensemble.weights, ensemble.class_names)
    averaged = {name: average_members(logits, ensemble.average) for name, logits in predictions.logits.items()}
    weighted = weighted_average(averaged, ensemble.weights, ensemble.average)
    log_probabilities, cohort = ensemble.rule.calibration.apply(weighted), predictions.cohort
    losses = -weighted[np.arange(len(cohort)), cohort.labels]  # calibrated ones may all be 0
    worst = np.argsort(-losses, kind="stable")[:num_images]
    names = np.array(predictions.filenames, object)[worst]
    return Worst(names, cohort.labels[worst], cohort.folds[worst], np.exp(log_probabilities[worst]))


def member_maps(
    study: Study,
    name: str,
    images: UInt8[np.ndarray, "n h w c"],
    worst: Worst,
    ensemble: ChosenEnsemble,
    shape: tuple[int, int],
) -> list[Float[np.ndarray, "n H W"]]:
    """Of every seed of a config the scaled maps of the images, each by the member of its fold, enlarged to a shape."""
    from fpclass.explain.figures import resize_map

    config, predicted = study.configs[name], worst.probabilities.argmax(axis=1)
    by_seed: dict[int, Float[np.ndarray, "n H W"]] = {}
    for member, best in best_models(study, name, len(ensemble.classes)):
        of_seed = by_seed.setdefault(member.seed, np.zeros((len(images), *shape)))
        own = np.flatnonzero(worst.folds == member.fold)
        if len(own):
            raw, _ = maps_of(best, images[own], predicted[own], config.explain.stage)
            of_seed[own] = [resize_map(heat, shape) for heat in scaled(raw)]
    return list(by_seed.values())


def agreement(maps: Float[np.ndarray, "m n h w"]) -> Float[np.ndarray, " n"]:
    """Mean correlation of the members' maps of each image, over all pairs of members; a map of zeros has none, so 0."""
    flat = maps.reshape(*maps.shape[:2], -1)
    centred = flat - flat.mean(axis=-1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    unit = centred / np.where(norms > 0, norms, 1)
    pairs = np.einsum("anp,bnp->nab", unit, unit)
    above = np.triu_indices(len(maps), 1)
    return pairs[:, *above].mean(axis=1) if len(maps) > 1 else np.ones(maps.shape[1])


def scaled(maps: np.ndarray) -> np.ndarray:
    """Each map divided by its own maximum."""
    from fpclass.explain.maps import scale_maps

    return np.asarray(scale_maps(jnp.asarray(maps)))


def _of_one_geometry(study: Study, names: Sequence[str] | dict[str, float], first: str) -> tuple[list[str], list[str]]:
    """Configs whose maps lie on the images of the first one, that one first; and those whose do not."""

    def geometry(name: str) -> tuple[object, ...]:
        decoding = Decoding.of(study.configs[name].data)
        height, width = decoding.image_size
        return (decoding.resize, height / width if decoding.resize != "stretch" else 0)

    alike = [name for name in names if geometry(name) == geometry(first) and name != first]
    return [first, *alike], [name for name in names if name not in (first, *alike)]


def _images_of(
    study: Study, name: str, filenames: np.ndarray
) -> tuple[UInt8[np.ndarray, "n h w c"], Int[np.ndarray, "n 2"] | None]:
    """Images as a config has them decoded, from the data that the study began with; the shapes to show them in."""
    run = study.members(name)[0].run
    prepared = prepare(run.config)
    check_same_data(run, prepared)
    place = {filename: row for row, filename in enumerate(prepared.table.rows["filename"])}
    rows = np.array([place[filename] for filename in filenames])
    return prepared.images[rows], prepared.table.shapes(rows)
