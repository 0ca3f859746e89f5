"""Features of frozen stages on disk: found by content, equal to the bit, and never more than an acceleration."""

from __future__ import annotations

import dataclasses
import resource
import signal
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs import base
from fpclass.common.console import Interrupted, interruptible
from fpclass.data import cache
from fpclass.train.inputs.feature_cache import FrozenStages, compute_features

NUM_IMAGES, VIEWS = 40, 2
"""More than a batch; augmented views."""


class Stages(nn.Module):
    """Stands for frozen stages."""

    power: int = 1
    stage_names = ("stem", "block1")

    @nn.compact
    def __call__(self, x, train):
        return nn.relu(nn.Conv(4, (3, 3), dtype=x.dtype)(x).mean(axis=(1, 2))) ** self.power


@dataclasses.dataclass(frozen=True)
class Case:
    """All that features depend on."""

    config: object
    images: np.ndarray
    labels: np.ndarray
    variables: dict
    prefix: nn.Module

    def features(self, folder):
        return compute_features(self.prefix, self.variables, self.images, self.labels, self.config, folder)

    def with_settings(self, **settings):
        config = self.config.copy_and_resolve_references()
        for key, value in settings.items():
            section, name = key.split("__")
            config[section][name] = value
        return dataclasses.replace(self, config=config)


def test_weights_from_a_checkpoint_find_what_those_from_a_file_have_computed(case, tmp_path, capsys):
    """The same numbers on a device that they say, as Orbax restores them."""
    first = case.features(tmp_path)
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec())
    restored = dataclasses.replace(case, variables=jax.device_put(case.variables, sharding))
    capsys.readouterr()
    np.testing.assert_array_equal(restored.features(tmp_path), first)
    assert "from the cache" in capsys.readouterr().out


@pytest.fixture
def case() -> Case:
    config = base.get_config()
    config.data.image_size = (6, 5)
    config.finetune.cache_views = VIEWS
    config.augment.update(flip_probability=0.0, brightness=0.0, contrast=0.0, noise=0.1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_IMAGES, 6, 5, 1), dtype=np.uint8)
    variables = jax.device_get(Stages().init(jax.random.key(0), np.zeros((1, 6, 5, 1), np.float32), train=False))
    return Case(config, images, np.arange(NUM_IMAGES, dtype=np.int32) % 2, variables, Stages())


@pytest.fixture
def computed(monkeypatch) -> dict[int, int]:
    """How many images were put through the stages, by view; cleared by the test."""
    counts: dict[int, int] = {}
    compute = FrozenStages.compute

    def counting(self, view, rows, features):
        if len(rows):
            counts[view] = len(rows)
        return compute(self, view, rows, features)

    monkeypatch.setattr(FrozenStages, "compute", counting)
    return counts


ALL = dict.fromkeys(range(1 + VIEWS), NUM_IMAGES)
AUGMENTED = {view: NUM_IMAGES for view in ALL if view}


def test_a_second_start_has_the_same_bits_and_computes_nothing(case, computed, tmp_path, capsys):
    first = case.features(tmp_path)
    assert computed == ALL
    assert "features of 40 images x 3 views behind block1, 0.0 MB: computing" in capsys.readouterr().out
    computed.clear()
    second = case.features(tmp_path)
    assert computed == {}
    assert capsys.readouterr().out == "features of 40 images x 3 views behind block1, 0.0 MB: from the cache\n"
    assert second.tobytes() == first.tobytes() == case.features(None).tobytes()


def test_who_asks_to_stop_waits_for_a_batch_and_loses_nothing(case, computed, tmp_path, monkeypatch, capsys):
    compute = FrozenStages.compute

    def asked(self, view, rows, features):
        for number, row in enumerate(compute(self, view, rows, features)):
            if view == 1 and number == 7:
                signal.raise_signal(signal.SIGINT)
            yield row

    with monkeypatch.context() as patch, interruptible():
        patch.setattr(FrozenStages, "compute", asked)
        with pytest.raises(Interrupted):
            case.features(tmp_path)
    assert "once more to stop at once" in capsys.readouterr().out
    computed.clear()
    features = case.features(tmp_path)
    assert computed == {1: NUM_IMAGES - 8, 2: NUM_IMAGES}
    assert features.tobytes() == case.features(None).tobytes()


def other_weights(case):
    return dataclasses.replace(case, variables=jax.tree.map(lambda x: np.nextafter(x, 9), case.variables))


OTHERS = {
    "weights": (other_weights, ALL),
    "network": (lambda case: dataclasses.replace(case, prefix=Stages(power=2)), ALL),
    "type": (lambda case: case.with_settings(model__compute_dtype="bfloat16"), ALL),
    "normalisation": (lambda case: case.with_settings(data__mean=(0.25,)), ALL),
    "pixels": (lambda case: dataclasses.replace(case, images=255 - case.images), ALL),
    "augmentation": (lambda case: case.with_settings(augment__noise=0.2), AUGMENTED),
    "no augmentation": (lambda case: case.with_settings(augment__noise=0.0), {}),
    "another view": (lambda case: case.with_settings(finetune__cache_views=VIEWS + 1), {VIEWS + 1: NUM_IMAGES}),
    "labels that nothing depends on": (lambda case: dataclasses.replace(case, labels=1 - case.labels), {}),
    "head and seed": (lambda case: case.with_settings(model__dropout_rate=0.9, optim__learning_rate=1.0), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_features_depend_on_is_computed_anew_and_nothing_else(case, computed, tmp_path, name):
    make, expected = OTHERS[name]
    case.features(tmp_path)
    computed.clear()
    other = make(case)
    features = other.features(tmp_path)
    assert computed == expected
    assert features.tobytes() == other.features(None).tobytes()


def test_labels_count_where_augmentation_is_by_class(case, computed, tmp_path):
    case = case.with_settings(augment__class_probability=(1.0, 0.5))
    case.features(tmp_path)
    computed.clear()
    changed = case.labels.copy()
    changed[3] = 0
    dataclasses.replace(case, labels=changed).features(tmp_path)
    assert computed == {1: 1, 2: 1}


def test_images_are_found_in_any_order_and_beside_new_ones(case, computed, tmp_path):
    """An augmented view belongs to a row, from which its randomness comes; the plain one to the image alone."""
    case.features(tmp_path)
    computed.clear()
    new = case.images[:3] ^ 1
    more = dataclasses.replace(case, images=np.concatenate([case.images, new]), labels=np.arange(NUM_IMAGES + 3) % 2)
    first = more.features(tmp_path)
    assert computed == dict.fromkeys(ALL, 3)
    assert first.tobytes() == more.features(None).tobytes()
    computed.clear()
    turned = dataclasses.replace(more, images=more.images[::-1], labels=more.labels[::-1])
    second = turned.features(tmp_path)
    assert 0 not in computed
    assert second.tobytes() == turned.features(None).tobytes()


def test_a_damaged_file_is_computed_again_with_a_line(case, computed, tmp_path, capsys):
    first = case.features(tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 1 + VIEWS
    whole = kept[0].read_bytes()
    kept[0].write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    kept[1].write_bytes(whole[:100])
    computed.clear()
    capsys.readouterr()
    assert case.features(tmp_path).tobytes() == first.tobytes()
    assert len(computed) == 2
    out = capsys.readouterr().out
    assert out.count("is damaged: it is made again") == 2
    assert "computing 80, 40 from the cache" in out
    assert kept[0].read_bytes() == whole


def test_a_full_disk_costs_only_the_reuse(case, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # bytes that a file may grow to
    try:
        features = case.features(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    assert features.tobytes() == case.features(None).tobytes()


def test_the_oldest_go_but_never_a_part_of_what_is_used_together(case, computed, tmp_path, monkeypatch):
    case.features(tmp_path)
    old = set(tmp_path.iterdir())
    monkeypatch.setattr(cache, "LIMIT_BYTES", 0)
    other = other_weights(case)
    other.features(tmp_path)
    assert len(set(tmp_path.iterdir())) == 1 + VIEWS
    assert not old & set(tmp_path.iterdir())
    computed.clear()
    other.features(tmp_path)
    assert computed == {}


TWO = """
import sys, pathlib, numpy as np
from fpclass.common.console import Interrupted, interruptible
from fpclass.data import cache
folder, contents = pathlib.Path(sys.argv[1]), [str(i) for i in range(50)]
rows = np.arange(50 * 4096, dtype=np.uint32).view(np.uint8).reshape(50, -1)
for i in range(60):
    if found := cache.find(folder, "settings", contents):
        assert found[1] == contents and (found[0][:] == rows).all()
    cache.save(folder, "settings", contents, rows, contents)
assert found
"""


def test_two_processes_at_once_find_a_whole_set_or_none(tmp_path):
    command = [sys.executable, "-c", TWO, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert said == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1
