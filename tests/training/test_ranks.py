"""Ranks as threads: what the processes of one training do, without starting any."""

import copy
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from torch import distributed, nn

from small import BALL, memory, recipe
from tomopick import FitOptions, Source, fit
from tomopick.core.errors import RecipeError
from tomopick.picking.folder import read_log
from tomopick.training.ranks import Ranks, batch_norms_over
from trainings import fit_until, sources


def ranked(size, work):
    """What `work(ranks)` gives in each of so many ranks; the first error of any."""
    store, found, errors = distributed.HashStore(), [None] * size, []

    def run(rank):
        try:
            group = distributed.ProcessGroupGloo(store, rank, size, timedelta(seconds=60))
            found[rank] = work(Ranks(rank, size, group))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,), name=str(rank)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


def test_shares_are_all_of_a_batch_and_nearly_alike():
    for n, size in ((8, 2), (8, 3), (3, 3), (7, 4)):
        shares = [Ranks(rank, size).share(n) for rank in range(size)]
        assert [i for share in shares for i in share] == list(range(n))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_ranks_tell_one_another():
    values = torch.arange(15, dtype=torch.bfloat16).view(5, 3)

    def work(ranks):
        own = ranks.own(values).clone().requires_grad_()
        whole = ranks.gathered(own, 5)
        (whole * values).sum().backward()
        return (
            whole.detach(),
            own.grad,
            ranks.summed(torch.tensor([1.0, ranks.rank])),
            ranks.says({"rank": ranks.rank}),
            ranks.sends(b"abc" if ranks.leads else b""),
            [ranks.any(False), ranks.any(ranks.rank == 1)],
            ranks.gathered(torch.zeros(len(own), 0), 5).shape,
        )

    for rank, (whole, slope, total, said, sent, any_, empty) in enumerate(ranked(3, work)):
        assert torch.equal(whole, values)
        assert torch.equal(slope, Ranks(rank, 3).own(values))
        assert total.tolist() == [3, 3] and said == {"rank": 0} and sent == b"abc"
        assert any_ == [False, True] and empty == (5, 0)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_see_the_whole_batch(affine):
    volume, weight = 3 + torch.randn(5, 1, 6, 6, 6), torch.randn(5, 2, 4, 4, 4)
    new = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4, affine=affine), nn.ReLU(), nn.Conv3d(4, 2, 1))
    alone = copy.deepcopy(new)
    (alone(volume) * weight).sum().backward()

    def work(ranks):
        network = copy.deepcopy(new)
        with batch_norms_over(network, ranks):
            (ranks.gathered(network(ranks.own(volume)), 5) * weight).sum().backward()
        ranks.sum_gradients(network)
        network.eval()
        return network

    for network in ranked(2, work):
        for p, wanted in zip(network.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p.grad, wanted.grad, rtol=1e-4, atol=1e-4)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, alone.state_dict()[name], msg=name)
        torch.testing.assert_close(network(volume), alone.eval()(volume))


METHODS = {
    "supervised": ["objective.mixup=0.5"],
    "over_the_batch": ["loss=FocalTversky", "train.schedule=Plateau"],
    "semi_supervised": ["objective=MeanTeacherSpec", "objective.burn_in=0.34", "objective.views=2"],
}


@pytest.fixture
def exact(monkeypatch):
    """Without half precision, whose rounding would hide what differs."""
    monkeypatch.setattr("tomopick.networks.engines.device.half_precision", lambda device: None)


@contextmanager
def asked_on_rank_1(once):
    """Rank 1 is asked to end after two steps."""
    asked = iter([None, KeyboardInterrupt]) if threading.current_thread().name == "1" else iter([None, None])
    yield lambda: next(asked)


@pytest.mark.parametrize("more", METHODS.values(), ids=METHODS)
def test_one_process_then_two_ranks_then_one_learn_what_one_learns(exact, tmp_path, monkeypatch, more):
    method = recipe("train.batch_size=3", "train.steps=6", "train.validate_every=2", *more)
    out, resumed = tmp_path / "model", FitOptions("cpu", resume=True)
    fit(method, sources(method), tmp_path / "alone", FitOptions("cpu"))
    fit_until(3, method, out)  # of which the first two are kept
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt, match="interrupted at step 4 of 6"):
        patched.setattr("tomopick.training.fit.held_interrupt", asked_on_rank_1)
        ranked(2, lambda ranks: fit(method, sources(method), out, replace(resumed, ranks=ranks)))
    fit(method, sources(method), out, resumed)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in (tmp_path / "alone").iterdir())
    found, wanted = read_log(out / "log.jsonl"), read_log(tmp_path / "alone" / "log.jsonl")
    assert [r["loss"] for r in found] == pytest.approx([r["loss"] for r in wanted], rel=2e-4)
    assert [r.get("val_score") for r in found] == pytest.approx([r.get("val_score") for r in wanted], abs=0.02)
    assert len(found) == 6


def test_a_batch_has_a_patch_for_each_rank(tmp_path):
    with pytest.raises(RecipeError, match=r"train.batch_size is 2, and 3 processes share a batch"):
        fit(recipe(), [Source(memory(objects=(BALL,)))], tmp_path / "model", FitOptions("cpu", ranks=Ranks(1, 3)))
