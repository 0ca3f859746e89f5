"""Probabilities in place of labels: what a member with targets learns."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from small_training import assert_equal_trees, member, noise_dataset, run, small_config

from fpclass.train.members import of_one_size, stack_members, take_member


def test_targets_are_learnt_in_place_of_labels():
    config, dataset = small_config(), noise_dataset()
    labels = jax.nn.one_hot(dataset.labels, 2)
    for targets, learnt in ((labels, dataset.labels), (labels[:, ::-1], 1 - dataset.labels)):
        by_labels, _ = run(config, dataclasses.replace(dataset, labels=learnt))
        by_targets, _ = run(config, dataset, dataclasses.replace(member(), targets=targets))
        assert_equal_trees(by_labels.params, by_targets.params)


def test_each_member_has_targets_of_its_own():
    rng = np.random.default_rng(0)
    targets = rng.random((2, 40, 2), np.float32)
    members = [dataclasses.replace(member(i), targets=targets[i]) for i in range(2)]
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("member",))
    stacked = stack_members(of_one_size(members), mesh)
    for i in range(2):
        np.testing.assert_array_equal(take_member(stacked, i).targets, targets[i])
    assert stack_members([member()], mesh).targets is None
