"""BPD as its authors released it."""

import math

from ..core.presets import CZII_OBJECTS
from ..networks import BPDUNetSpec
from ..networks.losses import DenseCrossEntropy
from ..picking.decoders import Components
from ..picking.normalize import FixedLimits
from ..picking.published_tilings import EvenTiles
from ..training.augment import Augmentation, Flip, Rot90, ScaleShift
from ..training.loop import TrainSpec
from ..training.patches import PatchSpec
from ..training.recipe import Recipe
from ..training.targets import BallTarget

# Masks [Å] of log2(radius [Å]) x 0.8 voxels of 10 Å: 47 Å for the smallest object and 58 Å for the largest.
_MASK_RADII = {o.name: round(8 * math.log2(o.radius_angstrom), 1) for o in CZII_OBJECTS}
_EPOCHS, _PATCHES, _BATCH = 35, 1024, 4  # of training, of an epoch, and of a step (ours)

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

    Source: y284/biological-particle-detector for the layers, and its public model card for the training: masks, Adam at
    1e-4, 35 epochs of 1024 patches, flips and quarter turns, intensities within 3 %, no average of weights. Batches of
    four, the warm-up, how the rate falls and the limit of the gradient are ours. On tomograms of another origin, train
    it with `normalize=ZScore`.
    """
    return Recipe(
        name="bpd_released",
        source="BPD, CZII CryoET challenge, 5th place (released layers: y284/biological-particle-detector)",
        normalize=LIMITS,
        target=BallTarget(radii=_MASK_RADII),
        patch=PatchSpec(shape=(128, 128, 128)),
        augment=Augmentation(spatial=(Flip(), Rot90()), intensity=(ScaleShift(scale=0.03, shift=0.03, p=1.0),)),
        network=BPDUNetSpec(),
        loss=DenseCrossEntropy(particle=1.0, nothing=1.0, background="first", label_smoothing=0.01),
        train=TrainSpec(
            steps=_EPOCHS * _PATCHES // _BATCH, batch_size=_BATCH, lr=1e-4, weight_decay=0.0, ema_decay=0.0
        ),
        tiling=EvenTiles(shape=(96, 96, 96)),
        views="turns",
        peaks=Components(connectivity=18, min_cells_of=_MIN_VOXELS),
    )
