"""TopCUP: a 3D U-Net on a classification network, as described and as released."""

from ..networks import FlexibleUNetSpec
from ..networks.losses import DenseCrossEntropy, HeatmapWeightedMSE
from ..picking.decoders import UpsampledMaxima
from ..picking.normalize import ZScore
from ..picking.published_tilings import ScanTiles
from ..picking.tiling import TilingSpec
from ..training.augment import Augmentation, Flip, Rot90, Rotate
from ..training.loop import TrainSpec
from ..training.objectives import SupervisedSpec
from ..training.patches import PatchSpec
from ..training.recipe import Recipe
from ..training.targets import GaussianTarget, VoxelTarget


def topcup() -> Recipe:
    """3D EfficientNet-B3, three transposed convolutions from stride 16 to 2, on heatmaps; CZII challenge, 1st place.

    Of EfficientNet-B3 it holds what comes before stride 32, 2.7 of the 11.5 million parameters: the decoder's three
    stages begin at stride 16, and nothing would use the rest. `network.deepest=32` takes it whole, with a fourth stage.

    Source: method description of TopCUP; loss, sigma, augmentation and rates, which it leaves open, are those of its
    code or ours.
    """
    return Recipe(
        name="topcup",
        source="TopCUP, CZII CryoET challenge, 1st place (described method)",
        target=GaussianTarget(),
        patch=PatchSpec(shape=(96, 96, 96)),
        augment=Augmentation(spatial=(Flip(), Rot90(), Rotate(about_z=0.0, about_xy=10.0, scale=0.0, p=0.5))),
        network=FlexibleUNetSpec(
            encoder="efficientnet-b3", upsample="transposed", deepest=16, heads=1, background=False
        ),
        loss=HeatmapWeightedMSE(),
        imagenet="efficientnet_b3.ra2_in1k",
        train=TrainSpec(steps=9730, batch_size=8),
        tiling=TilingSpec(shape=(192, 192, 192), overlap=32),
        views="opposite",
    )


def topcup_released() -> Recipe:
    """3D ResNet-34 U-Net, softmax over objects and background, one voxel a particle; CZII challenge, 1st place.

    Deep supervision by `loss.head_weights=0,0,1,1` (with `loss.particle=64`); EfficientNet-B3 by
    `network.encoder=efficientnet-b3`; the balls of the topcup package by `target=BallTarget`, `target.fixed=20` and
    `target.exclusive=true`; the package's learning rate by `train.schedule=StepDecay`. It picks as the package does.

    Source: ChristofHenkel/kaggle-cryoet-1st-place-segmentation and the topcup package 1.2.2. (Tilts of 10 degrees
    about x and y are what others of the team found the best.)
    """
    return Recipe(
        name="topcup_released",
        source="TopCUP, CZII CryoET challenge, 1st place (released networks and training)",
        normalize=ZScore(),
        target=VoxelTarget(),
        patch=PatchSpec(shape=(96, 96, 96), around_particles=0.0),
        augment=Augmentation(
            spatial=(Flip(), Rot90(), Rotate(about_z=0.0, about_xy=44.7, scale=0.0, p=0.5, tilts="x")), intensity=()
        ),
        network=FlexibleUNetSpec(encoder="resnet34", upsample="nearest", heads=4, background=True, unused=True),
        loss=DenseCrossEntropy(particle=256.0, nothing=1.0, background="last"),
        objective=SupervisedSpec(mixup=1.0, mixup_per_patch=True),
        train=TrainSpec(steps=9730, batch_size=32, weight_decay=0.0, warmup_steps=0, ema_decay=0.0),
        tiling=ScanTiles(shape=(96, 96, 96), fraction=0.21),
        views="opposite",
        peaks=UpsampledMaxima(refined=False),
    )
