"""Published networks beside ours: the same random weights, converted, give the same output on the same input.

    python benchmarks/parity_topcup.py VENV

VENV is a throw-away environment with topcup 1.2.2 and MONAI 1.5.0; it is made there if it is missing (about 3 GB with
torch). The peer's own classes build the networks, give them random weights and statistics, save them the way its users
get them (Lightning's checkpoint, pickled paths and arrays among the settings), and answer an input; `convert` reads the
file, and our network answers the same input. topcup sees volumes as x, y, z, so its answer is turned before comparing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from tomopick.recipes.weights import convert

TOLERANCE = 1e-4
PACKAGES = (
    ("torch==2.13.0",),
    ("pytorch-lightning>=2.4,<2.5", "einops", "pandas", "scikit-learn", "copick>=1.31,<2", "mrcfile", "scipy",
     "zarr<3", "numcodecs<0.16"),
    # Their pins (an older torch, torchvision) are not wanted; what they need of the rest is above.
    ("--no-deps", "monai==1.5.0", "topcup==1.2.2"),
)  # fmt: skip
# Run by the peer's Python: argv is the kind of network, the checkpoint, the input and the output.
PEER = """
import sys, pathlib, numpy as np, torch
kind, checkpoint, given, answer = sys.argv[1:]
torch.manual_seed(0)
objects = ["apo-ferritin", "beta-amylase", "beta-galactosidase", "ribosome", "thyroglobulin", "virus-like-particle"]
if kind in ("resnet34", "efficientnet-b3"):
    from topcup.model import SegNet
    ids = {name: i for i, name in enumerate(objects)}
    whole = SegNet(nclasses=6, class_loss_weights=dict.fromkeys(objects, 256), lvl_weights=np.array([0, 0, 0, 1]),
                   backbone_args=dict(spatial_dims=3, in_channels=1, out_channels=6, backbone=kind, pretrained=False),
                   particle_ids=ids, particle_radius=dict.fromkeys(objects, 70.0),
                   score_thresholds=dict.fromkeys(objects, 0.2), output_dir=pathlib.Path("x"))
    network = whole.model
else:
    from monai.networks.nets import UNet
    channels, units, dropout = {"tiny": ((32, 64, 128, 128), 1, 0.3), "medium": ((32, 64, 128, 256), 2, 0.3),
                                "big": ((32, 96, 256, 384), 2, 0.2)}[kind]
    whole = network = UNet(spatial_dims=3, in_channels=1, out_channels=7, channels=channels, strides=(2, 2, 1),
                           num_res_units=units, dropout=dropout)
with torch.no_grad():
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(torch.randn_like(value) * 0.1)
whole.eval()
x = torch.from_numpy(np.load(given))[None, None]
with torch.no_grad():
    y = whole(x)["logits"] if kind in ("resnet34", "efficientnet-b3") else network(x)
np.save(answer, y[0].numpy())
if whole is network:
    torch.save(network.state_dict(), checkpoint)
else:
    import pytorch_lightning as pl
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(whole)
    trainer.save_checkpoint(checkpoint)
"""


def environment(place: Path) -> Path:
    """The Python of an environment with topcup and MONAI, made if it is missing."""
    python = place / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    have = subprocess.run([python, "-c", "import topcup, monai, copick"], capture_output=True, check=False)
    if have.returncode:
        for packages in PACKAGES:
            subprocess.run([python, "-m", "pip", "install", "-q", "--no-input", *packages], check=True)
        # Some of them bring it, and topcup does not need it; its builds are for another torch.
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "torchvision"], check=True)
    return python


def compare(python: Path, kind: str, work: Path) -> dict[str, float | str]:
    """Largest difference of the two outputs, relative to the largest output."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((64, 96, 128), dtype=np.float32)  # z, y, x; no two edges alike
    theirs_sees_xyz = kind in ("resnet34", "efficientnet-b3")
    np.save(work / "given.npy", np.ascontiguousarray(values.T if theirs_sees_xyz else values))
    paths = [str(work / name) for name in (f"{kind}.ckpt", "given.npy", "answer.npy")]
    subprocess.run([python, "-W", "ignore", "-c", PEER, kind, *paths], check=True, stdout=subprocess.DEVNULL)
    answer = np.load(work / "answer.npy")
    answer = answer.transpose(0, 3, 2, 1) if theirs_sees_xyz else answer
    recipe = "topcup_released" if theirs_sees_xyz else f"soup_released_{kind}"
    model = convert(paths[0], recipe, work / kind)
    (detector,) = model.detectors
    with torch.no_grad():
        mine = detector.network(torch.from_numpy(values)[None, None])[0].numpy()
    largest = float(np.abs(answer).max())
    return {"network": kind, "outputs up to": largest, "difference": float(np.abs(mine - answer).max()) / largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    python = environment(args.venv)
    rows = []
    print("| network | largest output | largest difference, relative |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for kind in ("resnet34", "efficientnet-b3", "tiny", "medium", "big"):
            row = compare(python, kind, Path(work))
            rows.append(row)
            print(f"| {row['network']} | {row['outputs up to']:.3g} | {row['difference']:.1e} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    if max(float(row["difference"]) for row in rows) > TOLERANCE:
        sys.exit(f"the outputs differ by more than {TOLERANCE:g}")


if __name__ == "__main__":
    main()
