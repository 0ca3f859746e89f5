"""Maps of images by the chosen ensemble of a study: the mean of its members' maps.

Of labelled images only by members that never saw the image or its person, those of the fold that holds it; of new ones
by all. Each member's map is scaled by its own largest value, because logits of different networks have no common unit;
the mean weighs configs as the ensemble does. How far the members agree stands beside it, and the arrays keep every
member's map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from fpclass.data.resize import Decoding
from fpclass.explain.figures import resize_map
from fpclass.explain.maps import scale_maps
from fpclass.explain.request import DEFAULT, FILES, WHICH, Request
from fpclass.explain.targets import Target
from fpclass.run.explain import FEATURE_MAPS, draw_feature_maps, has_stages, maps_of, no_stages, stage_notes
from fpclass.run.folder import Run
from fpclass.run.prepare import note_of, prepare_again
from fpclass.run.sheets.chosen import Chosen, Named, decode_named, file_shapes, find_named, ranked, target_of
from fpclass.run.sheets.sheet import Drawn, write_sheet
from fpclass.stats.probabilities.ensembling import average_members, weighted_average
from fpclass.study.out_of_fold import OutOfFold, collect
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import ChosenEnsemble, best_models, predictor_of_study

ALL_FOLDS = -1
"""The fold of an image that no member has seen."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Images whose maps are wanted, as the ensemble predicts them.

    Attributes:
      filenames: [n].
      labels: class index [n].
      folds: that hold them, or `ALL_FOLDS`, [n].
      probabilities: of the ensemble, calibrated, [n, K].
      named: where they were named, in place of being ranked.
    """

    filenames: np.ndarray
    labels: Int[np.ndarray, " n"]
    folds: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n K"]
    named: Sequence[Named] = ()


@dataclasses.dataclass(frozen=True)
class OfMember:
    """The maps of one seed of a config, each by the members that never saw the image.

    Attributes:
      size: (height, width) in which the stage gave them.
      scaled: by their own largest value, enlarged to one size, [n, H, W].
      largest: of the raw maps, [n].
    """

    name: str
    seed: int
    stage: str
    size: tuple[int, int]
    scaled: Float[np.ndarray, "n H W"]
    largest: Float[np.ndarray, " n"]


def explain_study(study: Study, request: Request = DEFAULT) -> tuple[list[str], list[str]]:
    """Writes a sheet of maps of a study, and for the default one feature maps; what it shows, and the files written.

    Raises:
      RunError: the study is not finished, or a member's checkpoint is missing or damaged; the data have changed.
      ConfigError: `explain.stage` is no stage of some config's network, or has no places; no such class.
      DataError: a file that is not there, or no image.
    """
    ensemble = ChosenEnsemble.read(study)
    num_classes, note = len(ensemble.classes), note_of(ensemble.is_synthetic)
    needs_stage = request.of_method.needs_stage
    weight_of = {
        n: w for n, w in ensemble.weights.items() if not needs_stage or has_stages(study.configs[n], num_classes)
    }
    unseen = [no_stages(study.configs[name]) for name in ensemble.weights if name not in weight_of]
    if not weight_of:
        return unseen, []
    wanted = find_named_images(study, ensemble, request) if request.which == FILES else rank(study, ensemble, request)
    shown_as = max(weight_of, key=lambda name: weight_of[name])
    names, left_out = of_one_geometry(study, weight_of, shown_as)
    images = {name: _images_of(study, name, wanted) for name in names}
    chosen = _chosen(wanted, request, *images[shown_as])
    target, about = target_of(request, chosen, (ensemble.class_names, ensemble.classes))
    size = chosen.images.shape[1:3]
    members = [
        member for name in names for member in member_maps(study, name, images[name][0], wanted, target, request, size)
    ]
    weights = np.array([ensemble.weights[m.name] / sum(m.name == o.name for o in members) for m in members])
    agreements = agreement(np.stack([member.scaled for member in members]))
    titles = chosen.titles(ensemble.class_names)
    if len(members) > 1:
        maps = f"maps of {len(members)} members correlate by"
        titles = [f"{title}; {maps} {r:.2f}" for title, r in zip(titles, agreements, strict=True)]
    drawn = _drawn(study, members, weights, wanted, agreements)
    written = write_sheet(study.folder, request, chosen, drawn, about, ensemble.class_names, note, titles)
    if request == DEFAULT:
        first = next(
            best for member, best in best_models(study, shown_as, num_classes) if member.fold == wanted.folds[0]
        )
        image, shapes, title = chosen.images[0], chosen.shapes, chosen.titles(ensemble.class_names)[0]
        draw_feature_maps(first, study.path(FEATURE_MAPS), image, title, note=note, shapes=shapes)
        written.insert(1, FEATURE_MAPS)
    who = "members that never saw the image" if (wanted.folds != ALL_FOLDS).all() else "members"
    what = f"{request.of_method.title}: the mean over {len(members)} {who}, weighted as the ensemble is"
    correlation = f"; their maps correlate by {np.mean(agreements):.2f} on average" if len(members) > 1 else ""
    unlike = [f"left out: {name}, whose images are cut to another shape" for name in left_out]
    return [what + correlation, *unseen, *unlike], [name for name in written if study.path(name).is_file()]


def rank(study: Study, ensemble: ChosenEnsemble, request: Request) -> Wanted:
    """The labelled images that a request ranks by their predictions, by members that never saw them."""
    predictions = collect(study, ensemble.weights, ensemble.class_names)
    losses, probabilities = _judged(ensemble, predictions)
    settings = study.configs[study.baseline]
    places = ranked(request.which, losses, probabilities, settings.explain.num_images, settings.seed)
    cohort, names = predictions.cohort, np.array(predictions.filenames, object)
    return Wanted(names[places], cohort.labels[places], cohort.folds[places], probabilities[places])


def find_named_images(study: Study, ensemble: ChosenEnsemble, request: Request) -> Wanted:
    """Images that were named: labelled ones by members that never saw them, others by all."""
    named = find_named(Run(study.folder, study.configs[study.baseline]), request.files)
    predictions = collect(study, ensemble.weights, ensemble.class_names)
    _, out_of_fold = _judged(ensemble, predictions)
    place = {name: i for i, name in enumerate(predictions.filenames)}
    folds, probabilities = np.full(len(named), ALL_FOLDS), np.zeros((len(named), len(ensemble.classes)))
    new = [i for i, image in enumerate(named) if image.name not in place]
    for i, image in enumerate(named):
        if image.name in place:
            folds[i] = predictions.cohort.folds[place[image.name]]
            probabilities[i] = out_of_fold[place[image.name]]
    if new:
        frame = predictor_of_study(study).predict([named[i].path for i in new], [named[i].name for i in new])
        probabilities[new] = frame[[f"probability_{value}" for value in ensemble.classes]].fillna(0).to_numpy()
    labels = np.array([image.label for image in named])
    return Wanted(np.array([image.name for image in named], object), labels, folds, probabilities, named)


def member_maps(
    study: Study,
    name: str,
    images: UInt8[np.ndarray, "n h w c"],
    wanted: Wanted,
    target: Target,
    request: Request,
    size: tuple[int, int],
) -> list[OfMember]:
    """Of every seed of a config the maps of images, each by the member of its fold, or the mean of all its folds."""
    config, num_classes = study.configs[name], wanted.probabilities.shape[1]
    by_seed: dict[int, OfMember] = {}
    for member, best in best_models(study, name, num_classes):
        zeros = OfMember(name, member.seed, "", size, np.zeros((len(images), *size)), np.zeros(len(images)))
        of_seed = by_seed.setdefault(member.seed, zeros)
        own = np.flatnonzero((wanted.folds == member.fold) | (wanted.folds == ALL_FOLDS))
        if len(own):
            about = Target(target.classes[own], target.against[own], target.kind)
            raw, stage = maps_of(best, images[own], about, config.explain.stage, request.method, request.baseline)
            share = np.where(wanted.folds[own] == ALL_FOLDS, 1 / study.num_splits, 1)
            enlarged = resize_map(scale_maps(raw), size)
            of_seed.scaled[own] += share[:, None, None] * enlarged
            of_seed.largest[own] += share * raw.max(axis=(1, 2))
            by_seed[member.seed] = dataclasses.replace(of_seed, stage=stage, size=raw.shape[1:])
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


def of_one_geometry(study: Study, names: Sequence[str] | dict[str, float], first: str) -> tuple[list[str], list[str]]:
    """Configs whose maps lie on images of the same cut as the first one's, that one first; and those whose do not."""

    def geometry(name: str) -> tuple[object, ...]:
        decoding = Decoding.of(study.configs[name].data)
        height, width = decoding.image_size
        return decoding.resize, decoding.crop, height / width if decoding.resize != "stretch" else 0

    alike = [name for name in names if geometry(name) == geometry(first) and name != first]
    return [first, *alike], [name for name in names if name not in (first, *alike)]


def _images_of(
    study: Study, name: str, wanted: Wanted
) -> tuple[UInt8[np.ndarray, "n h w c"], Int[np.ndarray, "n 2"] | None]:
    """Images as a config has them decoded; the shapes to show them in. Ranked ones are those the study began with."""
    run = study.members(name)[0].run
    if wanted.named:
        return decode_named(wanted.named, run.config), file_shapes(wanted.named, run.config)
    prepared = prepare_again(run)
    rows = prepared.table.rows_of(wanted.filenames)
    return prepared.images[rows], prepared.table.shapes(rows)


def _judged(
    ensemble: ChosenEnsemble, predictions: OutOfFold
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N K"]]:
    """Losses and calibrated probabilities of labelled images by members that never saw them."""
    averaged = {name: average_members(logits, ensemble.average) for name, logits in predictions.logits.items()}
    weighted = weighted_average(averaged, ensemble.weights, ensemble.average)
    losses = -weighted[np.arange(len(predictions.cohort)), predictions.cohort.labels]  # calibrated ones may all be 0
    return losses, np.exp(ensemble.rule.calibration.apply(weighted))


def _chosen(
    wanted: Wanted, request: Request, images: UInt8[np.ndarray, "n h w c"], shapes: Int[np.ndarray, "n 2"] | None
) -> Chosen:
    """The images of a sheet."""
    words = f"the {len(images)} labelled images {WHICH.get(request.which, '')}"
    if wanted.named:
        words = f"{len(images)} images by name"
    is_learnt = (wanted.folds == ALL_FOLDS) & (wanted.labels >= 0)
    remarks = ["the members learnt from this image" if learnt else "" for learnt in is_learnt]
    return Chosen(wanted.filenames, images, wanted.labels, wanted.probabilities, words, shapes, remarks)


def _drawn(
    study: Study,
    members: Sequence[OfMember],
    weights: Float[np.ndarray, " m"],
    wanted: Wanted,
    agreements: Float[np.ndarray, " n"],
) -> Drawn:
    """The mean of the maps of members, and those of each as arrays."""
    stacked = np.stack([member.scaled for member in members])
    largest = np.stack([member.largest for member in members])
    mean = np.einsum("m,mnhw->nhw", weights / weights.sum(), stacked)
    spans = [f"{of.min():.2g}" + (f" to {of.max():.2g}" if of.min() < of.max() else "") for of in largest.T]
    stages = list(dict.fromkeys(member.stage for member in members if member.stage))
    stage_of = {member.name: member.stage for member in members}
    of_configs: dict[str, list[str]] = {}
    for name, stage in stage_of.items():
        for note in stage_notes(study.configs[name], wanted.probabilities.shape[1], stage):
            of_configs.setdefault(note, []).append(name)
    notes = [
        note if len(names) == len(stage_of) else f"{', '.join(names)}: {note}" for note, names in of_configs.items()
    ]
    if len(members) > 1:
        notes.insert(0, f"The mean of {len(members)} members, each scaled by its own largest value")
    arrays = {
        "fold": wanted.folds, "mean": mean, "maps": stacked, "largest": largest, "weight": weights,
        "member": np.array([f"{member.name}, seed {member.seed}" for member in members]), "agreement": agreements,
    }  # fmt: skip
    return Drawn(mean, ", ".join(stages), spans, notes, arrays, [member.size for member in members])
