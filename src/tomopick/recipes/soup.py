"""The Ensemble 3D U-Net Soup: three sizes, as described and as released."""

from dataclasses import replace

from ..networks import ResidualUNetSpec, UNetSpec
from ..networks.losses import DiceCrossEntropy, HeatmapWeightedMSE
from ..picking.decoders import Watershed
from ..picking.normalize import ZScore
from ..picking.published_tilings import ScanTiles
from ..picking.tiling import GaussianWindow, TilingSpec
from ..training.augment import Augmentation, Flip, Noise, ScaleShift
from ..training.loop import TrainSpec
from ..training.patches import PatchSpec
from ..training.recipe import Recipe
from ..training.schedules import Plateau
from ..training.targets import BallTarget, GaussianTarget

_DESCRIBED = "Ensemble 3D U-Net Soup, CZII CryoET challenge, 8th place (described method)"
_RELEASED = "Ensemble 3D U-Net Soup, CZII CryoET challenge, 8th place (released networks and training)"

# Voxels of 10 Å that a region has at least, as released.
_MIN_VOXELS = {
    "apo-ferritin": 80.1,
    "beta-amylase": 100.0,
    "beta-galactosidase": 368.0,
    "ribosome": 750.0,
    "thyroglobulin": 480.0,
    "virus-like-particle": 1150.3,
}


def soup_tiny() -> Recipe:
    """3D U-Net of three levels on Gaussian heatmaps; the smallest member.

    Source: method description of the Ensemble 3D U-Net Soup: sizes that differ in levels and channels, 128^3 patches,
    flips and small changes of intensity; widths, sigma and rates, which it leaves open, are ours.
    """
    return Recipe(
        name="soup_tiny",
        source=_DESCRIBED,
        target=GaussianTarget(),
        patch=PatchSpec(shape=(128, 128, 128)),
        augment=Augmentation(spatial=(Flip(),), intensity=(ScaleShift(scale=0.1, shift=0.1), Noise(sigma=0.1))),
        network=UNetSpec(widths=(16, 32, 64)),
        loss=HeatmapWeightedMSE(),
        train=TrainSpec(batch_size=4),
        tiling=TilingSpec(shape=(192, 192, 192), overlap=32, window=GaussianWindow()),
        views="mirrors",
    )


def soup_medium() -> Recipe:
    """The member of standard depth: four levels. Source: see `soup_tiny`."""
    return replace(soup_tiny(), name="soup_medium", network=UNetSpec(widths=(32, 64, 128, 256)))


def soup_large() -> Recipe:
    """The member with an additional level: five. Source: see `soup_tiny`."""
    return replace(soup_tiny(), name="soup_large", network=UNetSpec(widths=(32, 64, 128, 256, 320)))


def soup_released_tiny() -> Recipe:
    """Residual 3D U-Net with a softmax over background and objects; the smallest released member.

    Source: the Soup's released code: Dice and cross-entropy on spheres, crops around every class alike, flips alone;
    spheres of half the radius, which it does not tell, are ours.
    """
    return Recipe(
        name="soup_released_tiny",
        source=_RELEASED,
        normalize=ZScore(),
        target=BallTarget(radius_factor=0.5),
        patch=PatchSpec(shape=(128, 128, 128), around_particles=6 / 7, jitter=0.1),
        augment=Augmentation(spatial=(Flip(),), intensity=()),
        network=ResidualUNetSpec(widths=(32, 64, 128, 128), strides=(2, 2, 1), residual_units=1, dropout=0.3),
        loss=DiceCrossEntropy(background="first"),
        train=TrainSpec(batch_size=24, ema_decay=0.0, schedule=Plateau()),
        tiling=ScanTiles(shape=(160, 384, 384), fraction=0.25, window=GaussianWindow()),
        views="mirrors",
        peaks=Watershed(min_cells_of=_MIN_VOXELS),
    )


def soup_released_medium() -> Recipe:
    """The released member of 4.5 million parameters. Source: see `soup_released_tiny`."""
    network = ResidualUNetSpec(widths=(32, 64, 128, 256), strides=(2, 2, 1), residual_units=2, dropout=0.3)
    train = TrainSpec(batch_size=16, ema_decay=0.0, schedule=Plateau())
    return replace(soup_released_tiny(), name="soup_released_medium", network=network, train=train)


def soup_released_big() -> Recipe:
    """The released member of 11.8 million parameters; its running average counts. Source: see `soup_released_tiny`."""
    network = ResidualUNetSpec(widths=(32, 96, 256, 384), strides=(2, 2, 1), residual_units=2, dropout=0.2)
    train = TrainSpec(batch_size=16, ema_decay=0.99, schedule=Plateau())
    return replace(soup_released_tiny(), name="soup_released_big", network=network, train=train)
