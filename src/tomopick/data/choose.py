"""What is read is chosen, never guessed: one candidate is taken, several are listed, near misses are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..core.errors import NoPicksError, OutputError, SelectionError, SeveralPicksError
from ..core.messages import listing, near_miss

SPACING_TOLERANCE = 0.02  # `10` finds 10.012; neighbouring pyramid levels are a factor 2 apart


@dataclass(frozen=True)
class TomogramEntry:
    """One tomogram that could be read.

    Attributes:
        tomo_type: empty where the source knows no types (a folder of volumes).
        voxel_spacing: of its finest level [Å].
        levels: gives the spacings of its pyramid, finest first [Å]; called only when a coarser level may be meant.
    """

    tomo_type: str
    voxel_spacing: float
    levels: Callable[[], Sequence[float]]

    def __str__(self) -> str:
        return f"{self.tomo_type}@{self.voxel_spacing:.3f}"


@dataclass(frozen=True)
class PicksEntry:
    """One set of picks that could be read: copick's (object, user, session)."""

    name: str
    user_id: str = ""
    session_id: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.user_id}/{self.session_id}" if self.user_id or self.session_id else self.name


@dataclass(frozen=True)
class PicksQuery:
    """A copick URI `object:user/session`: globs, or regular expressions after `re:`; missing parts match all.

    Attributes:
        name, user_id, session_id: patterns.
        regex: whether they are regular expressions.
        states_pair: whether user and session were both typed, if only as `*`: then several may be meant.
    """

    name: str = "*"
    user_id: str = "*"
    session_id: str = "*"
    regex: bool = False
    states_pair: bool = False

    @classmethod
    def parse(cls, text: str | None) -> PicksQuery:
        """Raises `SelectionError` for what is not `object:user/session`."""
        text = (text or "*").strip()
        regex = text.startswith("re:")
        name, _, pair = text.removeprefix("re:").partition(":")
        user, _, session = pair.partition("/")
        if ":" in pair:
            raise SelectionError(f"picks '{text}' are not of the form object:user/session")
        query = cls(name or "*", user or "*", session or "*", regex, bool(user and session))
        if regex:
            for part in (query.name, query.user_id, query.session_id):
                try:
                    re.compile("" if part == "*" else part)
                except re.error as error:
                    raise SelectionError(f"picks '{text}': '{part}' is no regular expression ({error})") from None
        return query

    def matches_name(self, name: str) -> bool:
        """Whether the object is asked for."""
        return _matches(self.name, name, self.regex)

    def matches_pair(self, entry: PicksEntry) -> bool:
        """Whether the user and the session are asked for."""
        return _matches(self.user_id, entry.user_id, self.regex) and _matches(
            self.session_id, entry.session_id, self.regex
        )


def _matches(pattern: str, value: str, regex: bool) -> bool:
    if pattern == "*":
        return True
    return re.match(pattern, value) is not None if regex else fnmatchcase(value, pattern)


def require_run(run: str, runs: Collection[str], uri: str) -> None:
    """Raises `SelectionError`, with the near misses, for a run that is not there."""
    if run not in runs:
        raise SelectionError(f"{uri}: no run '{run}'; {near_miss(run, runs)}")


def require_objects(names: Iterable[str], known: Iterable[str], uri: str) -> None:
    """Raises `SelectionError`, with the near misses, for objects the project does not have."""
    known = list(known)
    for name in sorted(set(names) - set(known)):
        raise SelectionError(f"{uri}: no pickable object '{name}'; {near_miss(name, known)}")


def require_id(value: str, what: str) -> None:
    """Raises `OutputError` for a user or session that copick would silently rename."""
    clean = re.sub(r'[<>:"/\\|?*\x00-\x1F\x7F\s_]', "-", value).strip("-")
    if clean != value or not clean:
        hint = f"; write '{clean}'" if clean else ""
        raise OutputError(f"{what} '{value}' would be renamed by copick (no '_', spaces or <>:\"/\\|?*){hint}")


def choose_tomogram(query: str | None, entries: Sequence[TomogramEntry], where: str) -> tuple[TomogramEntry, int]:
    """The tomogram and pyramid level that `TYPE[@spacing]` names; without a query, the only one.

    A spacing is met within 2 %. A tomogram stored at that spacing comes before a pyramid level of another.

    Raises:
        SelectionError: none or several; they are listed as the strings to type.
    """
    if not entries:
        raise SelectionError(f"{where}: no tomograms; expected at least one")
    tomo_type, _, spacing_text = (query or "").strip().partition("@")
    typed = [e for e in entries if not tomo_type or _matches(tomo_type, e.tomo_type, False)]
    if not typed:
        types = {e.tomo_type for e in entries if e.tomo_type}
        hint = near_miss(tomo_type, types) if types else "its tomograms have no types: leave the type out"
        raise SelectionError(f"{where}: no tomogram type '{tomo_type}'; {hint}")
    if spacing_text and spacing_text != "*":
        return _at_spacing(query or "", _number(spacing_text, where), typed, where)
    if len(typed) > 1:
        raise SelectionError(
            f"{where}: several tomograms; say which with `tomo_type`: {listing(sorted(map(str, typed)))}"
        )
    return typed[0], 0


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SelectionError(f"{where}: '{text}' is no voxel spacing; expected TYPE@spacing in Å") from None


def _at_spacing(query: str, spacing: float, entries: Sequence[TomogramEntry], where: str) -> tuple[TomogramEntry, int]:
    near = [e for e in entries if _near(e.voxel_spacing, spacing)]
    if len(near) > 1:  # 10.000 and 10.012 side by side: the digits decide
        near = [e for e in near if f"{e.voxel_spacing:.3f}" == f"{spacing:.3f}"] or near
    found = [(e, 0) for e in near]
    if not found:
        found = [(e, i) for e in entries for i, s in enumerate(e.levels()) if i and _near(s, spacing)]
    if len(found) == 1:
        return found[0]
    if found:
        names = sorted(f"{e.tomo_type}@{e.levels()[i]:.3f}" for e, i in found)
        raise SelectionError(f"{where}: '{query}' means several tomograms; say which: {listing(names)}")
    known = sorted(f"{e.tomo_type}@{s:.3f}" for e in entries for s in e.levels())
    raise SelectionError(f"{where}: no tomogram '{query}'; there is {listing(known)}")


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= SPACING_TOLERANCE * max(abs(a), abs(b))


def choose_picks(
    query: str | None, entries: Sequence[PicksEntry], objects: Sequence[str], where: str
) -> list[PicksEntry] | None:
    """The sets of picks that the query names, at most one an object; None where the run has none whatever.

    An empty list says that the user and session picked in this run, but none of the objects asked for.

    Raises:
        SelectionError: nothing matches, several (user, session) pairs picked the same object, or several are there and
            the query does not state both; they are listed.
    """
    if not entries:
        return None
    parsed = PicksQuery.parse(query)
    pairs = [e for e in entries if parsed.matches_pair(e)]
    hits = [e for e in pairs if parsed.matches_name(e.name)]
    if not hits:
        if pairs and any(parsed.matches_name(name) for name in objects):
            return []
        known = sorted(map(str, entries))
        raise NoPicksError(f"{where}: no picks '{query}'; {near_miss(query or '*', known)}")
    for entry in hits:
        rivals = [e for e in hits if e.name == entry.name]
        if len(rivals) > 1:
            wanted = sorted({f"{parsed.name}:{e.user_id}/{e.session_id}" for e in rivals})
            raise SeveralPicksError(f"{where}: several picks of '{entry.name}'", listing(wanted))
    require_one_pair(query, hits, where)
    return hits


def require_one_pair(query: str | None, entries: Iterable[PicksEntry], where: str) -> None:
    """Refuses picks of several users or sessions that were not asked for: one's own predictions would become labels.

    Raises:
        SelectionError: the query does not state user and session, and there are several; they are listed.
    """
    parsed = PicksQuery.parse(query)
    hits = [e for e in entries if parsed.matches_pair(e) and parsed.matches_name(e.name)]
    pairs = sorted({f"{e.user_id}/{e.session_id}" for e in hits})
    if len(pairs) > 1 and not parsed.states_pair:
        name = f"{'re:' if parsed.regex else ''}{parsed.name}"
        wanted = listing(f"{name}:{pair}" for pair in pairs)
        raise SeveralPicksError(f"{where}: several picks", f"{wanted} (or '{name}:*/*' for all)")
