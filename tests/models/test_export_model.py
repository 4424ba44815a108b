"""Networks for other programs."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import small
from installed import needs
from tomopick import Detector
from tomopick.cli import main
from tomopick.core.errors import EngineError, OutputError
from tomopick.models.export import NETWORK_FORMATS, export_model
from tomopick.networks.engines import EngineSpec

PACKAGES = {"torchscript": "torch"}
HERE = [pytest.param(name, marks=needs(PACKAGES.get(name, name))) for name in NETWORK_FORMATS if name != "tensorrt"]


@pytest.mark.parametrize("to", HERE)
def test_what_is_exported_gives_the_heatmap_for_tiles_of_any_shape(tmp_path, to):
    detector = small.untrained((small.BALL, small.RING))
    done = export_model(detector, tmp_path / "new" / "net", to)
    assert done.path == tmp_path / "new" / f"net{NETWORK_FORMATS[to].suffix}"
    assert done.difference < 1e-5 < done.largest
    tile = np.random.default_rng(3).standard_normal((8, 12, 20), dtype=np.float32)
    predictor = detector.predictor("cpu", engine=EngineSpec("torch", "f32"))
    np.testing.assert_allclose(
        NETWORK_FORMATS[to].load(done.path)(tile[None, None])[0], predictor.tile(tile), atol=1e-5
    )
    about = json.loads((tmp_path / "new" / "net.json").read_text())
    assert about["objects"] == ["ball", "ring"] and about["stride"] == 2 and about["thresholds"]["f1"]["ring"] == 0.3
    assert about["normalize"]["class"] == "RobustNormalization"
    assert sorted(p.suffix for p in (tmp_path / "new").iterdir()) == sorted(
        {".json", NETWORK_FORMATS[to].suffix, *([".bin"] if to == "openvino" else [])}
    )


@pytest.mark.parametrize("to", HERE)
def test_what_differs_is_refused_and_what_was_there_stays(tmp_path, to):
    class Fickle(torch.nn.Module):
        """Gives something else when it is traced: what a converter with a fault would make of it."""

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x) + (1.1 if torch.jit.is_tracing() else 1.0)

    detector = small.untrained()
    suffix = NETWORK_FORMATS[to].suffix
    (tmp_path / f"net{suffix}").write_text("before")
    broken = replace(detector, network=Fickle(detector.network).eval())
    with pytest.raises(EngineError, match="not written: its heatmap would differ"):
        export_model(broken, tmp_path / "net", to, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [f"net{suffix}"]
    assert (tmp_path / f"net{suffix}").read_text() == "before"
    assert export_model(broken, tmp_path / "net", to, bound=0.2, overwrite=True).difference == pytest.approx(0.1, 0.05)


def test_a_file_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "net.json").write_text("mine")
    with pytest.raises(OutputError, match=r"net\.json: exists already"):
        export_model(small.untrained(), tmp_path / "net.onnx", "onnx")
    assert (tmp_path / "net.json").read_text() == "mine"


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnx"), ("openvino", "openvino"), ("tensorrt", "tensorrt")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=f"`to={to}`: it needs the package {package}: pip install"):
        export_model(small.untrained(), tmp_path / "net", to)
    assert not list(tmp_path.iterdir())


def test_the_verb(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    small.untrained().save(model)
    assert isinstance(Detector.load(model), Detector)
    done = CliRunner().invoke(main, ["export-model", str(model), str(tmp_path / "net.pt"), "--to", "torchscript"])
    assert done.exit_code == 0 and "net.pt: differs from torch by at most" in done.output
    again = CliRunner().invoke(main, ["export-model", str(model), str(tmp_path / "net.pt"), "--to", "torchscript"])
    assert again.exit_code == 2 and "exists already" in again.output
    wrong = CliRunner().invoke(main, ["export-model", str(model), str(tmp_path / "net"), "--to", "caffe"])
    said = "'caffe' is not one of 'onnx', 'openvino', 'torchscript', 'tensorrt'"
    assert wrong.exit_code == 2 and said in wrong.output
