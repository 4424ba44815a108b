"""Picking on a device from end to end, on the CPU as a device: the same numbers as the host's own way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from small import BALL, RING, tomogram, trained, untrained
from tomopick import Detector, Grid, Heatmap, PickableObject, Tomogram
from tomopick.core.arrays import alike, interpolated, is_tensor, taken, to_host, zeros
from tomopick.core.statistics import radial_spectrum, skewness
from tomopick.networks.activations import Rectified, Softmax
from tomopick.networks.engines import Engine
from tomopick.networks.engines.eager import TorchEngine
from tomopick.picking.decoders import Components, UpsampledMaxima
from tomopick.picking.ensemble import Alignment, Ensemble, equal_members
from tomopick.picking.memory import Halving
from tomopick.picking.normalize import FixedLimits, RobustNormalization, ZScore
from tomopick.picking.peaks import LocalMaxima, maxima, refine, window_maximum
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.predict import VIEWS, Predictor, predict_rows
from tomopick.picking.published_tilings import ScanTiles, StepTiles
from tomopick.picking.resample import onto, resample
from tomopick.picking.rows import decode_rows, join_rows
from tomopick.picking.tensor_peaks import largest_around, maxima_of, refined
from tomopick.picking.tensors import uploaded
from tomopick.picking.tiling import LinearWindow, Means, TilingSpec

CPU = torch.device("cpu")
F32 = PickOptions(device="cpu", engine="torch", precision="f32", keep_below=True)


def copy_on_device(given: Tomogram) -> Tomogram:
    return uploaded(Tomogram(given.run, given.values, given.grid, given.tomo_type), CPU)


def volumes() -> dict[str, np.ndarray]:
    """Grey values of several kinds."""
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((40, 72, 56)) * 3 + 100).astype(np.float32)
    blank, gold, bytes_ = noise.copy(), noise.copy(), rng.integers(-100, 100, noise.shape).astype(np.float32)
    blank[:, :20] = 0
    gold[10:14, 30:40, 20:30], gold[3, 4, 5], gold[3, 4, 6] = 500, np.nan, np.inf
    bytes_[:5] = 7
    return {"noise": noise, "blank": blank, "gold": gold, "bytes": bytes_}


@pytest.mark.parametrize("kind", volumes())
@pytest.mark.parametrize("normalize", [RobustNormalization(), ZScore(), FixedLimits(90.0, 120.0)], ids=repr)
def test_normalised_as_on_the_host(kind, normalize):
    values = volumes()[kind]
    here = Tomogram("A", values, Grid(values.shape, 10.0))
    there = copy_on_device(here)
    np.testing.assert_array_equal(here.void, there.void)
    wanted, found = normalize(here), normalize(there)
    assert is_tensor(found)
    np.testing.assert_allclose(to_host(found), wanted, atol=1e-5)
    np.testing.assert_array_equal(to_host(there.values), values)  # which others normalise in their own way
    np.testing.assert_allclose(radial_spectrum(found, here.void), radial_spectrum(wanted, here.void), atol=1e-6)
    np.testing.assert_allclose(skewness(found, here.void), skewness(wanted, here.void), atol=1e-6)


@pytest.mark.parametrize("kind", ["noise", "blank", "bytes"])
@pytest.mark.parametrize("spacing", [7.0, 13.0, 22.0])
def test_resampled_as_on_the_host(kind, spacing):
    values = volumes()[kind]
    here = Tomogram("A", values, Grid(values.shape, 10.0))
    wanted, found = resample(here, spacing), resample(copy_on_device(here), spacing)
    assert found.grid == wanted.grid
    np.testing.assert_allclose(to_host(found.values), wanted.values, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found.void, wanted.void)


def test_constant_volumes_are_refused_on_a_device_too():
    for normalize in (RobustNormalization(), ZScore(), FixedLimits()):
        with pytest.raises(Exception, match="every voxel has the same value"):
            normalize(copy_on_device(Tomogram("A", np.full((20, 20, 20), 3.0, np.float32), Grid((20, 20, 20), 10.0))))


@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(1, 4), st.integers(0, 9))
@settings(max_examples=40)
def test_maxima_as_on_the_host(shape, radius, seed):
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, 6, shape) / 5 if seed % 2 else rng.random(shape)).astype(np.float32)  # plateaus, or none
    there = torch.from_numpy(values)
    np.testing.assert_array_equal(to_host(largest_around(there, radius)), window_maximum(values, radius))
    rows = slice(seed % 3, shape[1] - seed % 2)
    voxels = maxima(values, radius, 0.3, rows)
    found = maxima_of(there, radius, 0.3, rows, -np.inf, 9.0)
    np.testing.assert_array_equal(found.voxels, voxels)
    indices, heights = refine(values, voxels)
    np.testing.assert_allclose(found.indices, indices, atol=1e-9)
    np.testing.assert_allclose(found.heights, heights, atol=1e-9)
    np.testing.assert_array_equal(found.values, values[tuple(voxels.T)])
    # Those whose height does not reach are left out, unless they touch an equal.
    low = maxima(values, radius, 0.3, rows, 0.7)
    np.testing.assert_array_equal(maxima_of(there, radius, 0.3, rows, 0.7, 9.0).voxels, low)
    assert refined(there, torch.zeros((0, 3), dtype=torch.int64), 9.0)[0].shape == (0, 3)


def bumps(objects, seed=0, shape=(20, 50, 40)) -> Heatmap:
    """Gaussians at any place, below and above 1, in a little noise."""
    rng = np.random.default_rng(seed)
    zyx = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    values = rng.random((len(objects), *shape), dtype=np.float32) * 0.1
    for channel in values:
        for centre in rng.random((25, 3)) * shape:
            square = ((zyx - centre[:, None, None, None]) ** 2).sum(0)
            channel += np.float32(rng.uniform(0.2, 1.1)) * np.exp(-0.5 * square / 2.0**2).astype(np.float32)
    return Heatmap("A", values, Grid(shape, 20.0, (5.0, 5.0, 5.0)), tuple(o.name for o in objects))


def assert_alike(found, wanted, reach=1e-3, score=1e-5):
    """The same picks, whatever their order among equals."""
    assert len(found) == len(wanted) > 0
    for name in set(wanted.names.tolist()):
        one, other = found.of(name), wanted.of(name)
        distance, nearest = cKDTree(one.positions).query(other.positions)
        assert distance.max() < reach
        np.testing.assert_allclose(one.scores[nearest], other.scores, atol=score)


@pytest.mark.parametrize("decoder", [LocalMaxima(), UpsampledMaxima(), Components()], ids=lambda d: type(d).__name__)
def test_decoded_as_on_the_host(decoder):
    objects = (PickableObject("a", 60.0), PickableObject("b", 110.0))
    heat = bumps(objects)
    if isinstance(decoder, UpsampledMaxima):
        heat = replace(heat, values=heat.values / heat.values.sum(0).max() * 0.95)
    cuts = {"a": 0.15, "b": 0.1}
    halves = [
        replace(heat, values=heat.values[:, :, a:b], grid=heat.grid.crop((0, a, 0), (20, b - a, 40)))
        for a, b in ((0, 21), (21, 50))
    ]
    wanted = decode_rows(halves, decoder, objects, cuts, "A")
    there = [replace(strip, values=torch.from_numpy(strip.values)) for strip in halves]
    assert_alike(decode_rows(there, decoder, objects, cuts, "A"), wanted)


class Mixing(torch.nn.Module):
    """Three channels of a little neighbourhood, without symmetry."""

    def __init__(self, stride=1):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv3d(1, 3, 3, stride, 1)

    def forward(self, x):
        return self.layer(x)


TILINGS = [TilingSpec((16, 16, 16), 6, LinearWindow()), StepTiles((16, 16, 16), (8, 8, 8)), ScanTiles((16, 24, 16))]


@pytest.mark.parametrize("tiling", TILINGS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("views", ["none", "turns", "mirrors"])
def test_predicted_as_on_the_host(tiling, views):
    names = ("a", "b") if tiling.of_logits else ("a", "b", "c")
    activation = Softmax() if tiling.of_logits else Rectified()
    made = Predictor(TorchEngine(Mixing(), CPU, "f32"), activation, tiling, 1, 4, names, VIEWS[views])
    values = np.random.default_rng(0).standard_normal((18, 33, 21), dtype=np.float32)
    wanted = list(predict_rows(made, "A", values, Grid(values.shape, 10.0)))
    found = list(predict_rows(made, "A", torch.from_numpy(values), Grid(values.shape, 10.0)))
    assert [strip.grid for strip in found] == [strip.grid for strip in wanted]
    assert all(is_tensor(strip.values) for strip in found)
    np.testing.assert_allclose(to_host(join_rows(found).values), join_rows(wanted).values, atol=1e-6)


def picker(model, on_device=True, **more) -> Picker:
    return Picker(model, replace(F32, **more), on_device=on_device)


def test_picks_as_on_the_host():
    model = Detector.load(trained(BALL, RING))
    for spacing in (10.0, 8.0):
        volume = tomogram(objects=(BALL, RING), n=10)[0]
        volume = replace(volume, grid=Grid(volume.grid.shape, spacing))
        there = picker(model)
        prepared = there.prepare(volume)
        assert prepared.on_device and not prepared.on_host().on_device
        found, unlike = there.pick(prepared)
        wanted, same = picker(model, on_device=False).pick(volume)
        assert unlike == same
        assert_alike(found, wanted, 0.01, 1e-4)
    strips = []
    picker(model).pick(volume, keep=strips.append)
    assert not any(is_tensor(strip.values) for strip in strips)
    rows, _ = picker(model).rows(volume)
    assert not is_tensor(join_rows(rows).values)  # for whoever asks for rows they come down
    np.testing.assert_allclose(
        join_rows(picker(model).rows(volume)[0]).values,
        join_rows(picker(model, on_device=False).rows(volume)[0]).values,
        atol=1e-5,
    )


@pytest.mark.parametrize("mean", ["probabilities", "logits"])
def test_ensembles_as_on_the_host(mean):
    one = Detector.load(trained(BALL))
    other = replace(one, facts=replace(one.facts, voxel_spacing=12.0))
    members = [
        *equal_members([one]),
        replace(equal_members([other])[0], alignment={"ball": Alignment((0, 1), (0, 0.9))}),
    ]
    both = Ensemble(tuple(members), one.thresholds, one.facts, mean)
    volume = tomogram()[0]
    assert_alike(picker(both).pick(volume)[0], picker(both, on_device=False).pick(volume)[0], 0.02, 1e-4)


def test_only_a_gpu_is_a_device_by_itself():
    assert not Picker(untrained(), F32).on_device
    assert picker(untrained()).on_device


def test_what_does_not_fit_stays_on_the_host(monkeypatch, told):
    model, volume = Detector.load(trained(BALL)), tomogram()[0]
    wanted = picker(model, on_device=False).pick(volume)[0]
    monkeypatch.setattr("tomopick.picking.tensors.free_memory", lambda device: 1000)
    small = picker(model)
    assert not small.prepare(volume).on_device
    assert_alike(small.pick(volume)[0], wanted)
    monkeypatch.undo()

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("tomopick.picking.picker.uploaded", full)
    assert not small.prepare(volume).on_device
    monkeypatch.undo()
    monkeypatch.setattr("tomopick.picking.tensor_peaks.largest_around", full)
    assert_alike(small.pick(volume)[0], wanted)
    assert any("are made on the host" in line for line in told)


@pytest.mark.parametrize("most", [10**6, 40_000, 9_000])
def test_tiles_that_do_not_fit_are_halved_on_a_device_too(most, told):
    class Small(TorchEngine):
        def logits(self, batch):
            if batch.numel() > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().logits(batch)

    network = Mixing(stride=2)
    engine, arrays = (Halving(Small(network, CPU, "f32"), 4, 2, 8) for _ in range(2))
    tile = np.random.default_rng(0).standard_normal((32, 48, 64), dtype=np.float32)
    found = engine(torch.from_numpy(tile))
    assert is_tensor(found)
    np.testing.assert_allclose(to_host(found), arrays(tile), atol=1e-5)
    assert bool(told) == (most < tile.size)


def test_where_no_tile_fits_the_cpu_answers_beside_the_tile(told):
    class Never(TorchEngine):
        def logits(self, batch):
            raise torch.OutOfMemoryError("CUDA out of memory")

    class OfArrays(Engine):
        def __call__(self, tile):
            assert not is_tensor(tile)
            return whole(tile)

    whole = TorchEngine(Mixing(), CPU, "f32")
    engine = Halving(Never(Mixing(), CPU, "f32"), 8, 1, 0, instead=OfArrays)
    tile = torch.randn(8, 8, 8)
    np.testing.assert_allclose(to_host(engine(tile)), to_host(whole(tile)), atol=1e-6)


def test_wide_tiles_compute_little_twice():
    wide = TilingSpec((160, 160, 160), 40).widened(Means(48, 100_000_000, 10**9))
    edges, starts = wide.plan((184, 630, 630), 32)
    tiles = int(np.prod(edges)) * int(np.prod([len(s) for s in starts]))
    assert tiles / (184 * 630 * 630) <= 1.6
    assert wide.window == LinearWindow() and wide.means.overlap == 40
    # Where less fits than is stated, what is stated is tried.
    assert TilingSpec((160, 160, 160), 40).widened(Means(48, 1_000_000)) == TilingSpec((160, 160, 160), 40)
    assert StepTiles().widened(Means()) == StepTiles()


def test_wide_tiles_find_the_same_picks():
    model = Detector.load(trained(BALL))
    volume = tomogram(shape=(24, 96, 96), n=20)[0]
    stated = replace(model.method, tiling=TilingSpec((32, 48, 48), 16))
    wide = replace(model.method, tiling=stated.tiling.widened(Means(16, 10**8, 10**9)))
    one, other = (picker(replace(model, method=m)).pick(volume)[0].above({"ball": 0.3}) for m in (stated, wide))
    assert_alike(one, other, 3.0, 0.03)


@given(st.lists(st.floats(-2, 3), min_size=1, max_size=20))
@settings(max_examples=30)
def test_arrays_and_tensors_by_one_name(values):
    array = np.array(values, dtype=np.float32)
    tensor = torch.from_numpy(array)
    given, wanted = (0.0, 0.5, 1.0), (0.0, 0.2, 1.0)
    np.testing.assert_allclose(to_host(interpolated(tensor, given, wanted)), interpolated(array, given, wanted))
    assert is_tensor(zeros((2, 3), tensor)) and zeros((2, 3), array).dtype == np.float32
    np.testing.assert_array_equal(to_host(taken(tensor, np.zeros(2, int), -1)), taken(array, np.zeros(2, int), -1))
    np.testing.assert_array_equal(to_host(alike(array, tensor)), array)


def test_heatmaps_on_another_grid_as_on_the_host():
    rng = np.random.default_rng(0)
    values = rng.random((2, 9, 11, 10), dtype=np.float32)
    source, target = Grid((9, 11, 10), 20.0), Grid((14, 17, 15), 13.0, (3.0, 1.0, 2.0))
    for smooth in (False, True):
        found = onto(torch.from_numpy(values), source, target, smooth)
        np.testing.assert_allclose(to_host(found), onto(values, source, target, smooth), atol=1e-5)
