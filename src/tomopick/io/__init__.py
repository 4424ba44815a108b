"""The world outside: projects of tomograms and picks, and the files they are made of."""

from .atomic import atomic_folder, atomic_write
from .copick import CopickProject
from .copickwrite import create_copick_project, write_run, write_tomogram
from .folder import FolderProject
from .kaggle import KaggleProject
from .mrc import read_map, write_mrc
from .offset import CoordinateOffset
from .open import open_project
from .project import MemoryProject, Project
from .tables import read_picks_csv, write_picks_csv
from .volumes import read_volume, volume_grids

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
