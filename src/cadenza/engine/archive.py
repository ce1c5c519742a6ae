"""A run on its own: out of one store as lines of JSON, into another.

A file holds a run and all children below it, each with its journal, its inbox and its open questions:

    {"line":"header", "format":1, "schema":1, …}     what this is
    {"line":"run", "row":{…}, "events":3, …}         a run, and how much of it follows
    {"line":"event", "seq":1, "event":{…}}           its journal
    {"line":"mail", …}  {"line":"task", …}           its inbox, its open questions
    {"line":"end", "lines":7}

Each line ends with ``chain``: the SHA-256 of the chain before it and of the line itself. It shows what was damaged or
edited; it is no signature, since whoever writes a file can compute it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cadenza.durable.events import SCHEMA_VERSION, TERMINALS, AnyEvent, RunContinued, RunStarted
from cadenza.engine.store import Import, Mail, OpenTaskRow, RunCopy, RunRow, Store, perform, taken
from cadenza.errors import ImportRefused

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine

T = TypeVar("T")
FORMAT = 1
CHAINED = re.compile(rb'^(\{.+),"chain":"([0-9a-f]{64})"\}\r?\n?$', re.DOTALL)
UPGRADE = "Upgrade: pip install -U cadenza"
AGAIN = "Export it again."


class Header(msgspec.Struct, frozen=True, tag_field="line", tag="header"):
    """First. ``exported_at`` is in microseconds since 1970."""

    run_id: str
    runs: int
    exported_at: int
    cadenza: str = "export"
    format: int = FORMAT
    schema: int = SCHEMA_VERSION


class RunLine(msgspec.Struct, frozen=True, tag_field="line", tag="run"):
    """A run; so many lines of each kind follow."""

    row: RunRow
    events: int
    mail: int
    tasks: int


class EventLine(msgspec.Struct, frozen=True, tag_field="line", tag="event"):
    seq: int
    event: AnyEvent


class MailLine(msgspec.Struct, frozen=True, tag_field="line", tag="mail"):
    mail: Mail


class TaskLine(msgspec.Struct, frozen=True, tag_field="line", tag="task"):
    task: OpenTaskRow


class EndLine(msgspec.Struct, frozen=True, tag_field="line", tag="end"):
    """Last; ``lines`` counts all of them."""

    lines: int


Line = Header | RunLine | EventLine | MailLine | TaskLine | EndLine
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Imported(msgspec.Struct, frozen=True):
    """What an import did: run ids that are new, and those that were here already, with the same journal."""

    new: list[str]
    known: list[str]


# --- out --------------------------------------------------------------------------------------------------------------


def export_run(engine: Engine, run_id: str) -> Iterator[bytes]:
    """See Engine.export."""
    row = engine.find(run_id)
    copies = engine.store.copies(row.run_id)
    return _chain(_lines(copies, engine.clock.now()))


def _lines(copies: list[RunCopy], now: int) -> Iterator[Line]:
    count = 2
    yield Header(copies[0].row.run_id, len(copies), now)
    for copy in copies:
        row = msgspec.structs.replace(copy.row, no=0, owner="")
        yield RunLine(row, len(copy.events), len(copy.mail), len(copy.tasks))
        yield from (EventLine(seq, event) for seq, event in enumerate(copy.events, 1))
        yield from map(MailLine, copy.mail)
        yield from map(TaskLine, copy.tasks)
        count += 1 + len(copy.events) + len(copy.mail) + len(copy.tasks)
    yield EndLine(count)


def _chain(lines: Iterable[Line]) -> Iterator[bytes]:
    chain = b""
    for line in lines:
        body = msgspec.json.encode(line)[:-1]
        chain = _link(chain, body)
        yield body + b',"chain":"' + chain + b'"}\n'


def _link(chain: bytes, body: bytes) -> bytes:
    return hashlib.sha256(chain + body).hexdigest().encode()


# --- in ---------------------------------------------------------------------------------------------------------------


async def import_runs(engine: Engine, lines: Iterable[bytes], where: str, *, take_over: bool = False) -> Imported:
    """See Engine.import_.

    A run that has not ended would go on here and where it came from, so it is taken only if ``take_over`` says that
    nobody goes on with it there. It then waits as it did; one that was running is ready.
    """
    store = engine.store
    new: list[RunCopy] = []
    known: list[str] = []
    for copy in read_archive(lines, where):
        (known.append(copy.row.run_id) if _is_known(store, copy) else new.append(copy))
    for copy in new:
        if not copy.row.ended and not take_over:
            raise ImportRefused(
                f"run {copy.row.run_id}",
                f"it had not ended when it was exported (it was {copy.row.shown_status}), "
                "and two stores must not both go on with it",
                "End it where it is, or make sure that nothing runs it there any more and say --take-over.",
            )
    if new:
        await perform(store, Import(tuple(map(_released, new))))
    return Imported([copy.row.run_id for copy in new], known)


def _is_known(store: Store, copy: RunCopy) -> bool:
    here = store.run(copy.row.run_id)
    if here is None or here.run_id != copy.row.run_id:
        return False
    if tuple(store.events(here.no)) != copy.events:
        raise taken(copy.row, here)
    return True


def _released(copy: RunCopy) -> RunCopy:
    """Nobody has it here: what was running is ready."""
    row = copy.row
    if row.status == "running":
        row = msgspec.structs.replace(row, status="ready")
    return msgspec.structs.replace(copy, row=row)


def read_archive(lines: Iterable[bytes], where: str) -> list[RunCopy]:
    """The runs of an export, checked in every respect. Raises ImportRefused, naming the line."""
    return _Reader(where).read(lines)


class _Reader:
    """Reads one file; ``_number`` is the line it is at."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._number = 0

    def read(self, lines: Iterable[bytes]) -> list[RunCopy]:
        checked = self._checked(lines)
        header = next(checked, None)
        if header is None:
            raise ImportRefused(self._where, "the file is empty", AGAIN)
        assert isinstance(header, Header), "the first line was looked at"
        copies: list[RunCopy] = []
        names: set[str] = set()
        for _ in range(header.runs):
            copy = self._run(checked)
            if not names.isdisjoint(own := {copy.row.run_id, copy.row.business_id} - {""}):
                raise self._refusal(f"run {copy.row.run_id} is there twice", AGAIN)
            names |= own
            copies.append(copy)
        end = self._next(checked, EndLine)
        if end.lines != self._number:
            raise self._refusal(f"it counts {end.lines} lines, and there are {self._number}", AGAIN)
        if next(checked, None) is not None:
            raise self._refusal("there is more after the last line of the export", AGAIN)
        return copies

    def _checked(self, lines: Iterable[bytes]) -> Iterator[Line]:
        """The lines, one by one, as far as each belongs to those before it."""
        chain = b""
        for number, raw in enumerate(lines, 1):
            self._number = number
            parts = CHAINED.match(raw)
            if number == 1:
                self._check_version(raw, parts is not None)
            if parts is None or (chain := _link(chain, parts[1])) != parts[2]:
                problem = "it was changed or damaged, or lines before it were added, moved or removed"
                raise self._refusal(problem, AGAIN)
            yield self._decoded(parts[1] + b"}")

    def _check_version(self, raw: bytes, is_chained: bool) -> None:
        try:
            first: Any = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            first = None
        if not isinstance(first, dict) or first.get("cadenza") != "export" or not is_chained:  # pyright: ignore[reportUnknownMemberType]
            raise self._refusal("it does not begin an export of Cadenza", "Such files are made by: cadenza export RUN")
        for name, known in (("format", FORMAT), ("schema", SCHEMA_VERSION)):
            found: Any = first.get(name)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if isinstance(found, int) and found > known:
                problem = f"written by a newer Cadenza ({name} {found}; this one knows {known})"
                raise self._refusal(problem, UPGRADE)

    def _decoded(self, body: bytes) -> Line:
        try:
            line = _decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._refusal(f"this version cannot read it ({error})", UPGRADE) from None
        if msgspec.json.encode(line) != body and not _holds(msgspec.to_builtins(line), msgspec.json.decode(body)):
            raise self._refusal("it says things that this version does not know", UPGRADE)
        return line

    def _run(self, lines: Iterator[Line]) -> RunCopy:
        head = self._next(lines, RunLine)
        at = self._number
        journal: list[AnyEvent] = []
        for seq in range(1, head.events + 1):
            line = self._next(lines, EventLine)
            if line.seq != seq:
                raise self._refusal(f"event {seq} is missing", AGAIN)
            journal.append(line.event)
        mail = tuple(self._next(lines, MailLine).mail for _ in range(head.mail))
        tasks = tuple(self._next(lines, TaskLine).task for _ in range(head.tasks))
        if problem := _contradiction(head.row, journal):
            self._number = at
            raise self._refusal(problem, AGAIN)
        return RunCopy(head.row, tuple(journal), mail, tasks)

    def _next(self, lines: Iterator[Line], kind: type[T]) -> T:
        line = next(lines, None)
        wanted = kind.__name__.removesuffix("Line").lower()
        if line is None:
            self._number += 1
            raise self._refusal(f"the file is cut off: a line of kind {wanted!r} should follow", AGAIN)
        if not isinstance(line, kind):
            raise self._refusal(f"a line of kind {wanted!r} should be here", AGAIN)
        return line

    def _refusal(self, problem: str, hint: str) -> ImportRefused:
        return ImportRefused(f"{self._where}, line {self._number}", problem, hint)


def _holds(whole: Any, part: Any) -> bool:
    """Whether all that ``part`` says is said in ``whole``."""
    if isinstance(whole, dict) and isinstance(part, dict):
        known: dict[str, Any] = whole  # pyright: ignore[reportUnknownVariableType]
        return all(name in known and _holds(known[name], value) for name, value in part.items())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(whole, list | tuple) and isinstance(part, list):
        pairs: list[tuple[Any, Any]] = list(zip(whole, part, strict=False))  # pyright: ignore[reportUnknownArgumentType]
        return len(whole) == len(part) and all(_holds(*pair) for pair in pairs)  # pyright: ignore[reportUnknownArgumentType]
    return whole == part


def _contradiction(row: RunRow, journal: list[AnyEvent]) -> str:
    """What the run and its journal say otherwise of each other; empty if nothing."""
    starts = {seq: event for seq, event in enumerate(journal, 1) if isinstance(event, RunStarted)}
    start = starts.get(row.first_seq)
    if 1 not in starts or start is None or start.run_id != row.run_id or start.workflow != row.workflow:
        return f"run {row.run_id} does not begin as its journal does"
    is_over = isinstance(journal[-1], TERMINALS) and not isinstance(journal[-1], RunContinued)
    if is_over != row.ended:
        return f"run {row.run_id} is {row.status}, and its journal {'has' if is_over else 'has not'} ended"
    return ""
