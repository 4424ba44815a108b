"""The families of networks. A network's spec has `build(n_objects)`, `stride` and `multiple`.

A softmax network's spec has `background=True`: one channel more than objects; where it lies is the loss's business.
In training a network may return a tuple of logits, coarsest first, all of which the loss may judge (deep supervision);
otherwise it returns the finest alone. A spec with `pretrained` fills a new network with those weights in `initialise`;
building one, as loading a model folder does, never needs them.
"""

import torch

from .asymmetric_unet import AsymmetricUNet, AsymmetricUNetSpec, FeaturePyramid, FeaturePyramidSpec
from .blocks import NetworkSpec
from .bpd_unet import BPDUNet, BPDUNetSpec
from .flexible_unet import FlexibleUNet, FlexibleUNetSpec
from .residual_unet import ResidualUNet, ResidualUNetSpec, VNet, VNetSpec
from .unet import DeepFinderUNet, DeepFinderUNetSpec, UNet, UNetSpec
from .unet25d import UNet25D, UNet25DSpec
from .unet25d_jpu import JPUNet25D, JPUNet25DSpec

__all__ = [
    "AsymmetricUNet",
    "AsymmetricUNetSpec",
    "BPDUNet",
    "BPDUNetSpec",
    "DeepFinderUNet",
    "DeepFinderUNetSpec",
    "FeaturePyramid",
    "FeaturePyramidSpec",
    "FlexibleUNet",
    "FlexibleUNetSpec",
    "JPUNet25D",
    "JPUNet25DSpec",
    "NetworkSpec",
    "ResidualUNet",
    "ResidualUNetSpec",
    "UNet",
    "UNet25D",
    "UNet25DSpec",
    "UNetSpec",
    "VNet",
    "VNetSpec",
    "count_parameters",
]


def count_parameters(spec: NetworkSpec, n_objects: int) -> int:
    """Parameters of a network, frozen and unused ones too, without the memory or the time to make them."""
    with torch.device("meta"):
        return sum(p.numel() for p in spec.build(n_objects).parameters())
