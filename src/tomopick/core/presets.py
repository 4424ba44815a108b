"""Named facts about public data sets."""

from .types import PickableObject, Vector

# Radii and weights of the CZII CryoET challenge; colours after Okabe & Ito, told apart by all readers (`colours`).
CZII_OBJECTS: tuple[PickableObject, ...] = (
    PickableObject("apo-ferritin", 60.0, 1, (230, 159, 0, 255), 1.0),
    PickableObject("beta-amylase", 65.0, 2, (187, 187, 187, 255), 0.0),
    PickableObject("beta-galactosidase", 90.0, 3, (86, 180, 233, 255), 2.0),
    PickableObject("ribosome", 150.0, 4, (0, 158, 115, 255), 1.0),
    PickableObject("thyroglobulin", 130.0, 5, (240, 228, 66, 255), 2.0),
    PickableObject("virus-like-particle", 135.0, 6, (213, 94, 0, 255), 1.0),
)
CZII_VOXEL_SPACING = 10.012444  # [Å]; the directory name says 10.000

# True centre index = position / voxel spacing + offset [voxels, zyx]. copick's rule is 0; the CZII picks were made
# with index i centred at (i - 0.5) * spacing (4th and 13th place found it independently).
COORDINATE_OFFSETS: dict[str, Vector] = {"none": (0.0, 0.0, 0.0), "czii": (0.5, 0.5, 0.5)}
