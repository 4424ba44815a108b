"""BPD: a light 3D U-Net on Gaussian heatmaps."""

from dataclasses import replace

from ..networks import UNetSpec
from ..picking.tiling import SteepWindow, TilingSpec
from ..training.loop import TrainSpec
from ..training.recipe import Recipe
from ..training.targets import GaussianTarget


def bpd() -> Recipe:
    """Light 3D U-Net (28, 32, 36 channels) on Gaussian heatmaps; CZII challenge, 5th place, as described.

    Its "two dual-convolution blocks" a level can be read as two convolutions or as four: here they are two, and four by
    `network.convolutions=4`.

    Source: method description of BPD (Y. Ouertani, CZII CryoET challenge 2025); sigma, weights of the loss and the
    rates, which the description leaves open, are ours.
    """
    return Recipe(
        name="bpd",
        source="BPD, CZII CryoET challenge, 5th place (described method)",
        network=UNetSpec(widths=(28, 32, 36), convolutions=2, stride=1),
        tiling=TilingSpec(window=SteepWindow()),
        views="turns",
    )


def light() -> Recipe:
    """BPD with widths in multiples of 16 on a half-sized grid (an eighth of the cells); what the shipped model uses.

    Source: ours; the winners found that an output of stride 2 loses about 0.002 of score, and wider Gaussians (half a
    radius, as in SemiETPicker) were learned in fewer steps here.
    """
    return replace(
        bpd(),
        name="light",
        source="tomopick; BPD at output stride 2",
        target=GaussianTarget(sigma_factor=0.5),
        network=UNetSpec(widths=(32, 48, 64), convolutions=2, stride=2),
        train=TrainSpec(steps=800, lr_from_model=0.3, steps_from_model=150, warmup_steps=50),
        views="none",
        exclusion=0.5,
    )
