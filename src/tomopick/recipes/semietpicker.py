"""SemiETPicker: a little labelled data, and much that is not."""

from ..networks import AsymmetricUNetSpec
from ..networks.losses import ReweightedMSE
from ..picking.peaks import LocalMaxima
from ..picking.tiling import TilingSpec
from ..training.augment import Augmentation, Flip, Noise, Rot90, ScaleShift
from ..training.loop import TrainSpec
from ..training.mean_teacher import MeanTeacherSpec
from ..training.patches import PatchSpec
from ..training.recipe import Recipe
from ..training.targets import GaussianTarget


def semietpicker() -> Recipe:
    """Asymmetric 3D U-Net with output stride 2 on Gaussian heatmaps of half a radius, taught by labels, then a teacher.

    A pick is what nothing exceeds in a window of half a radius, above a threshold. Needs unlabelled runs;
    `objective=SupervisedSpec` trains it on labels alone.

    Source: SemiETPicker, arXiv:2510.22454; stride, alpha, crop and rates, which are lost, are ours, and so are tiles:
    larger than the paper's, with an overlap of 40 voxels in place of a quarter, for the same picks of less work.
    """
    return Recipe(
        name="semietpicker",
        source="SemiETPicker (arXiv:2510.22454)",
        target=GaussianTarget(sigma_factor=0.5),
        patch=PatchSpec(shape=(96, 96, 96)),
        augment=Augmentation(spatial=(Flip(), Rot90()), intensity=(ScaleShift(), Noise())),
        network=AsymmetricUNetSpec(stride=2),
        loss=ReweightedMSE(alpha=10.0, sigmoid=True),
        objective=MeanTeacherSpec(),
        train=TrainSpec(batch_size=8, weight_decay=0.0),
        tiling=TilingSpec(shape=(192, 256, 256), overlap=40),
        views="flips",
        peaks=LocalMaxima(window=0.25, min_distance=0.0),
    )
