"""What a test needs beside the package itself; where that is not installed the test is skipped."""

from importlib.util import find_spec

import pytest

PACKAGES = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime", "onnxscript"), "auto": (), "torch": ()}


def needs(*names):
    """A mark: the test needs these engines, or the packages themselves."""
    packages = [package for name in names for package in PACKAGES.get(name, (name,))]
    lacking = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(bool(lacking), reason=f"not installed: {', '.join(lacking)}")
