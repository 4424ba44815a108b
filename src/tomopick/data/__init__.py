"""The world outside: projects of tomograms and picks, and the files they are made of."""

from ..core.files import atomic_folder, atomic_write
from .offset import CoordinateOffset
from .open import open_project
from .project import MemoryProject, Project
from .sources.copick import CopickProject
from .sources.copick_write import create_copick_project, write_run, write_tomogram
from .sources.folder import FolderProject
from .sources.kaggle import KaggleProject
from .tables import read_picks_csv, write_picks_csv
from .volumes.mrc import read_map, write_mrc
from .volumes.volumes import read_volume, volume_grids

__all__ = [
    "CoordinateOffset",
    "CopickProject",
    "FolderProject",
    "KaggleProject",
    "MemoryProject",
    "Project",
    "atomic_folder",
    "atomic_write",
    "create_copick_project",
    "open_project",
    "read_map",
    "read_picks_csv",
    "read_volume",
    "volume_grids",
    "write_mrc",
    "write_picks_csv",
    "write_run",
    "write_tomogram",
]
