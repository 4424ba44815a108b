"""BPD as its authors released it."""

from ..augment import Augmentation, Flip, Noise, Rot90, Rotate
from ..heatmap import BallTarget
from ..losses import DenseCrossEntropy
from ..networks import BPDUNetSpec
from ..patches import PatchSpec
from ..recipe import Recipe
from ..tiling import TilingSpec
from ..train import TrainSpec

# 0.4 of edited radii [Å], with which the 2nd place of the challenge made its masks; BPD's own are not published.
MASK_RADII = {
    "apo-ferritin": 32.0,
    "beta-amylase": 26.0,
    "beta-galactosidase": 36.0,
    "ribosome": 60.0,
    "thyroglobulin": 48.0,
    "virus-like-particle": 60.0,
}


def bpd_released() -> Recipe:
    """Light 3D U-Net with a softmax over background and objects; CZII challenge, 5th place, layers as released.

    Source: y284/biological-particle-detector; its training is not published: masks after the challenge's 2nd place,
    augmentation and rates are ours.
    """
    return Recipe(
        name="bpd_released",
        source="BPD, CZII CryoET challenge, 5th place (released layers: y284/biological-particle-detector)",
        target=BallTarget(radius_factor=0.4, radii=MASK_RADII),
        patch=PatchSpec(shape=(128, 128, 128)),
        augment=Augmentation(spatial=(Flip(), Rot90(), Rotate(p=0.2)), intensity=(Noise(sigma=0.1),)),
        network=BPDUNetSpec(),
        loss=DenseCrossEntropy(particle=1.0, nothing=1.0, background="first", label_smoothing=0.01),
        train=TrainSpec(batch_size=4),
        tiling=TilingSpec(shape=(96, 96, 96), overlap=16),
    )
