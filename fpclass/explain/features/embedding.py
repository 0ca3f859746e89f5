"""Images as a network's features: what its last layer reads, which are near, a plane of all, the first filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from fpclass.errors import ConfigError
from fpclass.models.layers import Logits

MAX_TSNE = 2000
"""Images that an embedding takes, at most: the time of t-SNE grows faster than their number."""
MIN_TSNE = 20
"""Images below which t-SNE shows nothing that PCA does not."""
MAX_FILTERS = 64


def last_features(model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
    """What the last dense layer of a network reads, of normalised images.

    Raises:
      ConfigError: there is none.
    """
    read: list[Array] = []

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, (nn.Dense, Logits)) and context.method_name == "__call__":
            read.append(args[0])
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        model.apply(variables, images, train=False)
    if not read:
        raise ConfigError(f"{type(model).__name__} has no dense layer (nn.Dense), whose features could be compared")
    return read[-1].reshape(len(images), -1)


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest of some images to each of others, nearest first: their positions, and the cosine of the features."""

    positions: Int[np.ndarray, "q k"]
    similarities: Float[np.ndarray, "q k"]


def nearest(queries: Float[np.ndarray, "q d"], features: Float[np.ndarray, "n d"], num: int) -> Neighbours:
    """The nearest by the cosine of the angle between features, about the mean of `features`."""
    centre = features.mean(axis=0)
    first, second = (
        of / np.maximum(np.linalg.norm(of, axis=1, keepdims=True), 1e-12)
        for of in (queries - centre, features - centre)
    )
    similarities = first @ second.T
    positions = np.argsort(-similarities, axis=1, kind="stable")[:, :num]
    return Neighbours(positions, np.take_along_axis(similarities, positions, axis=1))


def embed(features: Float[np.ndarray, "n d"], seed: int = 0) -> dict[str, Float[np.ndarray, "n 2"]]:
    """Features in the plane, by the name of the way: PCA; of `MIN_TSNE` images or more t-SNE, and UMAP if installed.

    The latter two begin with the first 50 principal components.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    size = min(50, *features.shape)
    components = PCA(size, random_state=seed)
    reduced = components.fit_transform(features)
    shares = components.explained_variance_ratio_[:2]
    plane = np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - size))))
    result = {f"PCA ({' and '.join(f'{share:.0%}' for share in shares)} of the variance)": plane}
    if len(features) >= MIN_TSNE:
        perplexity = min(30.0, len(features) / 4)
        result["t-SNE"] = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
        umap = _umap()
        if umap is not None:
            result["UMAP"] = umap.UMAP(random_state=seed).fit_transform(reduced)
    return result


def first_filters(
    model: nn.Module, variables: dict[str, Any], num_channels: int
) -> tuple[str, Float[np.ndarray, "f h w c"]] | None:
    """Name and kernels of the convolution that sees the image, at most `MAX_FILTERS`; None: there is none."""
    kernels: dict[tuple[str, ...], Any] = flatten_dict(variables["params"])  # pyright: ignore[reportAssignmentType]
    stem = tuple(getattr(model, "stem_kernel", ()))
    for path in (stem, *kernels):
        kernel = kernels.get(path)
        if kernel is not None and kernel.ndim == 4 and kernel.shape[2] == num_channels and kernel.shape[0] > 1:
            return "/".join(path[:-1]), np.moveaxis(np.asarray(kernel, np.float32), -1, 0)[:MAX_FILTERS]
    return None


def _umap() -> Any:
    try:
        import umap  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return umap
