"""The two 2.5D U-Nets with depth reduction."""

from ..networks import JPUNet25DSpec, UNet25DSpec
from ..networks.losses import HeatmapWeightedMSE, ReweightedMSE
from ..picking.normalize import ZScore
from ..picking.peaks import LocalMaxima
from ..picking.published_tilings import StepTiles
from ..training.augment import Augmentation, Flip, Rotate, ScaleShift
from ..training.loop import TrainSpec
from ..training.objectives import SupervisedSpec
from ..training.patches import PatchSpec
from ..training.recipe import Recipe
from ..training.targets import FixedGaussianTarget, GaussianTarget

_CHANGES = (Rotate(about_z=180.0, about_xy=0.0, scale=0.1, p=0.5),)
_INTENSITY = (ScaleShift(scale=0.3, shift=0.3, p=0.3),)
# A window of seven voxels of 10 Å for all objects, and nothing else.
_PEAKS = LocalMaxima(half_width=30.0, min_distance=0.0)


def unet25d_convnext() -> Recipe:
    """2.5D U-Net on ConvNeXt-Nano on Gaussian heatmaps of one size; CZII challenge, 4th place (yu4u's network).

    Source: Uchida & Fukui 2025, arXiv:2502.13484, sections 2.2-2.6; yu4u/kaggle-czii-4th for the values that the paper
    leaves out.
    """
    return Recipe(
        name="unet25d_convnext",
        source="2.5D U-Net, CZII CryoET challenge, 4th place (yu4u; arXiv:2502.13484)",
        normalize=ZScore(),
        target=FixedGaussianTarget(sigma=60.0),
        patch=PatchSpec(shape=(16, 128, 128), around_particles=0.0),
        augment=Augmentation(spatial=(Flip("x"), *_CHANGES), intensity=_INTENSITY),
        network=UNet25DSpec(),
        loss=HeatmapWeightedMSE(floor=0.1),
        objective=SupervisedSpec(mixup=0.5),
        imagenet="convnext_nano.in12k_ft_in1k",
        train=TrainSpec(
            steps=21376, batch_size=32, weight_decay=0.0, warmup_steps=1336, ema_decay=0.999, select="czii"
        ),
        tiling=StepTiles(shape=(16, 128, 128), step=(8, 48, 48)),
        peaks=_PEAKS,
    )


def unet25d_resnetrs() -> Recipe:
    """2.5D U-Net on ResNet-RS 50 with joint pyramid up-sampling; CZII challenge, 4th place (tattaka's network).

    Behind each of the two finest stages neighbouring slices are averaged in pairs, behind the others each with those
    beside it; at a volume's border the mean is over those that there are.

    Source: Uchida & Fukui 2025, arXiv:2502.13484; sigma (half a radius), rates and mixup, which the paper leaves out,
    are ours.
    """
    return Recipe(
        name="unet25d_resnetrs",
        source="2.5D U-Net, CZII CryoET challenge, 4th place (tattaka; arXiv:2502.13484)",
        normalize=ZScore(),
        target=GaussianTarget(sigma_factor=0.5),
        patch=PatchSpec(shape=(32, 128, 128), around_particles=0.0),
        augment=Augmentation(spatial=(Flip("zx"), *_CHANGES), intensity=_INTENSITY),
        network=JPUNet25DSpec(),
        loss=ReweightedMSE(alpha=1.0),
        objective=SupervisedSpec(mixup=0.5, mixup_alpha=0.2),
        imagenet="resnetrs50.tf_in1k",
        train=TrainSpec(steps=4175, batch_size=32, weight_decay=1e-2, warmup_steps=835, ema_decay=0.999),
        tiling=StepTiles(shape=(32, 128, 128), step=(16, 48, 48)),
        peaks=_PEAKS,
    )
