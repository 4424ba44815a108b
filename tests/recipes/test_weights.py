"""Published weights: every layout under its published names, and files that want to run something."""

import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from tomopick import Detector, recipes
from tomopick.cli import main
from tomopick.core.errors import ModelError, OutputError, SelectionError
from tomopick.core.presets import CZII_OBJECTS
from tomopick.picking.ensemble import Ensemble
from tomopick.recipes.torch_files import StoredTensor, plain_table, read_torch_file, tensor_tables
from tomopick.recipes.weights import LAYOUTS, _objects_in, convert, mirrored

AF, BA, BG, RB, TH, VLP = (o.name for o in CZII_OBJECTS)


def randomised(network, seed=0):
    """Every parameter and statistic at random, so that two layers that change places are told apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.2 - (0 if "var" in name else 0.1))
                value.add_(0.5 if "var" in name or (name.endswith("weight") and value.ndim == 1) else 0)
    return network.eval()


# -- the peers' networks, as far as their names go -------------------------------------------------------------


def conv_bn_relu(n_in, n_out):
    block = nn.Module()
    block.block = nn.Sequential(nn.Conv3d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm3d(n_out), nn.ReLU())
    block.forward = lambda x: block.block(x)
    return block


class PeerBPD(nn.Module):
    """The layers of a released BPD network under their names, put together in the order that they are described."""

    def __init__(self):
        super().__init__()
        self.register_buffer("D", torch.tensor(0))
        self.norm = nn.BatchNorm3d(1)
        for name, widths in (
            ("encoder1", (1, 28, 28)), ("encoder2", (28, 32, 32)), ("decoder1", (32, 36, 36, 36, 36)),
            ("decoder2", (68, 32, 32)), ("pre", (32, 28, 28)),
        ):  # fmt: skip
            part = nn.Module()
            part.conv3d_layers = nn.Sequential(*(conv_bn_relu(a, b) for a, b in pairwise(widths)))
            setattr(self, name, part)
        self.decoder2.upsample = nn.Sequential(nn.ConvTranspose3d(32, 32, 2, stride=2), nn.BatchNorm3d(32), nn.ReLU())
        self.mask = nn.Conv3d(28, 6, 1, bias=False)

    def forward(self, x):
        def resized(x, factor):
            return nn.functional.interpolate(x, scale_factor=factor, mode="trilinear")

        fine = self.encoder1.conv3d_layers(self.norm(x))
        half = self.encoder2.conv3d_layers(resized(fine, 0.5))
        deep = resized(self.decoder1.conv3d_layers(resized(half, 0.5)), 2)
        up = self.decoder2.upsample(self.decoder2.conv3d_layers(torch.cat([half, deep], 1)))
        return self.mask(self.pre.conv3d_layers(up))


@pytest.fixture
def narrow(monkeypatch):
    """Layouts of networks with a tenth of the channels: the names are the same, and the files small."""
    for kind, head in (("topcup_released", "segmentation_heads.3.0.weight"), ("unet25d_convnext", "stem.conv.weight")):
        thin = (head, ("network.width=0.1",))
        monkeypatch.setitem(LAYOUTS, kind, replace(LAYOUTS[kind], variants=(thin, *LAYOUTS[kind].variants)))


def topcup_state(encoder):
    """Weights as topcup's: ours, for volumes with axes x, y, z (the names: benchmarks/parity_topcup.py)."""
    method = recipes.get("topcup_released").override(["network.width=0.1", f"network.encoder={encoder}"])
    network = randomised(method.network.build(6))
    return network, {f"model.{k}": v for k, v in mirrored(network.state_dict()).items()}


def yu4u_names(state):
    """Our names -> yu4u's."""
    found = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "slices":
            name = f"stem.conv.{parts[1]}"
        elif parts[0] == "backbone":
            name = f"backbone.{parts[1]}_{parts[2]}.{'.'.join(parts[3:])}"
        elif parts[0] == "bridges":
            name = f"conv3ds.{parts[1]}.{parts[2]}.block.{'.'.join(parts[3:])}"
        elif parts[0] == "decoder":
            name = f"decoder.blocks.{parts[1]}.conv{int(parts[2]) + 1}.block.{'.'.join(parts[3:])}"
        else:
            name = f"segmentation_head.{parts[1]}"
        found[name] = value
    return found


def volume(shape=(16, 24, 32), seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 1, *shape), dtype=np.float32))


# -- every layout -----------------------------------------------------------------------------------------------


def test_bpd_is_an_ensemble_of_four(tmp_path):
    peers = [randomised(PeerBPD(), seed) for seed in range(4)]
    torch.save(
        {f"models.{i}.{k}": v for i, p in enumerate(peers) for k, v in p.state_dict().items()}, tmp_path / "m.pth"
    )
    made = convert(tmp_path / "m.pth", "bpd_released", tmp_path / "out")
    assert isinstance(made, Ensemble) and len(made.detectors) == 4
    for peer, back in zip(peers, made.detectors):
        with torch.no_grad():
            torch.testing.assert_close(back.network(volume()), peer(volume()), atol=1e-5, rtol=1e-4)
        assert [o.name for o in back.objects] == [AF, BG, RB, TH, VLP]
        assert back.thresholds["czii"] == {AF: 0.0575, BG: 0.0475, RB: 0.0575, TH: 0.0475, VLP: 0.125}
        assert back.method.normalize == recipes.get("bpd_released").normalize
    third = convert(tmp_path / "m.pth", "bpd_released", tmp_path / "third", member=3)
    assert torch.equal(third.network.logits.weight, peers[2].mask.weight)
    with pytest.raises(SelectionError, match="holds 4 networks; there is no member 5"):
        convert(tmp_path / "m.pth", "bpd_released", tmp_path / "fifth", member=5)
    assert not (tmp_path / "fifth").exists()


def test_topcup_sees_axes_the_other_way_round(narrow, tmp_path):
    network, state = topcup_state("resnet34")
    settings = {
        "particle_ids": {AF: 1, "mine": 0, BG: 2, RB: 3, TH: 4, VLP: 5},
        "particle_radius": {"mine": 44, AF: 55.0},
        "score_thresholds": {"mine": 0.4, AF: 0.3},
        "output_dir": io.StringIO.__class__,  # a class that is nobody's business
        "lvl_weights": np.array([0, 0, 1, 1]),
    }
    torch.save({"state_dict": state, "hyper_parameters": settings, "epoch": 3}, tmp_path / "best.ckpt")
    made = convert(tmp_path / "best.ckpt", "topcup_released", tmp_path / "out")
    assert [o.name for o in made.objects] == ["mine", AF, BG, RB, TH, VLP]
    assert [o.radius for o in made.objects][:3] == [44, 55, 90]
    assert made.thresholds["f1"] == {"mine": 0.4, AF: 0.3, BG: 0.13, RB: 0.19, TH: 0.18, VLP: 0.50}
    back = Detector.load(tmp_path / "out")
    for name, value in network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], value), name
    kernel, theirs = back.network.encoder.conv1.weight, state["model.encoder.conv1.weight"]
    assert torch.equal(kernel, theirs.transpose(2, 4)) and not torch.equal(kernel, theirs)
    assert (tmp_path / "out" / "README.md").read_text().count("topcup_released") >= 1
    assert back.facts.provenance["converted"]["file"] == "best.ckpt"


def test_topcup_on_efficientnet(narrow, tmp_path):
    network, state = topcup_state("efficientnet-b3")
    torch.save({"model": {k.removeprefix("model."): v.half() for k, v in state.items()}}, tmp_path / "k.pth")
    made = convert(tmp_path / "k.pth", "topcup_released", tmp_path / "out")
    assert made.method.network.encoder == "efficientnet-b3"
    assert [o.name for o in made.objects] == [o.name for o in CZII_OBJECTS]
    assert made.thresholds["czii"][VLP] == 0.5
    wanted = network.state_dict()["encoder._conv_stem.weight"].half().float()
    assert torch.equal(made.network.encoder._conv_stem.weight, wanted)


@pytest.mark.parametrize("size", ["tiny", "medium", "big"])
@pytest.mark.parametrize("old", [False, True])
def test_soup(size, old, tmp_path):
    kind = f"soup_released_{size}"
    network = randomised(recipes.get(kind).network.build(6))
    state = network.state_dict()
    if old:  # before norm and activation lay in a block of their own
        state = {k.replace(".adn.A.", ".act."): v for k, v in state.items()}
        assert any(".act." in k for k in state)
    wrapped = OrderedDict({f"module.model.{k}": v for k, v in state.items()})
    # Beside its running average, which is what the published code picks with.
    plain = {f"net.{k}": torch.zeros_like(v) for k, v in state.items()}
    averaged = {f"ema.{k}": v for k, v in wrapped.items()}
    torch.save({"state_dict": averaged | plain if size == "big" else wrapped}, tmp_path / "s.pt")
    made = convert(tmp_path / "s.pt", kind, tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(made.network(volume()), network(volume()))
    assert set(made.thresholds["czii"].values()) == {0.1}


def test_yu4u(narrow, tmp_path):
    method = recipes.get("unet25d_convnext").override(["network.width=0.1"])
    network = randomised(method.network.build(6))
    state = yu4u_names(network.state_dict())
    assert {"backbone.stem_0.weight", "backbone.stages_3.blocks.1.mlp.fc2.bias", "conv3ds.3.1.block.1.running_var",
            "decoder.blocks.2.conv2.block.0.weight", "segmentation_head.bias"} <= set(state)  # fmt: skip
    both = {f"model_ema.module.{k}": v for k, v in state.items()}
    # What is not used is not read either: such tensors would be refused.
    both |= {f"model.{k}": torch.zeros(()).expand(v.shape) for k, v in state.items()}
    torch.save({"state_dict": both}, tmp_path / "y.ckpt")
    made = convert(tmp_path / "y.ckpt", "unet25d_convnext", tmp_path / "out")
    assert all(torch.equal(v, made.network.state_dict()[k]) for k, v in network.state_dict().items())
    assert [o.name for o in made.objects] == [AF, BG, RB, TH, VLP, BA]
    low, high = made.method.normalize.low, made.method.normalize.high
    assert (low, high - low) == (pytest.approx(5.2577832e-08), pytest.approx(7.199929e-06))


# -- what does not fit -------------------------------------------------------------------------------------------


def soup_file(place, change=lambda state: state, legacy=False):
    network = randomised(recipes.get("soup_released_tiny").network.build(6))
    torch.save(change(dict(network.state_dict())), place, _use_new_zipfile_serialization=not legacy)
    return network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "residual" not in k}, r"model.0.residual.weight is missing, and \d+"),
        (lambda s: s | {"more": torch.zeros(2)}, "more is none of its layers"),
        (
            lambda s: s | {"model.0.residual.bias": torch.zeros(3)},
            r"model.0.residual.bias has shape \(3,\), not \(32,\)",
        ),
        (
            lambda s: {"weight": torch.zeros(2)},
            "holds no model.2.1.conv.unit0.conv.weight; expected the weights of soup",
        ),
        (lambda s: {}, "holds no model.2.1"),
        (lambda s: s | {"model.2.1.conv.unit0.conv.weight": torch.zeros(5, 5, 3, 3, 3)}, "has channels for 4 objects"),
        (lambda s: s | {"model.2.1.conv.unit0.conv.weight": torch.tensor(1.0)}, "has channels for -1 objects, not 6"),
    ],
)
def test_another_network(change, message, tmp_path):
    soup_file(tmp_path / "s.pt", change)
    with pytest.raises(ModelError, match=message) as found:
        convert(tmp_path / "s.pt", "soup_released_tiny", tmp_path / "out")
    assert "\n" not in str(found.value) and str(tmp_path / "s.pt") in str(found.value)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path):
    soup_file(tmp_path / "s.pt")
    run = CliRunner().invoke
    found = run(main, ["convert", str(tmp_path / "s.pt"), "--as", "soup_released_tiny", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert "1,489,474 parameters" in found.output and "ribosome 0.1" in found.output
    again = run(main, ["convert", str(tmp_path / "s.pt"), "--as", "soup_released_tiny", str(tmp_path / "out")])
    assert again.exit_code == 2 and "exists already" in again.output
    wrong = run(main, ["convert", str(tmp_path / "s.pt"), "--as", "soup_released_tiy", str(tmp_path / "new")])
    assert wrong.exit_code == 2 and "is not one of" in wrong.output and "'soup_released_tiny'" in wrong.output
    named = ["--object", "a:50", "--object", "b:60"]
    few = run(main, ["convert", str(tmp_path / "s.pt"), "--as", "soup_released_tiny", str(tmp_path / "new"), *named])
    assert few.exit_code == 2 and "has channels for 6 objects, not 2 (a, b)" in few.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("radius", [70, "wide", -1.0, float("nan")])
def test_objects_that_a_checkpoint_names(radius):
    """Twelve channels, which as text would sort as 0, 1, 10, 11, 2; a radius that is none is not believed."""
    names = [AF, *(f"object-{i}" for i in range(1, 12))]
    stated = {"particle_ids": {n: i for i, n in reversed([*enumerate(names)])}, "particle_radius": {names[0]: radius}}
    made = _objects_in({"hyper_parameters": stated}, LAYOUTS["topcup_released"])
    assert [o.name for o in made] == names and [o.label for o in made] == list(range(1, 13))
    assert made[0].radius == (70 if radius == 70 else CZII_OBJECTS[0].radius)


@pytest.mark.parametrize("member", [0, 2])
def test_a_member_that_is_not_there(member, tmp_path):
    soup_file(tmp_path / "s.pt")
    with pytest.raises(SelectionError, match=f"holds 1 network; there is no member {member}"):
        convert(tmp_path / "s.pt", "soup_released_tiny", tmp_path / "out", member=member)


def test_an_output_that_exists_is_kept(tmp_path):
    soup_file(tmp_path / "s.pt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")  # an empty folder is as good as none
    with pytest.raises(OutputError, match="exists already"):
        convert(tmp_path / "s.pt", "soup_released_tiny", tmp_path / "out")


def test_every_layout_is_a_recipe():
    assert set(LAYOUTS) <= set(recipes.names())
    for kind, layout in LAYOUTS.items():
        assert kind == layout.recipe and set(layout.thresholds) <= set(layout.objects)


# -- the reader --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_of_every_kind(legacy, tmp_path):
    base = torch.arange(24, dtype=torch.float32)
    state = OrderedDict(
        whole=base, view=base[4:16].view(3, 4), turned=base.view(4, 6).T, scalar=torch.tensor(7),
        half=base.half(), brain=base.bfloat16(), flags=base > 3, empty=torch.zeros(0, 3), byte=base.byte(),
        parameter=nn.Parameter(base * 2), double=base.double(),
    )  # fmt: skip
    state._metadata = {"": {"version": 1}}
    torch.save(
        {"state_dict": state, "more": [1, {"x": 2}]}, tmp_path / "t.pt", _use_new_zipfile_serialization=not legacy
    )
    content = read_torch_file(tmp_path / "t.pt")
    table = next(tensor_tables(content))
    assert set(table) == set(state)
    for name, tensor in table.items():
        found = tensor.load()
        assert found.dtype == state[name].dtype and torch.equal(found, state[name].detach()), name
    assert content["more"] == [1, {"x": 2}]


class Call:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        return (self.function, self.args, self.state) if self.state is not None else (self.function, self.args)


def hostile(mark):
    command = f"touch {mark}"
    return {
        "os.system": Call(os.system, command),
        "eval": Call(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Call(exec, f"open({str(mark)!r}, 'w')"),
        "open": Call(open, str(mark), "w"),
        "popen": Call(subprocess.Popen, ["touch", str(mark)]),
        "nested": [({"a": (Call(os.system, command),)},)],
        "as an argument": Call(OrderedDict, [("x", Call(os.system, command))]),
        "state": Call(OrderedDict, state={"run": Call(os.system, command)}),
        "by import": Call(__import__, "antigravity"),
        "torch.load": Call(torch.load, str(mark)),
    }


@pytest.mark.parametrize("name", list(hostile("x")))
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_wants_to_run_something(name, legacy, tmp_path):
    mark = tmp_path / "was-here"
    network = soup_file(tmp_path / "clean.pt")
    content = {"state_dict": dict(network.state_dict()), "hyper_parameters": hostile(mark)[name]}
    torch.save(content, tmp_path / "bad.pt", _use_new_zipfile_serialization=not legacy)
    assert not mark.exists()
    made = convert(tmp_path / "bad.pt", "soup_released_tiny", tmp_path / "out")
    assert not mark.exists()
    assert torch.equal(made.network.model[0].residual.weight, network.model[0].residual.weight)


def test_the_hostile_file_is_hostile(tmp_path):
    """Read in the ordinary way it does what it wants."""
    pickle.loads(pickle.dumps(hostile(tmp_path / "was-here")["nested"]))
    assert (tmp_path / "was-here").exists()


def archive(place, program):
    """A torch file whose pickle is the given program."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as made:
        made.writestr("archive/data.pkl", program)
        made.writestr("archive/data/0", bytes(16))


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(Vtouch MARK\ntR.",
        b"(Vtouch MARK\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nVtouch MARK\no.",  # OBJ
        b"\x80\x02cos\nsystem\nVtouch MARK\n\x85\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch MARK\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x08builtins\x8c\x09eval.real\x93\x8c\x011\x85R.",  # a dotted name
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__cos\nsystem\nsb.",  # BUILD on our function
        b"ctorch._utils\n_rebuild_tensor_v2\n(NX\x05\x00\x00\x00_call" + b"cos\nsystem\ns\x86b.",
        b"ccollections\nOrderedDict\n}X\x0b\x00\x00\x00__setitem__cos\nsystem\nsb.",  # BUILD on a class
        b"ctorch\nSize\n(N}X\x01\x00\x00\x00xK\x01st\x86b.",
        b"ctomopick.torchfile\n_Reader\n(Vx\ntR.",
        b"ctomopick.torchfile\nPath\n(Vx\ntRVunlink\nb.",
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x05\x97.",  # an outside buffer
        b"cos\nsystem",  # cut off
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo of 2^31 entries
        b"I1\n.",
        b"",
        b"(lp0\nVx\naVy\nVz\nb.",
        b"(X\x06\x00\x00\x00modulectorch\nFloatStorage\ntQ.",  # a reference to a module's source
    ],
)
def test_programs(program, tmp_path):
    mark = tmp_path / "was-here"
    archive(tmp_path / "bad.pt", program.replace(b"MARK", str(mark).encode()))
    for kind in LAYOUTS:
        with pytest.raises(ModelError) as found:
            convert(tmp_path / "bad.pt", kind, tmp_path / "out")
        assert "\n" not in str(found.value)
    assert not mark.exists() and not (tmp_path / "out").exists()


def test_what_was_whitelisted_is_not_changed_by_a_file(tmp_path):
    """An attribute set on a stand-in by one file is not there in the next."""
    program = b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00items" + b"cos\nsystem\nsb."
    archive(tmp_path / "bad.pt", program)
    assert read_torch_file(tmp_path / "bad.pt") == {}
    torch.save(OrderedDict(a=torch.ones(2)), tmp_path / "good.pt")
    assert isinstance(read_torch_file(tmp_path / "good.pt")["a"], StoredTensor)


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        (b"K\x00(K\x05t(K\x01t", "beyond its storage"),
        (b"K\x03(K\x02t(K\x01t", "beyond its storage"),
        (b"K\x00(K\x02K\x04t(K\x00K\x01t", "larger than its storage"),
        (b"J\xff\xff\xff\xff(K\x02t(K\x01t", "impossible shape"),
        (b"K\x00(K\x02t(K\x01K\x01t", "impossible shape"),
    ],
)
def test_tensors_that_reach_beyond_their_numbers(numbers, fault, tmp_path):
    archive(tmp_path / "bad.pt", b"}Va\nctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + numbers + b"\x89NtRs.")
    with pytest.raises(ValueError, match=fault):
        read_torch_file(tmp_path / "bad.pt")["a"].load()


def test_files_that_are_no_torch_files(tmp_path):
    for name, data in {"text": b"hello", "empty": b"", "pickle": pickle.dumps({"a": 1})}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match="its tensors cannot be read without running code from it"):
            read_torch_file(tmp_path / name)
    with pytest.raises(ModelError, match="No such file"):
        read_torch_file(tmp_path / "absent")
    with zipfile.ZipFile(tmp_path / "squeezed.pt", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", b"}.")
    with pytest.raises(ModelError, match="a compressed archive"):
        read_torch_file(tmp_path / "squeezed.pt")
    with zipfile.ZipFile(tmp_path / "order.pt", "w") as made:
        made.writestr("archive/data.pkl", b"}.")
        made.writestr("archive/byteorder", b"\0" * 10**6, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="a compressed archive"):
        read_torch_file(tmp_path / "order.pt")


def test_settings_are_numbers_and_text_alone():
    content = {"hyper_parameters": {"a": {"x": 1, "y": None, "z": [1], 3: 4}}}
    assert plain_table(content, "hyper_parameters", "a") == {"x": 1}
    assert plain_table(content, "hyper_parameters", "b") == plain_table([1], "a") == {}
