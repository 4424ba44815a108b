"""The page's server: on this machine's own address alone, for whoever has the token."""

from __future__ import annotations

import asyncio
import functools
import hmac
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

import numpy as np
from aiohttp import web

from ...core.errors import SelectionError, TomopickError
from ...core.reading import parse_json
from ...scoring.matching import REACH
from ...scoring.scores import matched_scores
from ..ports import HOST
from .desk import PICK_FIELDS, Desk, rows_of
from .planes import Planes, snapped

_OPEN = 2  # volumes whose 8-bit copies are held
_MOST_BODY = 2**22  # bytes of a request
_POLICY = (
    "default-src 'none'; img-src blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
Finder = Callable[[str, np.ndarray, int], np.ndarray]  # run, position zyx [Å], object -> the model's maximum near it
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Curation:
    """Answers the page; reading and writing happen in threads, so that sections keep coming meanwhile.

    Args:
        desk: the picks.
        dark: whether particles are darker than what surrounds them.
        finder: finds a model's maximum near a position; None where there is no model.
        token: that requests must carry.
    """

    def __init__(self, desk: Desk, dark: bool = True, finder: Finder | None = None, token: str | None = None) -> None:
        self.desk, self.dark, self.finder = desk, dark, finder
        self.token = token or secrets.token_urlsafe(24)
        self._planes: dict[str, Planes] = {}
        self._opening = asyncio.Lock()
        self.port = 0

    def app(self) -> web.Application:
        """The application, to be run by `serve` or a test."""
        app = web.Application(middlewares=[self._guard], client_max_size=_MOST_BODY)
        app.router.add_get("/", self._page)
        app.router.add_get("/api/start", self._start)
        app.router.add_get("/api/runs", self._runs)
        app.router.add_get("/api/run", self._run)
        app.router.add_get("/api/plane", self._plane)
        app.router.add_get("/api/crops", self._crops)
        app.router.add_post("/api/act", self._act)
        app.router.add_post("/api/snap", self._snap)
        app.router.add_post("/api/thresholds", self._thresholds)
        app.router.add_post("/api/scores", self._scores)
        app.on_cleanup.append(self._cleanup)
        return app

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses other hosts' names (a page elsewhere may have one that leads here), other origins, and no token."""
        names = {f"{HOST}:{self.port}", f"localhost:{self.port}"}
        origin = request.headers.get("Origin")
        given = request.headers.get("X-Token") or (request.query.get("token", "") if request.path == "/" else "")
        if request.host not in names or (origin is not None and origin.removeprefix("http://") not in names):
            return web.Response(status=403, text="open the address that tomopick printed")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode()):
            return web.Response(status=403, text="the token is missing: open the address that tomopick printed")
        try:
            response = await handler(request)
        except TomopickError as error:
            response = web.json_response({"error": str(error)}, status=400)
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            response = web.json_response({"error": f"a request that is not understood ({error!r})"}, status=400)
        response.headers.update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
                                 "Referrer-Policy": "no-referrer", "Content-Security-Policy": _POLICY})  # fmt: skip
        return response

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=curation_page(), content_type="text/html")

    async def _start(self, request: web.Request) -> web.Response:
        sitting = self.desk.sitting
        objects = [
            {"name": o.name, "radius": o.radius_angstrom, "color": "#" + bytes(o.color[:3]).hex()}
            for o in sitting.objects
        ]
        return web.json_response({
            "objects": objects, "thresholds": self.desk.thresholds, "runs": await _threaded(self.desk.overview),
            "user": sitting.user_id, "session": self.desk.session_id, "truth": sorted(sitting.truth),
            "model": self.finder is not None, "project": sitting.project.uri,
        })  # fmt: skip

    async def _runs(self, request: web.Request) -> web.Response:
        return web.json_response(await _threaded(self.desk.overview))

    async def _run(self, request: web.Request) -> web.Response:
        run = request.query["run"]
        planes, journal = await self._opened(run), await _threaded(self.desk.journal, run)
        names = [o.name for o in self.desk.sitting.objects]
        rows = await _threaded(rows_of, journal, names)
        columns = dict(zip(PICK_FIELDS, map(list, zip(*rows)))) if rows else {name: [] for name in PICK_FIELDS}
        grid = planes.grid
        return web.json_response({
            "run": run, "shape": grid.shape, "spacing": grid.voxel_spacing, "origin": grid.origin, "bin": planes.bin,
            "picks": columns, "done": journal.done, "undoable": journal.undoable,
        })  # fmt: skip

    async def _plane(self, request: web.Request) -> web.Response:
        query = request.query
        planes = await self._opened(query["run"])
        axis = _among(int(query["axis"]), 3, "axis")
        picture = await _threaded(
            planes.plane, axis, int(query["index"]), max(1, int(query.get("thickness", 1))), _window(query)
        )
        whole = query["axis"] == "0" or planes.complete == 1
        return web.Response(body=picture, content_type="image/jpeg", headers={"X-Complete": "1" if whole else "0"})

    async def _crops(self, request: web.Request) -> web.Response:
        query = request.query
        planes, journal = await self._opened(query["run"]), await _threaded(self.desk.journal, query["run"])
        ids = [int(i) for i in query["ids"].split(",") if i][:200]
        entries = [journal.entries[_among(i, len(journal.entries), "pick")] for i in ids]
        radius = {o.name: o.radius_angstrom for o in self.desk.sitting.objects}
        positions = np.array([e.position for e in entries]).reshape(-1, 3)
        picture = await _threaded(planes.crops, positions, [radius[e.name] for e in entries], _window(query))
        return web.Response(body=picture, content_type="image/jpeg")

    async def _act(self, request: web.Request) -> web.Response:
        data = await _body(request)
        run = str(data["run"])
        changed = await _threaded(self.desk.act, run, dict(data["event"]))
        journal = self.desk.journal(run)
        names = [o.name for o in self.desk.sitting.objects]
        there = [i for i in changed if i < len(journal.entries)]
        rows = dict(zip(there, rows_of(journal, names, there)))
        return web.json_response(
            {"changed": rows, "total": len(journal.entries), "done": journal.done, "undoable": journal.undoable}
        )

    async def _snap(self, request: web.Request) -> web.Response:
        data = await _body(request)
        run, index = str(data["run"]), _among(data["object"], len(self.desk.sitting.objects), "object")
        at = np.array(await _threaded(self.desk.place, run, data["at"]))
        o = self.desk.sitting.objects[index]
        if data.get("to") == "heatmap" and self.finder is not None:
            found = await _threaded(self.finder, run, at, index)
        else:
            planes = await self._opened(run)
            box = await _threaded(planes.slabs.around, at, 2.5 * o.radius_angstrom)
            found = await _threaded(snapped, *box, at, o.radius_angstrom, self.dark)
        return web.json_response({"at": [float(v) for v in found]})

    async def _thresholds(self, request: web.Request) -> web.Response:
        data = await _body(request)
        await _threaded(self.desk.set_thresholds, dict(data["thresholds"]))
        return web.json_response({"thresholds": self.desk.thresholds})

    async def _scores(self, request: web.Request) -> web.Response:
        """Precision, recall and F1 by object at thresholds, over the runs with truth, decisions included."""
        data = await _body(request)
        cuts = {str(k): float(v) for k, v in dict(data["thresholds"]).items()}
        return web.json_response(await _threaded(self._scored, cuts))

    def _scored(self, cuts: Mapping[str, float]) -> dict[str, Any]:
        sitting = self.desk.sitting
        runs = [run for run in self.desk.runs() if run in sitting.truth]
        known = {n for run in runs for n in sitting.truth[run].names.tolist()}
        objects = [o for o in sitting.objects if o.name in known]
        names = [o.name for o in objects]
        if not objects:
            return {}
        picks = {run: self.desk.journal(run).picks("accepted", cuts) for run in runs}
        found = {run: p.among(names) for run, p in picks.items()}
        truth = {run: sitting.truth[run].among(names) for run in runs}
        counts = {name: at[0] for name, at in matched_scores(found, truth, objects, radii=(REACH,)).objects.items()}
        return {name: {"precision": c.precision, "recall": c.recall, "f1": c.fbeta} for name, c in counts.items()}

    async def _opened(self, run: str) -> Planes:
        async with self._opening:
            if run not in self._planes:
                sitting = self.desk.sitting
                slabs = await _threaded(sitting.project.slabs, run, sitting.tomo_type)
                while len(self._planes) >= _OPEN:
                    oldest = self._planes.pop(next(iter(self._planes)))
                    await _threaded(oldest.close)
                self._planes[run] = await _threaded(Planes, slabs)
            return self._planes[run]

    async def _cleanup(self, _app: web.Application) -> None:
        for planes in self._planes.values():
            planes.close()
        self.desk.close()


async def _threaded(work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *arguments))


async def _body(request: web.Request) -> dict[str, Any]:
    data = parse_json(await request.text())
    if not isinstance(data, dict):
        raise ValueError("expected a JSON object")
    return data


def curation_page() -> str:
    """The page: style and script in one file that asks nothing of any other machine."""
    look = resources.files("tomopick.look")
    parts = {
        "style": (look / "page" / "report.css", look / "curation" / "curate.css"),
        "script": (look / "page" / "shared.js", look / "curation" / "curate.js"),
    }
    text = (look / "curation" / "curate.html").read_text(encoding="utf-8")
    for name, files in parts.items():
        text = text.replace("{{" + name + "}}", "\n".join(f.read_text(encoding="utf-8") for f in files))
    return text


def _among(number: Any, n: int, what: str) -> int:
    """A number of `n` things.

    Raises:
        SelectionError: it is none.
    """
    if type(number) is not int or not 0 <= number < n:
        raise SelectionError(f"no {what} {str(number)[:20]}; there are {n}, from 0")
    return number


def _window(query: Mapping[str, str]) -> tuple[float, float]:
    """Grey values that become black and white."""
    low, high = float(query.get("low", 0)), float(query.get("high", 255))
    if not np.isfinite([low, high]).all():
        raise SelectionError(f"grey values {low} to {high}; expected finite numbers")
    return low, high


async def serve(curation: Curation, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Runs until it is cancelled.

    Args:
        curation: to serve.
        listening: as from `bound`; it is closed at the end.
        ready: given the address once it answers.
    """
    runner = web.AppRunner(curation.app(), access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        curation.port = runner.addresses[0][1]
        ready(curation.url)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
