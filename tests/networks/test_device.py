"""What is said of devices that are not there."""

import pytest
import torch

from tomopick.core.errors import TomopickError
from tomopick.networks.engines import choose_device


@pytest.mark.parametrize(
    "name", ["0", "0,1", "cuda:0,1", "cuda:99", "gpu", "mps:x", "cuda:", "", "xpu", "\x1b[2J" * 99]
)
def test_a_device_that_is_not_there_is_said_in_our_words(name):
    with pytest.raises(TomopickError, match="cannot be used") as refused:
        choose_device(name)
    assert len(str(refused.value)) < 300 and str(refused.value).isprintable()


def test_devices_that_are_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
