"""Named facts about public data sets, and what simulations call theirs."""

from collections.abc import Sequence

from .errors import TomopickError
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

# What a simulated tilt series can be made into, by the challenge's names.
TOMO_TYPES = ("wbp", "ctfdeconvolved", "denoised", "isonetcorrected")
HALVES = ("even", "odd")  # of the tilts: tomogram types wbp-even, ctfdeconvolved-odd and so on
_HALVED = ("wbp", "ctfdeconvolved")


def with_halves(tomo_types: Sequence[str]) -> tuple[str, ...]:
    """`tomo_types`, and the even and odd halves of those that come in halves (of `wbp` where none does)."""
    halved = [kind for kind in tomo_types if kind in _HALVED] or ["wbp"]
    return tuple(dict.fromkeys([*tomo_types, *(f"{kind}-{half}" for kind in halved for half in HALVES)]))


def known_types() -> tuple[str, ...]:
    """All tomogram types that can be simulated."""
    return (*TOMO_TYPES, *(f"{kind}-{half}" for kind in _HALVED for half in HALVES))


def require_types(tomo_types: Sequence[str]) -> None:
    """Raises `TomopickError` for tomogram types that cannot be simulated, none at all, or one named twice."""
    unknown = [kind for kind in tomo_types if kind not in known_types()]
    if unknown or not tomo_types:
        raise TomopickError(
            f"no tomogram type '{', '.join(unknown)}' can be simulated; choose from {', '.join(known_types())}"
        )
    if len(set(tomo_types)) < len(tomo_types):
        raise TomopickError(f"tomogram types {', '.join(tomo_types)}: one is named twice; name each once")
