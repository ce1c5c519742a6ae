"""What events, letters, questions and details look like in the file: as they are, or sealed with a key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cadenza.durable.events import PAYLOAD_FIELDS, AnyEvent, decode_event, encode_event
from cadenza.engine.sqlite.sealing import MARK, KeyRing, unsealed
from cadenza.engine.store import SEQ_BITS, SEQ_MASK, RunRow
from cadenza.errors import StoreCorrupt


class Payloads:
    """Writes and reads them. A sealed value opens in its own place only; ``keys`` None leaves values as they are."""

    def __init__(self, location: str, keys: KeyRing | None) -> None:
        self._location = location
        self.keys = keys

    # --- to the file ----------------------------------------------------------------------------------------------

    def event(self, id: int, event: AnyEvent) -> bytes:
        """An event as the journal keeps it under ``id``."""
        raw = encode_event(event)
        return raw if self.keys is None else self.keys.seal(raw, event_at(id))

    def blob(self, payload: bytes) -> tuple[bytes, bytes]:
        """A large payload: (content hash, body)."""
        keys = self.keys
        if keys is None:
            return hashlib.sha256(payload).digest(), payload
        digest = keys.first.digest(payload)
        return digest, keys.seal(payload, blob_at(digest))

    def letter(self, no: int, event: AnyEvent) -> bytes:
        raw = encode_event(event)
        return raw if self.keys is None else self.keys.seal(raw, letter_at(no))

    def task(self, no: int, path: str, task: bytes) -> bytes:
        return task if self.keys is None else self.keys.seal(task, task_at(no, path))

    def detail(self, run_id: str, text: str) -> str | bytes:
        """Why a run is as it is; it may quote a failure."""
        return text if self.keys is None or not text else self.keys.seal(text.encode(), detail_at(run_id))

    # --- from the file --------------------------------------------------------------------------------------------

    def read_event(self, id: int, raw: bytes, digest: bytes | None, body: bytes | None) -> AnyEvent:
        """Raises KeyMissing, StoreCorrupt."""
        event = self._decoded(self._open(raw, event_at, id), event_at, id)
        if digest is None:
            return event
        if body is not None and body.startswith(MARK):
            body = self._open(body, blob_at, digest)
        elif body is None or hashlib.sha256(body).digest() != digest:
            problem = f"the payload of {event_at(id).decode()} is not what was written"
            raise StoreCorrupt(self._location, problem)
        return msgspec.structs.replace(event, **{PAYLOAD_FIELDS[type(event)]: body})

    def read_letter(self, no: int, raw: bytes) -> Any:
        return self._decoded(self._open(raw, letter_at, no), letter_at, no)

    def read_task(self, no: int, path: str, raw: bytes) -> bytes:
        return self._open(raw, task_at, no, path)

    def read_run(self, values: Sequence[Any]) -> RunRow:
        row = RunRow(*values)
        text = self.read_detail(row.run_id, row.detail)
        return row if text is row.detail else msgspec.structs.replace(row, detail=text)

    def read_detail(self, run_id: str, detail: str | bytes) -> str:
        return detail if isinstance(detail, str) else self._open(detail, detail_at, run_id).decode(errors="replace")

    def _open(self, raw: bytes, place: Callable[..., bytes], *about: Any) -> bytes:
        return unsealed(raw, place(*about), self.keys, self._location) if raw.startswith(MARK) else raw

    def _decoded(self, raw: bytes, place: Callable[..., bytes], about: int) -> AnyEvent:
        try:
            return decode_event(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            raise StoreCorrupt(self._location, f"{place(about).decode()} cannot be read ({error})") from error


# --- places -----------------------------------------------------------------------------------------------------------


def event_at(id: int) -> bytes:
    return b"event %d of run number %d" % (id & SEQ_MASK, id >> SEQ_BITS)


def blob_at(digest: bytes) -> bytes:
    return b"payload " + digest.hex().encode()


def letter_at(no: int) -> bytes:
    return b"letter to run number %d" % no


def task_at(no: int, path: str) -> bytes:
    return b"question of run number %d at %s" % (no, path.encode())


def detail_at(run_id: str) -> bytes:
    return b"detail of " + run_id.encode()
