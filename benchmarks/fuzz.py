"""What damaged and hostile files do: every reader and verb on mutated inputs, each in a process with bounded memory.

    python benchmarks/fuzz.py                      # 2,600 inputs, some minutes
    python benchmarks/fuzz.py --light --every 60   # few of them, with the quick verbs, as the quick tests do
    python benchmarks/fuzz.py --only 1234          # one of them again, with what it printed

Input i is a function of the seed and i alone: a verb with the files it reads, one of which is changed (bits, bytes,
lines, numbers, parts of JSON, names, or what kind of thing it is). Asked of each: no traceback, an end within the time,
no more than 2 GB, at most one line of error, no control characters for the terminal, nothing written beside OUT.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mutations

MEMORY = 2_000_000_000  # bytes that a case may take beside what the libraries have taken
PATIENCE = 60.0  # seconds of processor time until it counts as a hang
SHAPE, SPACING, RADIUS = (16, 32, 32), 10.0, 40.0


@dataclass(frozen=True)
class Scene:
    """A command, and the files that it reads.

    Attributes:
        name: for the table.
        arguments: of the command; OUT is where it may write.
        files: patterns of those that are changed, from the folder of the case.
        weight: how often it is drawn.
    """

    name: str
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    weight: float = 1.0


FORMATS = {
    "star": "relion5", "r4.star": "relion4", "warp.star": "warp", "tbl": "dynamo", "mod": "imod", "txt": "imod-text",
    "coords": "coords", "em": "em", "ndjson": "ndjson", "csv": "csv",
}  # fmt: skip
AT = ("--object", "ball:40")
CPU = ("--device", "cpu", "--engine", "torch")
SMALL = ("--shape", "48,64,64", "--tomo-type", "wbp")
TRAIN = (
    "train.steps=4", "train.validate_every=2", "train.batch_size=2", "patch.shape=16,16,16", "network.widths=4,8",
    "tiling.shape=16,32,32", "tiling.overlap=8",
)  # fmt: skip
SCENES = (
    *(Scene(f"import {kind}", ("import", f"made/A.{kind}", "copick/copick.json", "--as", "ball", "--drop-outside",
            "--user-id", "x", *(("--pixel-size", "10") if target == "relion4" else ())), (f"made/A.{kind}",), 1.5)
      for kind, target in FORMATS.items()),
    Scene("import eman2", ("import", "made/A_info.json", "copick/copick.json", "--user-id", "x"),
          ("made/A_info.json",)),
    *(Scene(f"doctor {name}", ("doctor", name, *AT), (f"{name}*",), 1.5)
      for name in ("A.mrc", "G.mrc.gz", "t/B.csv", "made/A.star")),
    Scene("doctor zarr", ("doctor", "Z.zarr", *AT), ("Z.zarr/.zattrs", "Z.zarr/*/.zarray", "Z.zarr/*/*/*/*"), 3),
    Scene("import cbox", ("import", "made/A.cbox", "copick/copick.json", "--as", "ball", "--user-id", "x"),
          ("made/A.cbox",)),
    Scene("import deepfinder", ("import", "made/A.xml", "copick/copick.json", "--as", "ball", "--user-id", "x"),
          ("made/A.xml",)),
    Scene("import list", ("import", "list.star", "copick/copick.json", "--as", "ball", "--user-id", "x",
          "--tilt-series-pixel-size", "10"), ("list.star", "list-A.txt")),
    Scene("import names", ("import", "made/A.csv", "copick/copick.json", "--user-id", "x", "--names", "names.txt"),
          ("names.txt",), 0.5),
    Scene("import copick json", ("import", "ball.json", "t", "--overwrite"), ("ball.json",)),
    *(Scene(f"{verb} zarr 3", (verb, *model, "W.zarr", *more), ("W.zarr/zarr.json", "W.zarr/0/zarr.json",
            "W.zarr/0/c/*/*/*"), 1.5)
      for verb, model, more in (("doctor", (), AT), ("pick", ("model",), ("--out", "OUT", *CPU)))),
    Scene("doctor model", ("doctor", "t", "model"), ("model/*.json", "model/log.jsonl", "model/README.md")),
    Scene("evaluate model", ("evaluate", "model", "t", "--device", "cpu"), ("model/*.json", "t/*")),
    Scene("ensemble", ("ensemble", "model", "training", "OUT/e"), ("model/*.json", "training/*.json"), 0.5),
    Scene("finish", ("finish", "begun"), ("begun/*.json*", "begun/best/*", "begun/last/*")),
    Scene("export folder", ("export", "t", "OUT/", "--to", "imod"), ("t/*",)),
    Scene("train from", ("train", "light", "t", "OUT/m", "--init-from", "model", "--device", "cpu", *AT, *TRAIN),
          ("model/*",), 0.5),
    Scene("convert old", ("convert", "old.pth", "OUT/m", "--as", "bpd_released"), ("old.pth",)),
    Scene("recorded", ("pick", "model", "A.mrc", "--out", "picked", *CPU), ("picked/records/*", "picked/*.json",
          "picked/*.csv")),
    Scene("doctor folder", ("doctor", "t"), ("t/*",), 2),
    Scene("doctor copick", ("doctor", "copick/copick.json"), ("copick/copick.json", "copick/**/*.json"), 2),
    Scene("evaluate csv", ("evaluate", "picks.csv", "t/B.csv", *AT), ("picks.csv", "t/B.csv"), 2),
    Scene("evaluate project", ("evaluate", "made/A.star", "copick", "--truth", "*:curator/0", "--as", "ball"),
          ("made/A.star", "copick/**/*.json")),
    *(Scene(f"export {target}", ("export", "many.csv", "OUT/", "--to", target, "--voxel-spacing", "10",
            "--tilt-series-pixel-size", "2", "--tomograms-star", "tomograms.star"), ("many.csv", "tomograms.star"))
      for target in ("relion5", "imod", "dynamo", "copick", "csv", "coords")),
    Scene("show", ("show", "A.mrc", "picks.csv", "--out", "OUT/s.png", *AT), ("A.mrc", "picks.csv"), 0.5),
    Scene("pick volume", ("pick", "model", "A.mrc", "--out", "OUT", *CPU),
          ("A.mrc",), 2),
    Scene("pick zarr", ("pick", "model", "Z.zarr", "--out", "OUT", *CPU),
          ("Z.zarr/.zattrs", "Z.zarr/*/.zarray", "Z.zarr/*/*/*/*"), 2),
    Scene("pick model", ("pick", "model", "A.mrc", "--out", "OUT", *CPU),
          ("model/*.json", "model/weights.safetensors"), 4),
    Scene("pick ensemble", ("pick", "both", "A.mrc", "--out", "OUT", *CPU),
          ("both/ensemble.json", "both/members/*/*.json"), 2),
    Scene("resume", ("train", "light", "t", "training", "--resume", "--device", "cpu", *AT, *TRAIN),
          ("training/last/*", "training/recipe.json", "training/log.jsonl", "training/best/*"), 1.5),
    Scene("train", ("train", "light", "t", "OUT/m", "--device", "cpu", *AT, *TRAIN), ("t/*",), 0.5),
    Scene("calibrate", ("calibrate", "model", "t", "--undo"), ("model/calibration.json", "model/detector.json")),
    Scene("soup", ("soup", "model", "model", "OUT/s"), ("model/recipe.json", "model/detector.json")),
    Scene("export-model", ("export-model", "model", "OUT/net", "--to", "torchscript"), ("model/*.json",), 0.3),
    Scene("init", ("init", "t", "OUT/p", *AT), ("t/*",), 2),
    Scene("simulate", ("simulate", "sim", *SMALL, "--density", "new=map.mrc,radius=40,mass=100"),
          ("map.mrc", "sim/simulation.json", "sim/copick.json"), 0.5),
    Scene("simulate atoms", ("simulate", "OUT/s", *SMALL, "--density", "new=atoms.pdb,radius=40"),
          ("atoms.pdb",), 0.3),
    Scene("convert", ("convert", "weights.pth", "OUT/m", "--as", "bpd_released"), ("weights.pth",), 2),
    Scene("status", ("status", "picked"), ("picked/records/*",), 1),
    Scene("report", ("report", "picked", "A.mrc", "--out", "OUT/r.html", *AT), ("picked/*.csv", "picked/*.json",
          "picked/records/*"), 0.5),
    Scene("runs from a file", ("pick", "model", "t", "--out", "OUT", "--runs", "@runs.txt", *CPU), ("runs.txt",), 0.5),
)  # fmt: skip

# Inputs from number EARLY on are of these, so that those before stay what they were.
EARLY = 2200
LATER = (
    Scene("pick in a mask", ("pick", "model", "A.mrc", "--out", "OUT", "--inside", "mask.mrc", "--within", "30", *CPU),
          ("mask.mrc",), 2),
    Scene("pick out of masks", ("pick", "model", "t", "--out", "OUT", "--outside", "masks", "--beyond", "20",
          "--orient-to", "masks", *CPU), ("masks/*",), 2),
    Scene("pick in a segmentation", ("pick", "model", "copick/copick.json", "--out", "OUT", "--inside", "sheet:me/1",
          *CPU), ("copick/ExperimentRuns/A/Segmentations/*/.z*", "copick/ExperimentRuns/A/Segmentations/*/*/.z*",
          "copick/ExperimentRuns/A/Segmentations/*/*/*/*/*"), 2),
    *(Scene(f"pick at a mesh {kind}", ("pick", "model", "A.mrc", "--out", "OUT", "--outside", f"mesh.{kind}",
            "--orient-to", f"mesh.{kind}", *CPU), (f"mesh.{kind}",), 1.5)
      for kind in ("ply", "obj", "stl", "glb")),
    Scene("pick at meshes", ("pick", "model", "t", "--out", "OUT", "--inside", "meshes", *CPU), ("meshes/*",)),
    Scene("doctor regions", ("doctor", "part"), ("part/regions.csv",), 2),
    Scene("doctor labelled in", ("doctor", "t", *AT, "--labelled-in", "masks"), ("masks/*",)),
    Scene("train in regions", ("train", "light", "part", "OUT/m", "--device", "cpu", *AT, *TRAIN),
          ("part/regions.csv",), 0.5),
    Scene("merge", ("merge", "picks.csv", "many.csv", "--out", "OUT", *AT), ("picks.csv", "many.csv"), 2),
    Scene("import into a folder", ("import", "made/A.ndjson", "t", "--overwrite", "--as", "ball"), ("made/A.ndjson",)),
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- corpus
def make_corpus(place: Path, simulated: bool = True) -> None:
    """As `corpus`, in a process of its own, silently."""
    child = os.fork()
    if not child:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            corpus(place, simulated)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the files to begin with could not be made")


def corpus(place: Path, simulated: bool) -> None:
    """Small files of every kind that is read, all of one tomogram with balls."""
    import torch
    import zarr

    from tomopick import Grid, PickableObject, Picks, Tomogram
    from tomopick.data import MemoryProject, create_copick_project, write_mrc, write_picks_csv, write_run
    from tomopick.data.exporting import ExportOptions, export_picks

    rng = np.random.default_rng(0)
    zyx = np.stack(np.meshgrid(*(np.arange(n) * SPACING for n in SHAPE), indexing="ij"), -1)
    picks = Picks("A", np.array([[60, 80, 80], [90, 220, 120], [70, 150, 240.0]]), np.array(["ball"] * 3))
    values = rng.standard_normal(SHAPE).astype(np.float32)
    for p in picks.positions:
        values -= 6 * np.exp(-0.5 * ((zyx - p) ** 2).sum(-1) / 20**2).astype(np.float32)
    ball = PickableObject("ball", RADIUS, 1)
    tomogram = Tomogram("A", values, Grid(SHAPE, SPACING), "denoised")
    project = MemoryProject([ball])
    project.add(tomogram, picks, "curator", "0")
    for folder in ("made", "t"):
        (place / folder).mkdir()
    for kind, target in FORMATS.items():
        choices = ExportOptions(tilt_series_pixel_size=SPACING)
        export_picks(project, target, place / "made" / f"A.{kind}", choices)
    boxes = {"boxes_3d": [[0, 0, 0, "manual", 0.5, 0]], "apix_unbin": SPACING, "class_list": {"0": {"name": "ball"}}}
    (place / "made" / "A_info.json").write_text(json.dumps(boxes))
    write_mrc(place / "A.mrc", values, SPACING)
    (place / "G.mrc.gz").write_bytes(gzip.compress((place / "A.mrc").read_bytes()))
    for run in ("A", "B"):
        shutil.copy(place / "A.mrc", place / "t" / f"{run}.mrc")
        write_picks_csv(place / "t" / f"{run}.csv", picks)
    (place / "t" / "objects.json").write_text('[{"name": "ball", "radius": 40}]')
    (place / "runs.txt").write_text("A\nB\n")
    write_picks_csv(place / "picks.csv", picks)
    (place / "many.csv").write_text("run,object,x,y,z,score\nA,ball,10,20,30,0.5\nB,ball,40,50,60,0.25\n")
    (place / "rows.csv").write_text("run,object,x,y,z,score\nA,ball,15,25,35,0.5\nB,ball,45,55,65,0.25\n")
    (place / "all.csv").write_text("run,object,x,y,z,score\nA,ball,11,21,31,0.5\n")
    (place / "tomograms.star").write_text(
        "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoSizeX #2\n_rlnTomoSizeY #3\n_rlnTomoSizeZ #4\n"
        "_rlnTomoTiltSeriesPixelSize #5\nA 320 320 160 1.0\nB 320 320 160 1.0\n"
    )
    group = zarr.open_group(str(place / "Z.zarr"), mode="w")
    group.create_dataset("0", data=values, chunks=(8, 16, 16), dimension_separator="/")
    axes = [{"name": a, "type": "space", "unit": "angstrom"} for a in "zyx"]
    scale = [{"type": "scale", "scale": [SPACING] * 3}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets, "version": "0.4"}]
    made = create_copick_project(place / "copick", [ball])
    write_run(made, [tomogram], picks, "curator", "0")
    _masks(place, values, made)
    write_mrc(place / "map.mrc", np.exp(-0.5 * ((zyx[:, :16, :16] - 70) ** 2).sum(-1) / 900).astype(np.float32), 5.0)
    atom = "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           C\n"
    (place / "atoms.pdb").write_text("".join(atom.format(i, i, *rng.uniform(0, 30, 3)) for i in range(1, 60)))
    weights = {"state_dict": {"encoder.weight": torch.zeros(2, 3)}}
    torch.save(weights, place / "weights.pth")
    torch.save(weights, place / "old.pth", _use_new_zipfile_serialization=False)
    _foreign(place, values)
    _models(place, simulated)


def _masks(place: Path, values: np.ndarray, project: Any) -> None:
    """Where picks may lie, or nobody has looked: masks of two kinds, meshes, a table of regions."""
    import trimesh

    from tomopick import Grid
    from tomopick.data import write_mrc
    from tomopick.data.sources.copick_write import write_segmentation

    sheet = np.zeros(SHAPE, dtype=np.float32)
    sheet[4:9] = 1
    for folder in ("masks", "meshes", "part"):
        (place / folder).mkdir()
    write_mrc(place / "mask.mrc", sheet[::2, ::2, ::2], 2 * SPACING)
    for run in ("A", "B"):
        write_mrc(place / "masks" / f"{run}.mrc", sheet, SPACING)
        shutil.copy(place / "t" / f"{run}.mrc", place / "part")
        shutil.copy(place / "t" / f"{run}.csv", place / "part")
    shutil.copy(place / "t" / "objects.json", place / "part")
    (place / "part" / "regions.csv").write_text("run,z0,z1,y0,y1,x0,x1,object\nA,,,0,160,,\nB,0,160,,,10.5,300,ball\n")
    write_segmentation(project, "A", "sheet", sheet.astype(np.uint8), Grid(SHAPE, SPACING), "me", "1")
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=70.0)
    mesh.apply_translation((160.0, 160.0, 80.0))
    for kind in ("ply", "obj", "stl", "glb"):
        mesh.export(place / f"mesh.{kind}")
    for run, kind in (("A", "ply"), ("B", "stl")):
        mesh.export(place / "meshes" / f"{run}.{kind}")


def _foreign(place: Path, values: np.ndarray) -> None:
    """What we read and do not write."""
    columns = "".join(f"_{c} #{i}\n" for i, c in enumerate(
        ("CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height", "Depth", "Confidence"), 1))  # fmt: skip
    rows = "10 20 8 4 4 4 0.5\n5 6 7 4 4 4 <NA>\n"
    (place / "made" / "A.cbox").write_text(f"\ndata_cryolo\n\nloop_\n{columns}{rows}\n")
    (place / "made" / "A.xml").write_text(
        '<objlist><object class_label="1" x="10" y="11" z="5" phi="1" psi="2" the="3"/>'
        '<object class_label="1" x="20" y="21" z="7"/></objlist>'
    )
    (place / "list-A.txt").write_text("10 20 8\n5 6 7\n")
    (place / "list.star").write_text("data_\n\nloop_\n_rlnTomoName #1\n_rlnTomoImportParticleFile #2\nA list-A.txt\n")
    (place / "names.txt").write_text("A A\n")
    shutil.copy(next(place.glob("copick/ExperimentRuns/A/Picks/*.json")), place / "ball.json")
    _zarr_3(place / "W.zarr", values)


def _zarr_3(folder: Path, values: np.ndarray) -> None:
    chunk = (8, 16, 16)
    axes = [{"name": a, "type": "space", "unit": "angstrom"} for a in "zyx"]
    scale = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [SPACING] * 3}]}
    group = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [scale]}]}}
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    codecs += [{"name": "gzip", "configuration": {"level": 1}}]
    array = {
        "zarr_format": 3, "node_type": "array", "shape": list(values.shape), "data_type": "float32", "fill_value": 0.0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}, "codecs": codecs,
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    }  # fmt: skip
    (folder / "0").mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": group}))
    (folder / "0" / "zarr.json").write_text(json.dumps(array))
    for index in np.ndindex(*(n // c for n, c in zip(values.shape, chunk))):
        part = values[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk))]
        path = folder / "0" / "c" / "/".join(map(str, index))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(part.astype("<f4").tobytes(), 1))


def _models(place: Path, simulated: bool) -> None:
    """A finished training, models of it, picks with them, and a simulation that was begun."""
    os.chdir(place)
    commands = [
        ["train", "light", "t", "training", "--device", "cpu", *AT, *TRAIN],
        ["pick", "training", "A.mrc", "--out", "picked", "--device", "cpu", "--engine", "torch"],
        ["ensemble", "training", "training", "both"],
        ["calibrate", "training", "t", "--device", "cpu"],
        ["simulate", "sim", *SMALL, "--density", "new=map.mrc,radius=40,mass=100"],
    ]
    for arguments in commands if simulated else commands[:-1]:
        code = _command(arguments)
        if code:
            raise SystemExit(f"tomopick {' '.join(arguments)} ended with {code}")
    shutil.copytree("training", "model", ignore=shutil.ignore_patterns("last", "top", "best", "*.png"))
    finished = ("detector.json", "weights.safetensors", "calibration.json", "README.md")
    shutil.copytree("training", "begun", ignore=lambda at, _: finished if at == "training" else ())


def _command(arguments: list[str]) -> int:
    from tomopick.cli import main

    try:
        main.main(args=arguments, prog_name="tomopick")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


# ------------------------------------------------------------------------------------------------------------ damage
def damage(place: Path, scene: Scene, rng: np.random.Generator) -> str:
    """Changes one of the scene's files; says which."""
    files = sorted({p for pattern in scene.files for p in place.glob(pattern) if p.is_file()})
    path = files[rng.integers(len(files))]
    how = rng.random()
    if how < 0.08:
        mutations.other_kind(path, place, rng)
    elif how < 0.12 and path.suffix in (".mrc", ".csv"):
        return _renamed(path, rng)
    else:
        data = path.read_bytes()
        if path.suffix != ".gz":
            new = mutations.mutated(data, rng, _kind(path))
        elif how < 0.3:
            new = mutations.zipped(gzip.decompress(data), rng)
        elif how < 0.7:
            new = gzip.compress(mutations.mutated(gzip.decompress(data), rng, ""), 1)
        else:
            new = mutations.mutated(data, rng, "")
        path.write_bytes(new)
        if path.name == "ensemble.json" and rng.random() < 0.8:
            _sign_ensemble(path)
        if path.parent.name == "model" and path.name != "detector.json" and rng.random() < 0.8:
            _sign(path.parent)
    return str(path.relative_to(place))


def _kind(path: Path) -> str:
    if path.suffix in (".jsonl", ".ndjson"):
        return "lines"
    return "json" if path.suffix == ".json" or path.name in (".zattrs", ".zarray", ".zgroup") else ""


def _renamed(path: Path, rng: np.random.Generator) -> str:
    names = [n for n in mutations.NAMES if n and not set(n) & set("/\x00") and n not in (".", "n" * 300)]
    return str(path.rename(path.with_name(f"{names[rng.integers(len(names))]}{path.suffix}")).name)


def _sign(model: Path) -> None:
    """As one who means it would: the checksum is that of the changed files."""
    import hashlib

    about = json.loads((model / "detector.json").read_text())
    parts = (model / "recipe.json").read_bytes() + (model / "weights.safetensors").read_bytes()
    about["checksum"] = hashlib.sha256(parts).hexdigest()
    (model / "detector.json").write_text(json.dumps(about))


def _sign_ensemble(path: Path) -> None:
    import hashlib

    try:
        about = json.loads(path.read_text())
        decisive = json.dumps({"members": about["members"], "mean": about["mean"]}, sort_keys=True)
        about["checksum"] = hashlib.sha256(decisive.encode()).hexdigest()
        path.write_text(json.dumps(about))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # then it is not read as far as its checksum


# ------------------------------------------------------------------------------------------------------------ running
@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        number: of the case.
        scene: its name.
        changed: which file.
        code: the exit status; -9 where it was killed.
        seconds: of the processor.
        memory: beside what the libraries had taken [bytes].
        text: what it printed.
        faults: what is wrong with that.
    """

    number: int
    scene: str
    changed: str
    code: int
    seconds: float
    memory: int
    text: str
    faults: tuple[str, ...]


def draw(seed: int, number: int, light: bool = False) -> tuple[Scene, np.random.Generator]:
    """The scene of an input, and the random numbers for the rest of it."""
    rng = np.random.default_rng((seed, number))
    heavy = {"resume", "train", "train from", "calibrate", "soup", "show", "report", "export-model", "simulate"}
    heavy |= {"simulate atoms", "train in regions"}
    scenes = SCENES if number < EARLY else LATER
    weights = np.array([scene.weight * (not light or scene.name not in heavy) for scene in scenes])
    return scenes[rng.choice(len(scenes), p=weights / weights.sum())], rng


def run_case(store: Path, seed: int, number: int, light: bool = False) -> Outcome:
    """One input in a process of its own."""
    scene, rng = draw(seed, number, light)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = Path(folder) / "inner" / "case"
        shutil.copytree(store, place, symlinks=True)
        (place / "OUT").mkdir()
        changed = damage(place, scene, rng)
        before = _tree(Path(folder))
        said = Path(folder) / "said"
        began = time.monotonic()
        child = os.fork()
        if not child:
            _child(place, list(scene.arguments), said)
        code, usage = _wait(child, began)
        text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
        new = sorted(_tree(Path(folder)) - before - {"said", "base"})
        base = Path(folder) / "base"
        memory = max(0, usage.ru_maxrss * 1024 - int(base.read_text() if base.exists() else 0))
        strays = [p for p in new if not p.startswith(tuple(f"inner/case/{d}/" for d in _OURS))]
        traces = [p for p in new if p.endswith(".error.txt")]
        for path in traces:
            text += "\n" + (Path(folder) / path).read_text()
    seconds = usage.ru_utime + usage.ru_stime
    return Outcome(number, scene.name, changed, code, seconds, memory, text, _faults(code, text, memory, strays))


_OURS = ("OUT", "training", "begun", "model", "sim", "copick", "picked", "t")  # folders that a scene may write to


_WARNED = re.compile(r"^/\S+\.py:\d+: \w*Warning: ", re.MULTILINE)


def _faults(code: int, text: str, memory: int, strays: list[str]) -> tuple[str, ...]:
    found = []
    if code == -9:
        found.append("hang")
    elif code not in (0, 1, 2):
        found.append(f"exit {code}")
    if "Traceback (most recent call last)" in text:
        found.append("traceback")
    if _WARNED.search(text):
        found.append("a warning of Python")
    if memory > MEMORY or "not enough memory" in text:
        found.append("memory")
    if strays or any(Path(n).exists() for n in ("/tmp/evil-by-name", "/tmp/evil-by-name.csv")):
        found.append(f"written beside OUT: {strays[:3]}")
    if any(unicodedata.category(c) == "Cc" and c not in "\n\t\r" for c in text):
        found.append("control characters")
    if code == 2 and not text.startswith("Usage") and sum(s.startswith("error:") for s in text.splitlines()) > 1:
        found.append("several errors")
    return tuple(found)


def _child(place: Path, arguments: list[str], said: Path) -> None:
    """The command, with its output in a file; never returns."""
    try:
        handle = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.chdir(place)
        _python_warns()
        said.with_name("base").write_text(str(_resident()))
        limit = _mapped() + MEMORY + 500_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
        code = _command(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
        os._exit(3)


def _mapped() -> int:
    """Private writable memory of this process [bytes]."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmData:")[1].split()[0]) * 1024


def _resident() -> int:
    """What this process has in memory [bytes]; a child begins with what it shares with its parent."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def _python_warns() -> None:
    """As in a fresh process, which shows what concerns its user."""
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)


def _wait(child: int, began: float) -> tuple[int, Any]:
    """The exit status and usage; one that takes too much of the processor, or sleeps for as long, is killed."""
    ticks = os.sysconf("SC_CLK_TCK")
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage
        waited = time.monotonic() - began
        try:
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            used = (int(fields[11]) + int(fields[12])) / ticks
        except OSError:
            used = 0.0
        if used > PATIENCE or waited > 5 * PATIENCE:
            os.kill(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return -9, usage
        time.sleep(0.005 if waited < 1 else 0.05)


def _tree(place: Path) -> set[str]:
    return {os.path.relpath(os.path.join(at, n), place) for at, _, names in os.walk(place) for n in names}


def main() -> None:
    """Runs the cases and prints a table; exit code 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2600, help="inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="take each so-manieth input alone")
    parser.add_argument("--only", type=int, help="this input alone, with what it prints")
    parser.add_argument("--begin", type=int, default=0, help="the first input")
    parser.add_argument("--log", type=Path, help="keep what was found here, a line each; go on with what it has not")
    parser.add_argument("--light", action="store_true", help="only verbs that take a moment")
    options = parser.parse_args()
    _warm()
    numbers = [options.only] if options.only is not None else range(options.begin, options.n, options.every)
    found = _logged(options.log, numbers) if options.log else {}
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as folder:
        make_corpus(Path(folder), simulated=not options.light)
        for number in numbers:
            if number in found:
                continue
            found[number] = outcome = run_case(Path(folder), options.seed, number, options.light)
            if options.log:
                with options.log.open("a") as log:
                    log.write(json.dumps(asdict(outcome)) + "\n")
            if outcome.faults or options.only is not None:
                print(f"--- {number} {outcome.scene}, {outcome.changed}: {', '.join(outcome.faults)}")
                print(outcome.text[-1500:], flush=True)
    _summary(list(found.values()))
    sys.exit(any(outcome.faults for outcome in found.values()))


def _logged(path: Path, numbers: Collection[int]) -> dict[int, Outcome]:
    """What an earlier run found without a fault; what had one is tried again."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    past = {row["number"]: Outcome(**{**row, "faults": tuple(row["faults"])}) for row in rows}
    return {number: outcome for number, outcome in past.items() if number in numbers and not outcome.faults}


def _warm() -> None:
    """What the commands import, once for all of them."""
    import importlib

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("copick", "starfile", "pandas", "imodmodel", "emfile", "matplotlib.pyplot", "zarr", "scipy.spatial",
                 "gemmi", "tabulate", "tqdm", "tomopick.cli", "tomopick.picking.picker", "tomopick.training.fit",
                 "tomopick.recipes", "tomopick.look.page.page", "tomopick.look.doctor", "tomopick.data.exporting",
                 "tomopick.simulation.projects", "tomopick.models.soup", "tomopick.models.calibrate"):  # fmt: skip
        importlib.import_module(name)


def _summary(found: list[Outcome]) -> None:
    codes = Counter("clean" if o.code == 0 else "refused" if o.code in (1, 2) else "other" for o in found)
    faults = Counter(f.split(":")[0] for o in found for f in o.faults)
    print(f"{len(found)} inputs: {codes['clean']} went through, {codes['refused']} were refused in one line")
    for name in ("traceback", "hang", "memory"):
        print(f"{name}: {faults.pop(name, 0)}")
    print("other faults:", dict(faults) or 0)
    print(f"most memory {max(o.memory for o in found) / 1e6:.0f} MB, most processor time "
          f"{max(o.seconds for o in found):.1f} s, all together {sum(o.seconds for o in found):.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
