"""Weights of two-dimensional networks as a start for ours."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..core.errors import ModelError
from ..core.messages import reason_of

Weights = Mapping[str, torch.Tensor]
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def locate(name: str | Path) -> Path:
    """The file called `name`; else, of a name such as timm/convnext_nano.in12k_ft_in1k, the weights on Hugging Face.

    Raises:
        ModelError: there is no such file, and no way to fetch one.
    """
    path = Path(os.path.expanduser(name))
    if path.is_file() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name)) or path.suffix in SUFFIXES:
        return path
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ModelError(
            f"{name}: no such file; if it is a name on Hugging Face, install huggingface_hub, or fetch its "
            "model.safetensors yourself and give the path"
        ) from error
    try:
        return Path(hf_hub_download(repo_id=str(name), filename="model.safetensors", etag_timeout=5))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name}: neither a file nor fetched from Hugging Face ({reason_of(error)}); "
            "check the name and the network, or give the path of a file"
        ) from error


def find_timm(name: str, folder: Path | None = None) -> Path:
    """The file of weights that timm calls `name`, such as convnext_nano.in12k_ft_in1k.

    Looked for in `folder`, as `timm_in` does; then on Hugging Face, of which a copy that was fetched before will do.

    Raises:
        ModelError: it is nowhere; the folder is not there, or holds several that it may be.
    """
    return (timm_in(folder, name) if folder is not None else None) or locate(f"timm/{name}")


def timm_in(folder: Path, name: str) -> Path | None:
    """The file in a folder of weights that timm calls `name`; None where there is none.

    It is called NAME/model.safetensors (a clone of its page), NAME with a suffix of `SUFFIXES`, or is the one file
    there that begins with the architecture's name, as timm's releases do.

    Raises:
        ModelError: there is no such folder, or it holds several that it may be.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no folder; expected one with weights under timm's file names")
    exact = [folder / name / "model.safetensors", *(folder / f"{name}{suffix}" for suffix in SUFFIXES)]
    architecture = name.partition(".")[0]
    like = [p for p in sorted(folder.iterdir()) if p.suffix in SUFFIXES and _begins(p.stem, architecture)]
    found = [path for path in exact if path.is_file()] or like
    if len(found) > 1 and found == like:
        raise ModelError(f"{folder}: {', '.join(p.name for p in like)} may all be {name}; name one of them so")
    return found[0] if found else None


def _begins(stem: str, architecture: str) -> bool:
    """Whether a file's name is an architecture's, with no more behind it than a recipe or a checksum."""
    rest = stem.removeprefix(architecture)
    return stem.startswith(architecture) and not rest[:1].isalnum()


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a safetensors file or a torch file, of which nothing but tensors is read; see `locate`.

    Raises:
        ModelError: the file is missing or holds anything else.
    """
    path = locate(path)
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.serialization.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        pickled = isinstance(error, pickle.UnpicklingError)  # of which torch writes a page, and what to risk
        reason = "it holds other things than tensors, or is no torch file" if pickled else reason_of(error)
        raise ModelError(
            f"{path}: no weights could be read ({reason}); expected a .safetensors file or a torch "
            "file of tensors alone"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    tensors = {str(k): v for k, v in found.items() if isinstance(v, torch.Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise ModelError(f"{path}: holds no tensors by name; expected the state_dict of a network")
    prefixes = ("module.", "model.", "encoder.", "backbone.")
    while prefix := next((p for p in prefixes if all(k.startswith(p) for k in tensors)), ""):
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def fit_shape(weight: torch.Tensor, wanted: torch.Size) -> torch.Tensor | None:
    """A 2D network's weight in another's shape; None where there is no way.

    Input channels are repeated and rescaled, so that an input that is the same in all of them answers alike; a kernel
    is repeated along z and divided by its depth, so that a volume that is the same in all slices answers alike.

    Source: inflation as in Carreira & Zisserman 2017, arXiv:1705.07750; input channels as timm adapts them.
    """
    if weight.ndim == 4 and len(wanted) == 5:
        weight = weight.unsqueeze(2).expand(-1, -1, wanted[2], -1, -1) / wanted[2]
    if weight.ndim == len(wanted) and weight.ndim > 2 and weight.shape[1] != wanted[1]:
        had, need = weight.shape[1], wanted[1]
        if need == 1:
            weight = weight.sum(dim=1, keepdim=True)
        elif had in (1, 3):  # the stem of grey or coloured images, and no other layer
            weight = weight.repeat(1, -(-need // had), *[1] * (weight.ndim - 2))[:, :need] * (had / need)
    return weight.contiguous() if weight.shape == wanted else None


@torch.no_grad()
def load_pretrained(
    encoder: nn.Module, path: str | Path, rename: Callable[[Weights], Weights] = lambda weights: weights
) -> None:
    """Fills an encoder with a file's weights; what the file has beyond it (a classifier) is left out.

    Args:
        encoder: with the file's parameter names.
        path: of the weights.
        rename: from the file's names to the encoder's.

    Raises:
        ModelError: a parameter of the encoder is missing, of another shape or not finite.
    """
    given = rename(read_weights(path))
    for name, mine in encoder.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        found = fit_shape(given[name], mine.shape) if name in given else None
        if found is None:
            fault = f"has shape {tuple(given[name].shape)}, not {tuple(mine.shape)}" if name in given else "is missing"
            raise ModelError(f"{path}: {name} {fault}; expected weights of a {type(encoder).__name__}")
        if not found.isfinite().all():
            raise ModelError(f"{path}: {name} holds values that are not finite; fetch the file again")
        mine.copy_(found)
