"""Trainings of a few steps, whole or cut off, that several tests share."""

from dataclasses import replace

import torch

from small import memory, tomogram, untrained
from tomopick import FitOptions, Source
from tomopick.picking.folder import read_log
from tomopick.training import fit as fitting
from tomopick.training.dataset import gather
from tomopick.training.loop import TrainState


def options(**more):
    return FitOptions(**{"device": "cpu", **more})


def sources(method=None):
    """Two labelled runs, one to validate on, and an unlabelled one for a method that learns from such."""
    project = memory()
    if method is None or not method.objective.semi_supervised:
        return [Source(project, val_runs=["C"])]
    project.write_tomogram(tomogram("D", 3)[0])
    return [Source(project, val_runs=["C"], unlabelled_runs=["D"])]


def losses(out):
    return [row["loss"] for row in read_log(out / "log.jsonl")]


def fit_until(step, method, out, **more):
    """A training that is cut off behind a step, as a kill would: whatever was not on disk is gone."""

    data = gather(method, sources(method))
    method = replace(method, voxel_spacing=data.voxel_spacing)
    torch.manual_seed(0)
    network = method.network.build(len(data.objects))
    state = TrainState.start(network, method.train, torch.device("cpu"))
    facts = replace(data.facts, provenance={**fitting.provenance(options()), **data.facts.provenance})
    detector = replace(untrained(), method=method.method, recipe_json=method.to_json(), network=network, facts=facts)
    fitting.begin(method, detector, state, out)
    for row in fitting.fit_steps(method, detector, state, data, out, options(**more)):
        if row["step"] == step:
            return
