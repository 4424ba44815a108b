"""BPD as its authors released it."""

from ..networks import BPDUNetSpec
from ..networks.losses import DenseCrossEntropy
from ..picking.decoders import Components
from ..picking.normalize import FixedLimits
from ..picking.published_tilings import EvenTiles
from ..training.augment import Augmentation, Flip, Noise, Rot90, Rotate
from ..training.loop import TrainSpec
from ..training.patches import PatchSpec
from ..training.recipe import Recipe
from ..training.targets import BallTarget

# 0.4 of edited radii [Å], with which the 2nd place of the challenge made its masks; BPD's own are not published.
MASK_RADII = {
    "apo-ferritin": 32.0,
    "beta-amylase": 26.0,
    "beta-galactosidase": 36.0,
    "ribosome": 60.0,
    "thyroglobulin": 48.0,
    "virus-like-particle": 60.0,
}


# Voxels of 10 Å above which a component counts.
_MIN_VOXELS = {
    "apo-ferritin": 5.281,
    "beta-galactosidase": 9.742,
    "ribosome": 18.246,
    "thyroglobulin": 15.502,
    "virus-like-particle": 16.197,
}
# Grey values of the challenge's denoised tomograms that become 0 and 1.
LIMITS = FixedLimits(low=-1.1769942479337e-05, high=1.2801160441345688e-05)


def bpd_released() -> Recipe:
    """Light 3D U-Net with a softmax over background and objects; CZII challenge, 5th place, layers as released.

    Source: y284/biological-particle-detector; its training is not published: masks after the challenge's 2nd place,
    augmentation and rates are ours. On tomograms of another origin, train it with `normalize=ZScore`.
    """
    return Recipe(
        name="bpd_released",
        source="BPD, CZII CryoET challenge, 5th place (released layers: y284/biological-particle-detector)",
        normalize=LIMITS,
        target=BallTarget(radius_factor=0.4, radii=MASK_RADII),
        patch=PatchSpec(shape=(128, 128, 128)),
        augment=Augmentation(spatial=(Flip(), Rot90(), Rotate(p=0.2)), intensity=(Noise(sigma=0.1),)),
        network=BPDUNetSpec(),
        loss=DenseCrossEntropy(particle=1.0, nothing=1.0, background="first", label_smoothing=0.01),
        train=TrainSpec(batch_size=4),
        tiling=EvenTiles(shape=(96, 96, 96)),
        peaks=Components(connectivity=18, min_cells_of=_MIN_VOXELS),
    )
