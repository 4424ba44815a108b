"""Models by name."""

import pytest
from safetensors.torch import load_file

from small import memory, recipe, tomogram
from tomopick import FitOptions, Source, fit, load_model
from tomopick.core.errors import ModelError
from tomopick.picking.folder import is_model, kept_weights


def test_weights_of_a_validation_are_a_model(tmp_path):
    out = tmp_path / "m"
    made = fit(recipe(), [Source(memory(), val_runs=["C"])], out, FitOptions("cpu"))
    first, last = sorted(int(p.stem) for p in (out / "top").glob("*.safetensors"))
    assert (first, last) == (3, 6)
    for name in (f"{out}/top/3", f"{out}/top/3.safetensors"):
        assert is_model(name)
        model = load_model(name)
        kept = load_file(out / "top" / "3.safetensors")
        assert all((model.network.state_dict()[k] == v).all() for k, v in kept.items())
        assert model.thresholds == made.thresholds and model.facts.provenance["step"] == 3
        assert model.checksum != made.checksum and model.pick(tomogram()[0], device="cpu") is not None
    again = fit(
        recipe(), [Source(memory(), val_runs=["C"])], tmp_path / "n", FitOptions("cpu", init_from=f"{out}/top/3")
    )
    assert again.facts.provenance["init_from"] == f"{out}/top/3"
    for path in (out / "top" / "4", out / "3", out, tmp_path / "."):
        assert kept_weights(path) is None
    (out / "top" / "3.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not the weights of the training"):
        load_model(f"{out}/top/3")
