"""`train` on several devices: real processes, here on one processor."""

import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from torch.distributed import TCPStore

from small import TINY, folder
from tomopick.cli import main
from tomopick.picking.folder import is_model, read_log

MORE = ["--object", "ball:40", *TINY, "train.batch_size=3", "train.validate_every=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("data") / "in", "ABC", shape=(16, 64, 32), n=6)


def start(*arguments, before=(sys.executable,)):
    command = [*before, "-m", "tomopick", "train", "light", *map(str, arguments), *MORE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def losses(out):
    return [row["loss"] for row in read_log(out / "log.jsonl")]


def until(done, process, seconds=200):
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.1)


def children(pid):
    text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(p) for p in text.split()]


@pytest.mark.slow
def test_processes_share_a_training_however_they_were_started(place, tmp_path):
    def trained(name, *more, **how):
        process = start(place, tmp_path / name, *more, **how)
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
        return losses(tmp_path / name)

    alone = trained("alone", "--device", "cpu")
    assert trained("named", "--device", "cpu,cpu") == pytest.approx(alone, rel=0.02)  # half precision rounds
    run = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    assert trained("torchrun", "--device", "cpu", before=run) == pytest.approx(alone, rel=0.02)


@pytest.mark.slow
def test_asked_to_end_they_save_and_one_that_dies_ends_all(place, tmp_path):
    out = tmp_path / "model"
    process = start(place, out, "--device", "cpu,cpu", "train.steps=100000")
    until(lambda: len(losses(out)) > 3, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 143 and "repeat the command with --resume" in said
    kept = len(losses(out))
    process = start(place, out, "--device", "cpu,cpu", "train.steps=100000", "--resume")
    until(lambda: len(losses(out)) > kept + 1, process)
    (follower,) = children(process.pid)
    os.kill(follower, signal.SIGKILL)
    said = process.communicate(timeout=100)[1].splitlines()
    assert process.returncode == 2 and len([line for line in said if line.startswith("error:")]) == 1
    assert said[-1] == "error: process 1 on cpu: killed by SIGKILL; what was kept is there for --resume"


@pytest.mark.slow
def test_members_are_trained_side_by_side(place, tmp_path):
    process = start(
        place, tmp_path / "model", "--device", "cpu,cpu", "--seeds", "2", "--val-runs", "C", "train.steps=2"
    )
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert is_model(str(tmp_path / "model")) and {"part 1:", "part 2:"} <= {line[:7] for line in said.splitlines()}


@pytest.mark.slow
def test_what_refuses_one_of_torchruns_processes_ends_the_others_at_once(place, tmp_path):
    (tmp_path / "thesis.txt").touch()
    run = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    process = start(place, tmp_path, "--device", "cpu", before=run)
    said = process.communicate(timeout=200)[1]
    assert process.returncode and "holds no training to go on with" in said
    assert "forcefully exiting" not in said  # 30 s later


def test_a_rank_that_waits_for_the_others_ends_when_it_is_asked_to():
    store = TCPStore("127.0.0.1", 0, 2, True, wait_for_workers=False)
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    code = (
        "from tomopick.core.signals import ending_cleanly; from tomopick.training.rank_processes import among_ranks\n"
        "with ending_cleanly():\n print('waits', flush=True)\n with among_ranks('cpu'): pass"
    )
    more = {**os.environ, **place, "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=more) as process:
        assert process.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.terminate()
        try:
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()


def refusal(*arguments):
    done = CliRunner().invoke(main, ["train", "light", *map(str, arguments), *MORE])
    assert done.exit_code == 2
    return done.output


def test_what_several_devices_are_not_for(place, tmp_path, monkeypatch):
    out = tmp_path / "model"
    said = refusal(place, out, "--device", "cpu,cpu", "--shard", "1/2", "--seeds", "2")
    assert "--shard is one of several parts, each on a device of its own" in said
    assert "there is no GPU here" in refusal(place, out, "--device", "cuda:all")
    assert "device 'cuda:1' cannot be used" in refusal(place, out, "--device", "cpu,cuda:1")
    assert not out.exists()
