"""How near each engine comes to what the machine can do, network by network, everything measured in one run.

    python benchmarks/roofline.py                                  # the shipped model and all recipes
    python benchmarks/roofline.py --recipes light,topcup --engines torch,openvino --tile 128
    python benchmarks/roofline.py --threads 1 --clock cpu          # on a machine that others use too
    python benchmarks/roofline.py --recipes none --layers          # the shipped model, layer by layer in OpenVINO

Operations and bytes are counted on the network itself: two operations a multiplication, and each convolution reads its
input and weights and writes its output once in 16 bits (all else fused). The ceiling is the fastest 3^3 convolution of
32 to 32 channels that torch or an engine reached in the same rounds; `roof` is the time that ceiling and the memory's
bandwidth allow, layer by layer, as a part of the time taken; `s a volume` is for 184 x 630 x 630 voxels without any
overlap. Rounds go over all candidates; the fastest of each counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tomopick import load_model, recipes
from tomopick.core.errors import EngineError
from tomopick.networks.engines import ENGINES, EngineSpec, choose_device, half_precision

OBJECTS = 6
VOLUME = 184 * 630 * 630  # voxels of a tomogram of the CZII challenge
Work = Callable[[], Any]


@dataclass
class Count(TorchDispatchMode):
    """Operations and bytes of whatever runs inside; on fake tensors nothing is computed."""

    layers: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            x, weight, transposed = args[0], args[1], args[6]
            operations = 2 * (x if transposed else out).numel() * weight[0].numel()
            self.layers.append((operations, 2 * (x.numel() + weight.numel() + out.numel())))
        elif func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            a, b = args[-2:]
            self.layers.append((2 * a.numel() * b.shape[1], 2 * (a.numel() + b.numel() + out.numel())))
        return out


def counted(network: nn.Module, shape: tuple[int, ...]) -> list[tuple[float, float]]:
    """(operations, bytes) of each layer of a network for a tile of a shape."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), Count() as count:
        network(torch.empty(1, 1, *shape))
    return count.layers


def convolutions(n: int = 6) -> nn.Module:
    """Nothing but 3^3 convolutions of 32 to 32 channels, between two thin ones that every engine has to begin with."""
    inner = [m for _ in range(n) for m in (nn.Conv3d(32, 32, 3, padding=1, bias=False), nn.ReLU())]
    return nn.Sequential(nn.Conv3d(1, 32, 1), *inner, nn.Conv3d(32, 1, 1)).eval()


@dataclass
class Stopwatch:
    """The least seconds of each candidate over rounds that go through all of them."""

    clock: str
    threads: int
    device: torch.device
    work: dict[str, Work] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)

    def run(self, rounds: int) -> None:
        """Once to warm up, then that many rounds."""
        for work in self.work.values():
            work()
        for _ in range(rounds):
            for name, work in self.work.items():
                self.least[name] = min(self.least.get(name, np.inf), self._seconds(work))

    def _seconds(self, work: Work) -> float:
        now = time.process_time if self.clock == "cpu" else time.perf_counter
        began = now()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (now() - began) / (self.threads if self.clock == "cpu" else 1)


def plain_ceilings(device: torch.device, edge: int) -> tuple[dict[str, Work], dict[str, float]]:
    """What torch itself does: name -> work, and operations (copying: bytes) of each."""
    half = half_precision(device) or torch.float32
    conv = nn.Conv3d(32, 32, 3, padding=1, bias=False).to(device, half).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 32, edge, edge, edge).to(device, half).contiguous(memory_format=torch.channels_last_3d)
    matrix = torch.randn(2048, 2048).to(device, half)
    source = torch.empty(2**26, device=device).fill_(1.0)
    target = torch.empty_like(source)
    work: dict[str, Work] = {
        "torch convolution": torch.inference_mode()(lambda: conv(x)),
        "torch GEMM 2048": lambda: matrix @ matrix,
        "copy": lambda: target.copy_(source),
    }
    amounts = {"torch convolution": 2 * 27 * 32 * 32 * edge**3, "torch GEMM 2048": 2 * 2048**3, "copy": 2 * 4 * 2**26}
    return work, amounts


def networks(args: argparse.Namespace) -> dict[str, tuple[Any, nn.Module]]:
    """Spec and network by name."""
    shipped = load_model(args.model)
    found = {f"model {args.model}": (shipped.method.network, shipped.network)}
    names = recipes.names() if args.recipes == "all" else [r for r in args.recipes.split(",") if r not in ("", "none")]
    for name in names:
        spec = recipes.get(name).network
        torch.manual_seed(0)
        found[name] = (spec, spec.build(OBJECTS).eval())
    return found


def measure(args: argparse.Namespace, device: torch.device, engines: list[str]) -> None:
    work, amounts = plain_ceilings(device, args.tile)
    watch = Stopwatch(args.clock, args.threads, device, work)
    for name in engines:
        engine = EngineSpec(name, args.precision).build(convolutions(), device, 1)
        tile = np.zeros((args.tile,) * 3, np.float32)
        watch.work[f"{name}: 6 convolutions"] = lambda engine=engine, tile=tile: engine(tile)
        amounts[f"{name}: 6 convolutions"] = 6 * amounts["torch convolution"]
    watch.run(args.rounds)
    print(f"| ceiling, {args.threads} threads, {args.clock} time | |\n| --- | --- |")
    for name, amount in amounts.items():
        unit = "GB/s" if name == "copy" else "GFLOP/s"
        print(f"| {name} | {amount / watch.least[name] / 1e9:.0f} {unit} |")
    rates = {k: v / watch.least[k] for k, v in amounts.items()}
    ceiling = max(v for k, v in rates.items() if "convolution" in k)
    print("\n| network | tile | GFLOP | GB | engine | ms | GFLOP/s | of ceiling | of roof | s a volume |")
    print("| --- " * 10 + "|")
    for name, (spec, network) in networks(args).items():
        edge = -(-args.tile // spec.multiple) * spec.multiple
        layers = counted(network, (edge,) * 3)
        operations, moved = (sum(column) for column in zip(*layers))
        roof = sum(max(o / ceiling, b / rates["copy"]) for o, b in layers)
        timed = Stopwatch(args.clock, args.threads, device)
        tile = np.random.default_rng(0).standard_normal((edge,) * 3, dtype=np.float32)
        for engine_name in engines:
            try:
                engine = EngineSpec(engine_name, args.precision).build(network, device, spec.multiple)
            except EngineError as error:
                print(f"| {name} | {edge}^3 | | | {engine_name} | {error} |")
                continue
            timed.work[str(engine)] = lambda engine=engine, tile=tile: engine(tile)
        timed.run(args.rounds)
        for title, seconds in timed.least.items():
            reached, whole = operations / seconds, seconds * VOLUME / edge**3
            print(
                f"| {name} | {edge}^3 | {operations / 1e9:.1f} | {moved / 1e9:.2f} | {title} | {seconds * 1e3:.0f} | "
                f"{reached / 1e9:.0f} | {reached / ceiling:.0%} | {roof / seconds:.0%} | {whole:.1f} |",
                flush=True,
            )


def by_layer(args: argparse.Namespace) -> None:
    """The shipped model in OpenVINO, with its own counters."""
    from tomopick.networks.engines.convert import core, openvino
    from tomopick.networks.engines.openvino_cpu import cached

    ov = openvino()

    detector = load_model(args.model)
    kind = ov.Type.bf16 if half_precision(torch.device("cpu")) and args.precision == "half" else ov.Type.f32
    options = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": args.threads, "PERF_COUNT": True}
    model = cached(detector.network, detector.method.network.multiple)
    request = core().compile_model(model, "CPU", options).create_infer_request()
    tile = np.random.default_rng(0).standard_normal((1, 1, *(args.tile,) * 3), dtype=np.float32)
    least: dict[str, tuple[float, str, str]] = {}
    for _ in range(args.rounds):
        request.infer({0: tile})
        for p in request.get_profiling_info():
            seconds = p.real_time.total_seconds()
            if seconds and seconds < least.get(p.node_name, (np.inf,))[0]:
                least[p.node_name] = (seconds, p.node_type, p.exec_type)
    total = sum(seconds for seconds, *_ in least.values())
    print(f"\n| layer of {args.model}, {args.tile}^3 | ms | part | how |\n| --- | --- | --- | --- |")
    for seconds, node, how in least.values():
        if seconds > 0.002 * total:
            print(f"| {node} | {seconds * 1e3:.2f} | {seconds / total:.1%} | {how} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a trained model")
    parser.add_argument("--recipes", default="all", help="comma-separated, or all, or none")
    parser.add_argument("--engines", help="comma-separated; default: all that run here")
    parser.add_argument("--precision", default="half", help="half, f32 or int8")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tile", type=int, default=96, help="edge [voxels]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--layers", action="store_true", help="the model layer by layer too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    here = [n for n, k in ENGINES.items() if device.type in k.devices and not k.lacking(device)]
    measure(args, device, args.engines.split(",") if args.engines else here)
    if args.layers:
        by_layer(args)


if __name__ == "__main__":
    main()
