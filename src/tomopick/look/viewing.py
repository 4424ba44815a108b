"""A tomogram and its picks for programs that show both in 3D: neuroglancer and napari."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.errors import EngineError
from ..core.types import PickableObject, Picks, Tomogram
from .page.tables import safe_colors
from .ports import HOST, bound

_HALF = 0.5  # voxel: neuroglancer's voxel i spans i to i + 1, ours is centred at i
_METRES = 1e-10  # in an Å
_PANEL = 400  # pixels of a panel that a volume is to fill
# A spheroid of true radius where the score reaches the slider; what is wanted of a colour is that it is seen on grey.
_SHADER = """#uicontrol float least slider(min=0, max=1, default={least:.4f}, step=0.01)
void main() {{
  if (prop_score() < least) discard;
  setColor(vec3({red:.3f}, {green:.3f}, {blue:.3f}));
}}
"""
_GREY = """#uicontrol invlerp normalized(range=[{low:.6g}, {high:.6g}])
void main() {{ emitGrayscale(normalized()); }}
"""


def neuroglancer_state(
    tomogram: Tomogram, picks: Picks, objects: Sequence[PickableObject], thresholds: Mapping[str, float]
) -> Any:
    """neuroglancer's state: the volume, and for each object a layer of spheres with a slider for the score.

    Args:
        tomogram: with its grid.
        picks: of its run.
        objects: each is a layer; radii are needed.
        thresholds: by object, where sliders open.

    Raises:
        EngineError: neuroglancer is not installed.
    """
    ng = _imported("neuroglancer")
    grid = tomogram.grid
    space = ng.CoordinateSpace(names=["z", "y", "x"], units="m", scales=[grid.voxel_spacing * _METRES] * 3)
    state = ng.ViewerState()
    # In its first panel the first two axes run to the right and down.
    state.dimensions = ng.CoordinateSpace(names=["x", "y", "z"], units="m", scales=[grid.voxel_spacing * _METRES] * 3)
    low, high = np.percentile(tomogram.values[:: max(1, grid.shape[0] // 16)], (0.5, 99.5))
    volume = ng.LocalVolume(np.asarray(tomogram.values), dimensions=space)
    state.layers["tomogram"] = ng.ImageLayer(source=volume, shader=_GREY.format(low=low, high=high))
    for o, color in zip(objects, safe_colors(objects)):
        mine = picks.of(o.name)
        red, green, blue = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
        radius = [o.radius_angstrom / grid.voxel_spacing] * 3
        spheres = [
            ng.EllipsoidAnnotation(id=str(i), center=center, radii=radius, props=[float(score)])
            for i, (center, score) in enumerate(zip((grid.indices(mine.positions) + _HALF).tolist(), mine.scores))
        ]
        state.layers[o.name] = ng.LocalAnnotationLayer(
            dimensions=space,
            annotations=spheres,
            annotation_properties=[ng.AnnotationPropertySpec(id="score", type="float32", default=0)],
            shader=_SHADER.format(least=thresholds.get(o.name, 0.0), red=red, green=green, blue=blue),
        )
    state.position = (np.array(grid.shape[::-1]) / 2).tolist()
    state.cross_section_scale = max(grid.shape) / _PANEL  # voxels in a pixel
    state.projection_scale = 1.5 * max(grid.shape)
    state.layout = "4panel"
    return state


def napari_layers(
    tomogram: Tomogram, picks: Picks, objects: Sequence[PickableObject], thresholds: Mapping[str, float]
) -> list[tuple[Any, dict[str, Any], str]]:
    """napari's layer data, (data, keywords, kind) each: the volume, and points of each object from its threshold on.

    napari centres voxel i at i, as we do. Arguments are those of `neuroglancer_state`.
    """
    grid = tomogram.grid
    place = {"scale": [grid.voxel_spacing] * 3, "translate": list(grid.origin)}
    layers: list[tuple[Any, dict[str, Any], str]] = [
        (tomogram.values, {"name": tomogram.run or "tomogram", "colormap": "gray", **place}, "image")
    ]
    for o, color in zip(objects, safe_colors(objects)):
        mine = picks.of(o.name)
        shown = mine.scores >= thresholds.get(o.name, 0.0)
        how = {
            "name": o.name, "size": 2 * o.radius_angstrom, "border_color": color, "face_color": "transparent",
            "features": {"score": mine.scores}, "shown": shown, "out_of_slice_display": True,
        }  # fmt: skip
        layers.append((mine.positions, how, "points"))
    return layers


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        extra = "'tomopick[view]'" if name == "neuroglancer" else name
        raise EngineError(f"{name} is not installed; install it with: pip install {extra}") from None


def shown_in_neuroglancer(state: Any, port: int = 0) -> tuple[Any, str]:
    """Serves a state to this machine alone; gives the viewer, which must be kept, and its address.

    Raises:
        EngineError: neuroglancer is not installed.
        OutputError: another program has the port.
    """
    ng = _imported("neuroglancer")
    bound(port).close()  # its own server says nothing of that, and waits
    ng.set_server_bind_address(HOST, port)
    viewer = ng.Viewer()
    viewer.set_state(state)
    return viewer, str(viewer.get_viewer_url())


def show_in_napari(layers: Sequence[tuple[Any, dict[str, Any], str]]) -> None:
    """Opens napari with some layers and waits until it is closed.

    Raises:
        EngineError: napari is not installed.
    """
    napari = _imported("napari")
    viewer = napari.Viewer()
    for data, how, kind in layers:
        getattr(viewer, f"add_{kind}")(data, **how)
    napari.run()
