"""Features of frozen stages, computed once for every image and perhaps augmented views of it, and kept on disk.

They are those in front of what is trained (`compute_features`), or what probes are fitted to (`train.probes`). What is
on disk is found by what it was computed from: the pixels of an image, the weights, the device, and the programs, which
hold all the rest (stages, types, normalisation, augmentation). So whatever needs the same features has them at once:
another head, fold or seed, another study, a refit, a resumed run. See `fpclass.data.cache`.
"""

from __future__ import annotations

import hashlib
import math
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from fpclass.augment.compose import make_augment_batch
from fpclass.augment.intensity import normalise
from fpclass.augment.settings import is_augmented
from fpclass.common.console import check_stop, duration, progress, say
from fpclass.common.files import cache_dir
from fpclass.common.parallel import launch_each, num_processes
from fpclass.common.threads import in_threads
from fpclass.config import Config
from fpclass.data import cache
from fpclass.data.decode import Images
from fpclass.errors import ConfigError
from fpclass.models.network import Network
from fpclass.models.parts import part_size
from fpclass.train.checkpoints import digest
from fpclass.train.finetune import compute_in
from fpclass.train.keys import view_keys

BATCH = 32
"""Images that go through the frozen stages at once."""


def features_dir() -> Path:
    """The folder that they are kept in, perhaps not there yet."""
    return cache_dir() / "features"


def num_cached_views(config: Config) -> int:
    """Augmented views of each image whose features are cached, beside the plain one."""
    return config.finetune.cache_views if is_augmented(config.augment) else 0


def size_gb(prefix: Network, config: Config, num_images: int) -> float:
    """Size of the features of so many images in all their views, in 10**9 bytes."""
    image = jax.ShapeDtypeStruct((1, *config.data.image_size, config.data.channels), config.model.compute_dtype)

    def apply(image: Any) -> Any:
        variables = prefix.init(jax.random.key(0), image, train=False)
        return prefix.apply(compute_in(variables, config.model.compute_dtype), image, train=False)

    return _size_gb(jax.eval_shape(apply, image), num_images, 1 + num_cached_views(config))


def _size_gb(features: jax.ShapeDtypeStruct, num_images: int, num_views: int) -> float:
    return math.prod(features.shape[1:]) * features.dtype.itemsize * num_images * num_views / 1e9


def is_cached(prefix: Network, config: Config, num_images: int) -> bool:
    """Whether the features of frozen stages are computed once: where they are asked for and, if need be, fit.

    With `augment.fixed_views` training sees the same views without them, and what is too large is no error.
    """
    if not config.finetune.cache_views:
        return False
    return not config.augment.fixed_views or size_gb(prefix, config, num_images) <= config.finetune.cache_gb


def compute_features(
    prefix: Network,
    variables: dict[str, Any],
    images: Images,
    labels: Int[np.ndarray, " N"],
    config: Config,
    cache_dir: Path | None,
) -> np.ndarray:
    """Puts every image through the frozen stages once: as it is, and as many augmented views as are asked for.

    The views are the same for every member, whatever its seed; labels may decide about an image's augmentation.

    Args:
      cache_dir: folder of features of earlier starts, which those of this one are added to; None: nothing is kept.

    Returns:
      Features [N, 1 + views, …] in the type that the network computes in, view 0 of the images as they are.

    Raises:
      ConfigError: they would be larger than finetune.cache_gb.
    """
    stages = stages_of(prefix, variables, images, labels, config)
    num_views = 1 + num_cached_views(config)
    size = _size_gb(stages.result, len(images), num_views)
    if size > config.finetune.cache_gb:
        raise ConfigError(
            f"the {_counted(len(images), num_views)} take {size:.1f} GB, and finetune.cache_gb is "
            f"{config.finetune.cache_gb:g}: freeze to a later stage, set fewer views, or raise the limit"
        )
    return kept_or_computed(stages, num_views, f"behind {prefix.stage_names[-1]}", cache_dir)


def stages_of(
    prefix: Network, variables: dict[str, Any], images: Images, labels: Int[np.ndarray, " N"], config: Config
) -> FrozenStages:
    """What `compute_features` puts images through."""
    views = Views(images, labels, config)
    return FrozenStages(partial(prefix.apply, train=False), variables, views, config.model.compute_dtype)


def kept_or_computed(stages: FrozenStages, num_views: int, where: str, folder: Path | None) -> np.ndarray:
    """The features [N, views, …] of all images of some frozen stages: what is not in the folder is computed and added.

    Args:
      where: in the network, in words.

    Raises:
      Interrupted: somebody asked to stop; what was computed is in the folder.
    """
    num_images, shape = len(stages.views.images), stages.result
    size = _size_gb(shape, num_images, num_views)
    what = f"{_counted(num_images, num_views)} {where}, " + (f"{size:.1f} GB" if size > 0.1 else f"{1e3 * size:.1f} MB")
    features = np.empty((num_images, num_views, *shape.shape[1:]), shape.dtype)
    kept = KeptFeatures(folder, stages) if folder else None
    missing = [kept.read(view, features[:, view]) if kept else np.arange(num_images) for view in range(num_views)]
    num_missing = sum(map(len, missing))
    if not num_missing:
        say(f"{what}: from the cache")
        return features
    num_there = num_images * num_views - num_missing
    say(f"{what}: computing {f'{num_missing:,}, {num_there:,} from the cache' if num_there else '…'}")
    started = time.perf_counter()

    def compute() -> Iterator[int]:
        for view, rows in enumerate(missing):
            is_there = ~np.isin(np.arange(num_images), rows)
            try:
                for row in stages.compute(view, rows, features[:, view]):
                    is_there[row] = True
                    yield row
                    if num_processes() == 1:  # several stop together, where they next agree on it
                        check_stop()
            finally:
                if kept and len(rows) and is_there.any():
                    kept.write(view, features[:, view], num_views, np.flatnonzero(is_there))

    for _ in progress(compute(), num_missing, "features"):
        pass
    say(f"features computed in {duration(time.perf_counter() - started)}")
    return features


def _counted(num_images: int, num_views: int) -> str:
    return f"features of {num_images:,} images" + (f" x {num_views} views" if num_views > 1 else "")


class Views:
    """Images as frozen stages see them: view 0 as they are, the others augmented, the same for whoever asks.

    Only augmentation asks for labels.
    """

    def __init__(self, images: Images, labels: Int[np.ndarray, " N"] | None, config: Config):
        data, augment = config.data, config.augment
        augment_batch = make_augment_batch(augment, mean=data.mean, std=data.std)
        self.images = images
        self._labels = labels
        self._by_class = bool(augment.class_probability)
        self._plain = jax.jit(lambda part: normalise(part, data.mean, data.std))
        self._augmented = jax.jit(
            lambda part, classes, rows, view: augment_batch(view_keys(jnp.full_like(rows, view), rows), part, classes)
        )

    def program(self, view: int) -> Any:
        """The compiled function that makes this view of a batch of what `arguments` gives."""
        return self._augmented if view else self._plain

    def arguments(self, view: int, rows: Int[np.ndarray, " B"]) -> tuple[Any, ...]:
        """What the program of a view takes for these rows."""
        images = jnp.asarray(self.images[rows])
        if not view:
            return (images,)
        assert self._labels is not None
        return images, jnp.asarray(self._labels[rows]), jnp.asarray(rows), jnp.int32(view)

    def contents(self, view: int, digests: Sequence[str]) -> list[str]:
        """What the view of each image depends on: its digest, where it is augmented the row, which is its seed, too."""
        if not view:
            return list(digests)
        labels = self._labels if self._by_class else None
        return [f"{digest} {row}" + ("" if labels is None else f" {labels[row]}") for row, digest in enumerate(digests)]


class FrozenStages:
    """What stages of a network with their weights make of batches of views: (variables, images) -> features [B, …]."""

    def __init__(self, apply: Callable[[Any, Any], Any], variables: dict[str, Any], views: Views, dtype: str):
        self.views = views
        self.variables = {**variables, "params": compute_in(variables["params"], dtype)}
        size = part_size(BATCH, views.images.shape, self.variables["params"])

        def in_parts(tree: Any, inputs: Any) -> Any:
            parts = compute_in(inputs, dtype).reshape(-1, size, *inputs.shape[1:])
            features: Any = jax.lax.map(partial(apply, tree), parts)
            return features.reshape(BATCH, *features.shape[2:])

        self.program = jax.jit(in_parts)
        self.arguments = (self.variables, jax.ShapeDtypeStruct((BATCH, *views.images.shape[1:]), jnp.float32))
        self.result: jax.ShapeDtypeStruct = self.program.eval_shape(*self.arguments)

    def compute(self, view: int, rows: Int[np.ndarray, " n"], features: np.ndarray) -> Iterator[int]:
        """Writes a view's features [N, …] of some rows, and gives each row when it is done."""
        on_device, make_view = jax.device_put(self.variables), self.views.program(view)
        batches = [rows[start : start + BATCH].astype(np.int32) for start in range(0, len(rows), BATCH)]

        def compute_batch(i: int) -> Any:
            padded = np.pad(batches[i], (0, BATCH - len(batches[i])), mode="edge")
            return self.program(on_device, make_view(*self.views.arguments(view, padded)))

        for batch, result in zip(batches, launch_each(compute_batch, len(batches)), strict=True):
            features[batch] = np.asarray(result)[: len(batch)]
            yield from batch


class KeptFeatures:
    """The features of some images on disk, a set of rows for each view."""

    def __init__(self, folder: Path, stages: FrozenStages):
        self._folder, self._views, device = folder, stages.views, jax.devices()[0]
        made_by = _digest_of_program(stages.program, stages.arguments), digest(stages.variables)
        self._made_by = f"{jax.__version__} {device.platform} {device.device_kind} {' '.join(made_by)}"
        self._digests = _digests_of(stages.views.images)

    def read(self, view: int, features: np.ndarray) -> Int[np.ndarray, " n"]:
        """Copies what is there of a view into its features [N, …]; gives the rows that are not."""
        contents = self._views.contents(view, self._digests)
        found = cache.find(self._folder, self._settings(view), contents)
        if found is None:
            return np.arange(len(contents))
        kept, place = found[0], {content: row for row, content in enumerate(found[1])}
        there = np.flatnonzero([content in place for content in contents])
        rows = kept[np.array([place[contents[row]] for row in there], int)]
        features[there] = rows.view(features.dtype).reshape(-1, *features.shape[1:])
        return np.setdiff1d(np.arange(len(contents)), there)

    def write(self, view: int, features: np.ndarray, num_views: int, rows: Int[np.ndarray, " n"]) -> None:
        """Keeps the rows of a view that are computed, as bytes; so many views are used together."""
        of_all = self._views.contents(view, self._digests)
        contents = [of_all[row] for row in rows]
        as_bytes = np.ascontiguousarray(features[rows]).reshape(len(rows), -1).view(np.uint8)
        cache.save(self._folder, self._settings(view), contents, as_bytes, contents, num_views)

    def path(self, view: int) -> Path:
        """Where a view of these very images is, or will be."""
        return cache.path_of(self._folder, self._settings(view), self._views.contents(view, self._digests))

    def _settings(self, view: int) -> str:
        """All that a view's features depend on beside the image."""
        arguments = self._views.arguments(view, np.zeros(BATCH, np.int32))
        return f"{self._made_by} {_digest_of_program(self._views.program(view), arguments)} {view}"


_last: list[tuple[weakref.ref[Any], list[str]]] = []
"""The images whose digests were asked for last, and these: all configs of a study have the same images."""


def _digests_of(images: Images) -> list[str]:
    """A digest of the pixels of each image."""
    for known, digests in _last:
        if known() is images:
            return digests
    digests = list(in_threads(lambda row: hashlib.sha256(images[row].tobytes()).hexdigest(), len(images)))
    _last[:] = [(weakref.ref(images), digests)]
    return digests


def _digest_of_program(program: Any, arguments: tuple[Any, ...]) -> str:
    """The digest of what is computed, with all its constants, whatever file or package it was written in.

    Of shapes: arrays that were restored from a checkpoint would write the devices that they are on into the program.
    """
    shapes = jax.tree.map(lambda each: jax.ShapeDtypeStruct(jnp.shape(each), jnp.result_type(each)), arguments)
    return hashlib.sha256(program.lower(*shapes).as_text().encode()).hexdigest()
