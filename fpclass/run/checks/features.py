"""What the features of a run's network are like: nearest training images, an embedding, first-layer filters.

Features are what the last dense layer reads; two images are as near as the cosine between theirs is large.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from fpclass.common import files
from fpclass.data.decode import Images
from fpclass.data.splits import TRAIN, VALIDATION, draw_some
from fpclass.errors import DataError
from fpclass.explain.checks.maps import in_batches
from fpclass.explain.features.embedding import MAX_TSNE, Neighbours, embed, first_filters, last_features, nearest
from fpclass.report.style import save_figure
from fpclass.run.best import BestModel
from fpclass.run.explain import explained
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.stats.metrics import log_softmax
from fpclass.train.predict import eval_batch

FILE = "features.json"
NEAREST, EMBEDDING, FILTERS = "figures/nearest_training.png", "figures/embedding.png", "figures/filters.png"
MAX_IMAGES = 4000
"""Training images, and validation images, whose features are computed; of more so many are drawn at random."""
NUM_NEAREST = 5


def show_features(best: BestModel, prepared: Prepared, num_images: int) -> dict[str, Any]:
    """Writes `FILE` and figures of a run; gives the piece of the report, which names the figures.

    Args:
      num_images: validation images of the highest loss, and of the lowest, that are shown beside their nearest.

    Raises:
      ConfigError: the network has no dense layer.
      DataError: no training or no validation images.
      RunError: the data have changed since.
    """
    check_same_data(best.run, prepared)
    note, run = prepared.note, best.run
    rows = {role: draw_some(prepared.splits.rows(role), MAX_IMAGES) for role in (TRAIN, VALIDATION)}
    for role, of_role in rows.items():
        if not len(of_role):
            raise DataError(f"{run.folder}: has no {role} images, which features are shown of")
    logits = best.predict(prepared.images, rows[VALIDATION])
    labels = prepared.table.labels[rows[VALIDATION]]
    losses = -log_softmax(logits)[np.arange(len(labels)), labels]
    features = {role: features_of_rows(best, prepared.images, of_role) for role, of_role in rows.items()}
    order = np.argsort(-losses, kind="stable")
    shown = np.unique(np.concatenate([order[:num_images], order[len(order) - num_images :]]), return_index=True)
    chosen = shown[0][np.argsort(shown[1])]  # worst first, each once
    near = nearest(features[VALIDATION][chosen], features[TRAIN], NUM_NEAREST)
    _draw_nearest(best, prepared, rows, chosen, near, logits)
    _draw_embedding(best, prepared, rows, features, logits.argmax(axis=1) == labels)
    figures = [NEAREST, EMBEDDING]
    filters = first_filters(best.model, best.variables, prepared.images.shape[-1])
    if filters:
        from fpclass.explain.features.figures import draw_filters

        save_figure(draw_filters(*filters, note), run.path(FILTERS))
        figures.append(FILTERS)
    report = _report(prepared, rows, features, logits, figures)
    files.write_json(run.path(FILE), {"nearest": _as_json(prepared, rows, chosen, near), "report": report})
    return report


_last_features = jax.jit(last_features, static_argnums=0)


def features_of_rows(best: BestModel, images: Images, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """What the last dense layer reads of some rows, float32."""
    model, _ = explained(best, np.asarray(images[rows[:1]]))
    size = eval_batch((len(rows), *images.shape[1:]), len(rows))

    def of_batch(chosen: Any) -> Any:
        return _last_features(model, best.variables, explained(best, np.asarray(images[np.asarray(chosen)]))[1])

    return in_batches(of_batch, size)(rows)


def _draw_nearest(
    best: BestModel, prepared: Prepared, rows: dict[str, np.ndarray], chosen: np.ndarray, near: Neighbours, logits: Any
) -> None:
    from fpclass.explain.features.figures import draw_nearest

    table, queries = prepared.table, rows[VALIDATION][chosen]
    predicted, names = logits.argmax(axis=1)[chosen], table.rows["filename"].to_numpy()
    is_right = predicted == table.labels[queries]
    titles = [
        f"{names[row]}\ntrue {table.class_names[table.labels[row]]}\npredicted {table.class_names[guess]}"
        for row, guess in zip(queries, predicted, strict=True)
    ]
    trained = [rows[TRAIN][positions] for positions in near.positions]
    above = [
        [
            f"{names[row]}\n{table.class_names[table.labels[row]]}, cosine {r:.3f}"
            for row, r in zip(of, similar, strict=True)
        ]
        for of, similar in zip(trained, near.similarities, strict=True)
    ]
    is_same = [table.labels[of] == table.labels[query] for of, query in zip(trained, queries, strict=True)]
    small = (
        "Worst first, then those most right. Cosine: between features, about their mean. Green: right, or of the same "
        "class; red: wrong, or of another class."
    )
    figure = draw_nearest(
        prepared.images[queries], titles, is_right.tolist(), [prepared.images[of] for of in trained], above,
        [of.tolist() for of in is_same], (table.shapes(queries), [table.shapes(of) for of in trained]),
        f"{small} {prepared.note}",
    )  # fmt: skip
    save_figure(figure, best.run.path(NEAREST))


def _draw_embedding(
    best: BestModel, prepared: Prepared, rows: dict[str, np.ndarray], features: dict[str, np.ndarray], is_right: Any
) -> None:
    from fpclass.explain.features.figures import draw_embedding

    labels = np.concatenate([prepared.table.labels[rows[role]] for role in (TRAIN, VALIDATION)])
    is_judged = np.repeat([False, True], [len(rows[TRAIN]), len(rows[VALIDATION])])
    fine = np.concatenate([np.ones(len(rows[TRAIN]), bool), is_right])
    taken = draw_some(np.arange(len(labels)), MAX_TSNE)
    planes = embed(np.concatenate([features[TRAIN], features[VALIDATION]])[taken])
    of_all = "" if len(taken) == len(labels) else f"{len(taken)} images, drawn at random. "
    small = (
        f"{of_all}Distances between groups of a t-SNE mean nothing; training images may lie apart because they were "
        "learnt. "
    )
    figure = draw_embedding(
        planes, labels[taken], prepared.table.class_names, is_judged[taken], fine[taken], small + prepared.note
    )
    save_figure(figure, best.run.path(EMBEDDING))


def _report(
    prepared: Prepared, rows: dict[str, np.ndarray], features: dict[str, np.ndarray], logits: Any, figures: list[str]
) -> dict[str, Any]:
    """How many of the nearest training images are of the class predicted, and of the true one."""
    of_train, labels = prepared.table.labels[rows[TRAIN]], prepared.table.labels[rows[VALIDATION]]
    near = nearest(features[VALIDATION], features[TRAIN], NUM_NEAREST)
    classes, predicted = of_train[near.positions], logits.argmax(axis=1)
    shares = {
        "images predicted right": (classes == labels[:, None])[predicted == labels],
        "images predicted wrong": (classes == labels[:, None])[predicted != labels],
    }
    table = [["validation images", "number", "nearest training images of their class", "similarity, mean"]]
    for (name, of), is_so in zip(shares.items(), (predicted == labels, predicted != labels), strict=True):
        share = f"{of.mean():.0%}" if len(of) else "-"
        similar = f"{near.similarities[is_so].mean():.2f}" if len(of) else "-"
        table.append([name, str(len(of)), share, similar])
    sentences = [
        f"Of the {near.positions.shape[1]} training images whose features are nearest to a validation image, "
        f"{table[1][2]} are of its class where it is predicted right, and {table[2][2]} where it is predicted wrong."
    ]
    title = "What the network takes for alike"
    note = "Features are what the network's last layer reads; near is the cosine between them about their mean."
    return {"title": title, "sentences": sentences, "table": table, "figures": figures, "note": note}


def _as_json(
    prepared: Prepared, rows: dict[str, np.ndarray], chosen: np.ndarray, near: Neighbours
) -> list[dict[str, Any]]:
    """The nearest training images of each that is shown, by name."""
    names = prepared.table.rows["filename"].to_numpy()
    return [
        {
            "filename": names[rows[VALIDATION][i]],
            "nearest": [
                {"filename": names[rows[TRAIN][k]], "similarity": round(float(r), 4)}
                for k, r in zip(positions, similarities, strict=True)
            ],
        }
        for i, positions, similarities in zip(chosen, near.positions, near.similarities, strict=True)
    ]
