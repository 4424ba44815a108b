"""Engines: the same heatmap as float32 torch, whatever runs the network."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import small
from installed import needs
from tomopick.cli import main
from tomopick.core.errors import EngineError
from tomopick.core.records import Records
from tomopick.data import open_project
from tomopick.networks import (
    AsymmetricUNetSpec,
    BPDUNetSpec,
    FlexibleUNetSpec,
    JPUNet25DSpec,
    ResidualUNetSpec,
    UNet25DSpec,
    UNetSpec,
)
from tomopick.networks.engines import ENGINES, EngineSpec, half_precision
from tomopick.networks.engines.cache import KEPT, cache_folder, keep_entry, kept, key_of, left_to
from tomopick.networks.engines.choose import PREFERRED
from tomopick.networks.engines.eager import TorchEngine
from tomopick.networks.engines.onnx_runtime import TensorRTEngine
from tomopick.picking.load import load_model
from tomopick.picking.picker import Picker, PickOptions
from tomopick.simulation.projects import simulate_project

CPU = torch.device("cpu")
FAMILIES = [
    UNetSpec((4, 6, 8), stride=2),
    UNetSpec((4, 6)),
    BPDUNetSpec((4, 4, 6)),
    ResidualUNetSpec((4, 6, 8), strides=(2, 1)),
    FlexibleUNetSpec("resnet34", upsample="transposed", width=0.05),
    FlexibleUNetSpec("efficientnet-b3", deepest=16, heads=3, width=0.05),
    AsymmetricUNetSpec(width=0.05),
    UNet25DSpec(decoder=(32, 16, 8), width=0.1),
    JPUNet25DSpec(joint=8, decoder=(16, 8, 8, 8), width=0.1),
]


def network_of(spec, n_objects=2):
    torch.manual_seed(0)
    return spec.build(n_objects).eval()


def noise(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def difference(found, expected):
    """Relative, in the mean over all cells, against the spread of what is expected (a bias is no achievement)."""
    assert found.dtype == np.float32 and found.shape == expected.shape
    return np.sqrt(((found - expected) ** 2).mean() / expected.var())


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TOMOPICK_CACHE", str(tmp_path / "cache"))


# -- every family, every engine ------------------------------------------------------------------------------


CONVERTED = [("openvino", s) for s in FAMILIES] + [("onnx", FAMILIES[i]) for i in (0, 3, 8)]


@pytest.mark.parametrize(("name", "spec"), [pytest.param(*c, marks=needs(c[0])) for c in CONVERTED], ids=str)
def test_converted_networks_of_every_family_give_what_torch_gives(name, spec):
    network = network_of(spec)
    engine = EngineSpec(name, "f32").build(network, "cpu", spec.multiple)
    plain = TorchEngine(network, CPU, "f32")
    assert engine.tensors_on is None and plain.tensors_on == CPU
    m = spec.multiple
    # The second is another shape than the one that was traced, and what needs padding inside needs it there.
    for shape in ((2 * m, 2 * m, 2 * m), (m, 3 * m, 2 * m)):
        if min(shape) // m == 1 and isinstance(spec, ResidualUNetSpec):
            shape = (2 * m, 3 * m, 4 * m)
        tile = noise(shape)
        assert difference(engine(tile), plain(tile)) < 1e-4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its own ways
def test_torch_compiles_once_for_all_tiles_of_a_shape():
    network = network_of(UNetSpec((4,), convolutions=1, stride=2))
    engine, plain = EngineSpec("compile", "f32").build(network, "cpu", 2), TorchEngine(network, CPU, "f32")
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    for seed in range(3):
        tile = noise((8, 12, 8), seed)
        assert difference(engine(tile), plain(tile)) < 1e-4
    assert counters["unique_graphs"] == before + 1


# -- a trained model -----------------------------------------------------------------------------------------

TRAINED = [  # engine, precision, bound on the relative error of the heatmap
    ("torch", "half", 0.03),
    ("openvino", "f32", 1e-4),
    ("openvino", "half", 0.03),
    ("onnx", "half", 1e-4),
    ("auto", "half", 0.03),
]


@pytest.fixture(scope="module")
def reference():
    detector = load_model(small.trained())
    tomogram, _ = small.tomogram("X", 7)
    plain = how("torch", "f32")
    return detector, tomogram, detector.heatmap(tomogram, plain), detector.pick(tomogram, options=plain).picks


def how(engine, precision):
    return PickOptions(device="cpu", engine=engine, precision=precision)


@pytest.mark.parametrize(("name", "precision", "bound"), [pytest.param(*t, marks=needs(t[0])) for t in TRAINED])
def test_engines_agree_on_a_trained_model(reference, name, precision, bound):
    detector, tomogram, heatmap, picks = reference
    options = how(name, precision)
    assert difference(detector.heatmap(tomogram, options).values, heatmap.values) < bound
    agree(detector.pick(tomogram, options=options).picks, picks)


def agree(found, expected):
    """The same picks within a tenth of a voxel and 0.02 of score."""
    assert len(found) == len(expected) > 0
    for name in set(expected.names):
        a, b = found.of(name), expected.of(name)
        distances = np.linalg.norm(a.positions[:, None] - b.positions, axis=2)
        nearest = distances.argmin(axis=1)
        assert sorted(nearest) == list(range(len(b)))
        assert distances.min(axis=1).max() < 0.1 * small.SPACING
        np.testing.assert_allclose(a.scores, b.scores[nearest], atol=0.02)


@needs("openvino")
def test_eight_bits_cost_little(reference):
    detector, tomogram, heatmap, picks = reference
    predictor = detector.predictor("cpu", engine=EngineSpec("auto", "int8"))
    assert str(predictor.engine) == "openvino int8 on cpu"
    found = difference(detector.heatmap(tomogram, how("auto", "int8")).values, heatmap.values)
    assert 1e-3 < found < 0.1  # it is not float32 under another name
    again = detector.pick(tomogram, options=how("auto", "int8")).picks
    assert abs(len(again) - len(picks)) <= 1
    for name in set(picks.names):
        for position in again.of(name).positions:
            assert np.linalg.norm(picks.of(name).positions - position, axis=1).min() < 0.5 * small.SPACING


@needs("openvino")
def test_the_last_layer_of_openvino_is_not_rounded_to_half_precision():
    if half_precision(CPU) is None:
        pytest.skip("this CPU does not multiply in half precision")
    network = network_of(UNetSpec((16, 32), stride=2))
    found = EngineSpec("openvino", "half").build(network, "cpu", 4)(noise((32, 32, 32)))
    assert str(EngineSpec("openvino", "half").build(network, "cpu", 4)) == "openvino bf16 on cpu"
    # Every bf16 number ends in 16 zero bits; of exact ones hardly any does.
    assert (found.view(np.uint32) & 0xFFFF == 0).mean() < 0.01


def test_the_shipped_model_picks_alike_with_the_fastest_engine(tmp_path):
    detector = load_model("default")
    (run,) = simulate_project(tmp_path / "phantom", (64, 128, 128), seed=5, tomo_types=("denoised",))
    tomogram = open_project(tmp_path / "phantom" / "copick.json").tomogram(run, "denoised")
    low = {o.name: 0.3 for o in detector.objects}
    picks = []
    for name, precision in (("torch", "f32"), ("auto", "half")):
        picks.append(detector.pick(tomogram, low, how(name, precision)).picks)
    expected, found = picks
    assert len(expected) >= 3
    # What lies on the threshold may fall on either side of it.
    for some, others in ((expected, found), (found, expected)):
        clear = some.select(some.scores > 0.34)
        for name, position in zip(clear.names, clear.positions):
            distances = np.linalg.norm(others.of(name).positions - position, axis=1)
            assert distances.min() < 0.5 * tomogram.grid.voxel_spacing


@needs("openvino")
def test_openvino_reports_to_nobody(tmp_path):
    code = """
import sys, numpy, tomopick.networks.engines, torch
engine = tomopick.networks.engines.EngineSpec("openvino").build(torch.nn.Conv3d(1, 2, 1), "cpu", 1)
assert engine(numpy.zeros((2, 2, 2), "f4")).shape == (2, 2, 2, 2)
sys.exit(any(m.startswith("openvino_telemetry.") for m in sys.modules))
"""
    place = {**os.environ, "HOME": str(tmp_path), "TOMOPICK_CACHE": str(tmp_path / "cache")}
    assert subprocess.run([sys.executable, "-c", code], env=place, check=False).returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]  # no identity was made up for the user


@needs("openvino")
@pytest.mark.parametrize(
    "gone",
    ["del old; del new", "del old; other = Thread(target=vars().pop, args=['new']); other.start(); other.join()"],
    ids=["the first first", "in another thread"],
)
def test_signals_are_handled_when_engines_have_come_and_gone(tmp_path, gone):
    """A signal is written to the thread's alternate stack, which OpenVINO's core gives it and may leave it freed."""
    code = f"""
import signal, sys, numpy, torch
from threading import Thread
from tomopick.networks.engines import EngineSpec
def engine():
    return EngineSpec("openvino").build(torch.nn.Conv3d(1, 2, 1), "cpu", 1)
old, new = engine(), engine()
{gone}
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    sys.exit(7)
"""
    place = {**os.environ, "TOMOPICK_CACHE": str(tmp_path / "cache")}
    assert subprocess.run([sys.executable, "-c", code], env=place, check=False).returncode == 7


# -- choosing ------------------------------------------------------------------------------------------------


@needs("openvino")
def test_auto_takes_the_best_that_is_there(monkeypatch, caplog):
    network = network_of(UNetSpec((4,)))
    assert str(EngineSpec().build(network, "cpu", 1)).startswith("openvino ")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert str(EngineSpec().build(network, "cpu", 1)).startswith("torch ")
    assert set(PREFERRED) < set(ENGINES)


@needs("openvino", "onnx")
def test_auto_goes_on_where_a_network_cannot_be_converted(caplog):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.fft.ifftn(torch.fft.fftn(x, dim=(2, 3, 4)), dim=(2, 3, 4)).real * torch.special.bessel_j0(x)

    with caplog.at_level(logging.WARNING, "tomopick"):
        engine = EngineSpec().build(Odd(), "cpu", 1)
    assert str(engine).startswith("torch ") and "OpenVINO cannot convert Odd" in caplog.text
    with pytest.raises(EngineError, match="cannot convert Odd"):
        EngineSpec("openvino").build(Odd(), "cpu", 1)
    with pytest.raises(EngineError, match="ONNX cannot hold Odd"):
        EngineSpec("onnx").build(Odd(), "cpu", 1)


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("openvin", "half", "no engine 'openvin'; there is auto, torch, compile, openvino"),
        ("torch", "f16", "no precision 'f16'; there is half, f32, int8"),
        ("torch", "int8", "engine 'torch' cannot run here: it computes in half or f32, not in int8"),
        ("cuda", "half", "engine 'cuda' cannot run here: it runs on cuda, not on cpu"),
        ("tensorrt", "half", "it runs on cuda"),
    ],
)
def test_what_cannot_be_had(name, precision, message):
    with pytest.raises(EngineError, match=message):
        EngineSpec(name, precision).build(network_of(UNetSpec((4,))), "cpu", 1)


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("openvino", "openvino", r"needs the package openvino: pip install 'tomopick\[cpu\]'"),
        ("onnx", "onnxruntime", r"needs the package onnxruntime: pip install 'tomopick\[onnx\]'"),
        ("onnx", "onnx", r"needs the package onnx: pip install 'tomopick\[onnx\]'"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch, name, package, message):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=message):
        EngineSpec(name).build(network_of(UNetSpec((4,))), "cpu", 1)


def test_compiling_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(EngineError, match="needs a C\\+\\+ compiler"):
        EngineSpec("compile").build(network_of(UNetSpec((4,))), "cpu", 1)


def test_engine_and_half_precision_do_not_count_as_settings_but_eight_bits_do():
    plain = PickOptions().settings()
    assert PickOptions(device="cpu", engine="torch", precision="f32").settings() == plain
    assert PickOptions(precision="int8").settings() == plain | {"precision": "int8"}


def test_the_picker_names_its_engines():
    detector = small.untrained()
    assert Picker(detector, PickOptions(device="cpu", engine="torch", precision="f32")).engines() == [
        "torch f32 on cpu"
    ]


def test_pick_says_and_records_which_engine_ran(tmp_path, monkeypatch):
    source = small.folder(tmp_path / "data", runs=("A",))

    def pick(*more):
        call = ["pick", small.trained(), source, "--out", tmp_path / "out", "--device", "cpu", *more]
        return CliRunner().invoke(main, list(map(str, call)))

    done = pick("--engine", "torch", "--precision", "f32")
    assert done.exit_code == 0 and "engine: torch f32 on cpu\n" in done.stderr
    record = Records(tmp_path / "out" / "records").last("A")
    assert record["engines"] == ["torch f32 on cpu"]
    assert "finished before" in pick("--engine", "auto").stdout  # another engine is no reason to pick again
    monkeypatch.setitem(sys.modules, "openvino", None)
    lacking = pick("--engine", "openvino")
    assert lacking.exit_code == 2
    assert lacking.stderr.splitlines()[-1] == (
        "error: engine 'openvino' cannot run here: it needs the package openvino: pip install 'tomopick[cpu]' "
        "(or pip install openvino)"
    )


# -- the cache -----------------------------------------------------------------------------------------------


def entries():
    return sorted(p for p in cache_folder().iterdir() if p.is_dir())


@needs("openvino")
def test_a_converted_network_is_kept_and_used_again():
    network, tile = network_of(UNetSpec((4,))), noise((4, 4, 4))
    first = EngineSpec("openvino", "f32").build(network, "cpu", 1)(tile)
    (entry,) = entries()
    assert sorted(p.name for p in entry.iterdir()) == ["digest.json", "model.bin", "model.xml"]
    before = (entry / "model.xml").stat().st_mtime_ns
    np.testing.assert_array_equal(EngineSpec("openvino", "f32").build(network, "cpu", 1)(tile), first)
    assert (entry / "model.xml").stat().st_mtime_ns == before and entries() == [entry]


def test_other_weights_are_another_entry():
    network = network_of(UNetSpec((4,)))
    key = key_of(network, "x")
    assert key_of(network, "x") == key != key_of(network, "y")
    with torch.no_grad():
        network.head.bias += 1e-3
    assert key_of(network, "x") != key
    assert key_of(network_of(UNetSpec((4,), convolutions=1)), "x") != key


def test_tensorrt_keeps_the_engines_of_each_network_apart_and_runs_on_the_device_asked_for():
    network, device = network_of(UNetSpec((4,))), torch.device("cuda", 1)
    (name, options), (_, fallback) = TensorRTEngine.chosen(network, device, "half")
    assert name == "TensorrtExecutionProvider" and options["device_id"] == fallback["device_id"] == 1
    (_, same), _ = TensorRTEngine.chosen(network, torch.device("cuda"), "half")
    with torch.no_grad():
        network.head.bias += 1e-3
    (_, other), _ = TensorRTEngine.chosen(network, device, "half")
    assert same["trt_engine_cache_path"] == options["trt_engine_cache_path"] != other["trt_engine_cache_path"]
    assert "device_id" not in same


@needs("openvino")
@pytest.mark.parametrize("damage", ["cut", "changed", "no digest", "garbled digest"])
def test_a_damaged_entry_is_made_anew(damage, caplog):
    network, tile = network_of(UNetSpec((4,))), noise((4, 4, 4))
    first = EngineSpec("openvino", "f32").build(network, "cpu", 1)(tile)
    (entry,) = entries()
    weights, digest = entry / "model.bin", entry / "digest.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:10])
    elif damage == "changed":
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 64
        weights.write_bytes(content)
    elif damage == "no digest":
        digest.unlink()
    else:
        digest.write_text("{")
    with caplog.at_level(logging.WARNING, "tomopick"):
        again = EngineSpec("openvino", "f32").build(network, "cpu", 1)(tile)
    np.testing.assert_array_equal(again, first)
    assert "damaged; the network is converted again" in caplog.text
    assert entries() == [entry] and kept(entry.name) == entry


@needs("openvino")
def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    place = tmp_path / "a file"
    place.write_text("")
    monkeypatch.setenv("TOMOPICK_CACHE", str(place))
    network, tile = network_of(UNetSpec((4,))), noise((4, 4, 4))
    found = EngineSpec("openvino", "f32").build(network, "cpu", 1)(tile)
    assert difference(found, TorchEngine(network, CPU, "f32")(tile)) < 1e-4
    assert place.read_text() == ""


def test_a_failure_leaves_no_entry_and_the_oldest_go():
    def fail(place):
        (place / "part").write_text("x")
        raise OSError("disk full")

    keep_entry("whole", lambda place: (place / "a").write_text("x"))
    keep_entry("failed", fail)
    assert [p.name for p in entries()] == ["whole"] and kept("failed") is None
    os.utime(cache_folder() / "whole", (1, 1))
    for i in range(KEPT):
        keep_entry(f"new{i}", lambda place: (place / "a").write_text("x"))
    assert kept("whole") is None and len(entries()) == KEPT


def test_folders_that_a_runtime_fills_are_as_many():
    for i in range(KEPT):
        (left_to("tensorrt", f"old{i}") / "engine").write_text("x")
        os.utime(cache_folder() / "tensorrt" / f"old{i}", (i, i))
    assert left_to("tensorrt", "old0").is_dir() and left_to("tensorrt", "new").is_dir()  # used again, and one more
    there = {p.name for p in (cache_folder() / "tensorrt").iterdir()}
    assert there == {"new", "old0", *(f"old{i}" for i in range(2, KEPT))}


def test_where_the_cache_lies(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TOMOPICK_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tomopick"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tomopick"
