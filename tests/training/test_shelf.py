"""Volumes in memory or on disk."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from small import memory, recipe, tomogram
from tomopick import Source
from tomopick.core.errors import OutputError
from tomopick.picking.memory import free_memory
from tomopick.training.dataset import gather
from tomopick.training.patches import PatchSampler, batches
from tomopick.training.shelf import Shelf


def test_what_fits_stays_in_memory_and_the_rest_is_mapped(tmp_path, monkeypatch, told):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shelf = Shelf(room=2 * 4 * 60)
    volumes = [np.random.default_rng(i).standard_normal((3, 4, 5), dtype=np.float32) for i in range(4)]
    kept = [shelf.keep(v) for v in volumes]
    assert [k is v for k, v in zip(kept, volumes)] == [True, True, False, False]
    assert all(isinstance(k, np.memmap) and not k.flags.writeable for k in kept[2:])
    for k, v in zip(kept, volumes):
        np.testing.assert_array_equal(k, v)
    assert len(told) == 1 and str(tmp_path) in told[0]
    assert list(tmp_path.iterdir()) == []  # files without names: nothing is left behind


def test_one_that_does_not_fit_takes_no_room():
    shelf = Shelf(room=300)
    large, small = (np.ones(n, np.float32) for n in (100, 60))
    assert isinstance(shelf.keep(large), np.memmap) and shelf.keep(small) is small


def test_a_slice_is_kept_as_it_is():
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)[:, 1:3, ::2]
    np.testing.assert_array_equal(Shelf(room=0).keep(values), values)


def test_a_disk_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"gone: no room for a volume .* set TMPDIR"):
        Shelf(room=0).keep(np.zeros((2, 2, 2), np.float32))


def test_patches_of_mapped_volumes_are_those_of_volumes_in_memory(monkeypatch):
    made = recipe()
    found = []
    for room in (10**9, 0):
        monkeypatch.setattr("tomopick.training.dataset.Shelf", lambda room=room: Shelf(room))
        data = gather(made, [Source(memory(), val_runs=["C"])])
        assert all(isinstance(v.values, np.memmap) == (room == 0) for v in [*data.train, *data.val])
        sampler = PatchSampler(
            data.train, data.objects, made.patch, made.target, made.augment, made.network.stride, seed=1
        )
        found.append([*batches(sampler, 2, 0, 2), *batches(sampler, 2, 2, 4, workers=1)])
    for a, b in zip(*found, strict=True):
        for x, y in zip(a, b):
            assert x is y is None or torch.equal(x, y)


def test_halves_give_float32_patches():
    data = gather(recipe(), [Source(memory(), val_runs=["C"])])
    halves = [replace(v, values=v.values.astype(np.float16)) for v in data.train]
    made = recipe()
    sampler = PatchSampler(halves, data.objects, made.patch, made.target, made.augment, 2, seed=1)
    assert sampler(0, 0).volume.dtype == torch.float32


def test_mapped_volumes_take_no_memory():
    """A child maps 160 MB, and grows by little."""
    code = """
import resource, sys
import numpy as np
from tomopick.training.shelf import Shelf
shelf, kept = Shelf(room=0), []
volume = np.ones((40, 1000, 1000), np.float32)
kept.append(shelf.keep(volume))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for i in range(4):
    kept.append(shelf.keep(volume))
sys.exit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 100_000)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0


def test_free_memory_is_some():
    assert 2**20 < free_memory() < 2**50
    assert tomogram()[0].values.nbytes < free_memory()
