"""Values to bytes and back, by their type annotations; and the canonical hash of a call's input.

Values are JSON (through pydantic), never pickle. The live path encodes and decodes as replay does, so that workflow
code sees the same value either way: a tuple returned by an unannotated step is a list for both. pydantic is imported
at first use, to keep ``import cadenza`` fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from cadenza.errors import InputInvalid, NotSerialisable, PayloadTooLarge

PAYLOAD_BYTES_MAX = 8_000_000
GIVEN_MAX = 60

_adapters: dict[Any, Any] = {}
_PLAIN = (str, int, float, bool, type(None))


def adapter(annotation: Any) -> Any:
    """The pydantic ``TypeAdapter`` of a type, built once."""
    try:
        found = _adapters.get(annotation)
    except TypeError:  # an unhashable annotation
        return _build(annotation)
    if found is None:
        found = _adapters[annotation] = _build(annotation)
    return found


def _build(annotation: Any) -> Any:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter  # lazy: 0.15 s of import time

    config = ConfigDict(ser_json_inf_nan="constants", ser_json_bytes="base64", val_json_bytes="base64")
    try:
        return TypeAdapter(annotation, config=config)
    except PydanticUserError:  # the type brings its own configuration
        return TypeAdapter(annotation)


def encode(value: Any, annotation: Any, what: str, bytes_max: int = PAYLOAD_BYTES_MAX) -> bytes:
    """``value`` as JSON bytes.

    Args:
        annotation: the type it is declared as; ``Any`` for plain JSON.
        what: names the value in an error ("the result of charge").
        bytes_max: bound on the size in bytes.

    Raises:
        NotSerialisable: names the path to the part that cannot be written.
        PayloadTooLarge: over ``bytes_max``.
    """
    from pydantic_core import PydanticSerializationError, to_json

    try:
        if annotation is Any:
            raw = to_json(value, inf_nan_mode="constants", bytes_mode="base64")
        else:
            raw = cast("bytes", adapter(annotation).dump_json(value, warnings=False))
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        path, kind = _unserialisable(value)
        raise NotSerialisable(what, path, kind) from error
    if len(raw) > bytes_max:
        raise PayloadTooLarge(what, len(raw), bytes_max)
    return raw


def decode(raw: bytes, annotation: Any, what: str) -> Any:
    """The value that ``raw`` holds, as its type. Raises InputInvalid with a table of problems."""
    from pydantic import ValidationError
    from pydantic_core import from_json

    try:
        return from_json(raw) if annotation is Any else adapter(annotation).validate_json(raw)
    except ValidationError as error:
        raise InputInvalid(what, _problems(error)) from error
    except ValueError as error:
        raise InputInvalid(what, [("(all)", f"not JSON: {error}", _clip(raw))]) from error


def coerce(value: Any, annotation: Any, what: str) -> Any:
    """``value`` as a fresh, validated value of its type, as a step receives it. Raises InputInvalid, NotSerialisable."""
    if isinstance(value, _PLAIN) and (annotation is Any or type(value) is annotation):
        return value
    if annotation is Any:
        return decode(encode(value, Any, what), Any, what)
    from pydantic import ValidationError

    try:  # what does not fit is refused by its own type, before JSON could make it fit
        checked = adapter(annotation).validate_python(value)
    except ValidationError as error:
        raise InputInvalid(what, _problems(error)) from error
    return decode(encode(checked, annotation, what), annotation, what)


def fingerprint(value: Any, what: str) -> str:
    """Canonical hash of a value: sorted keys and sets, no dependence on hash seeds or addresses; 16 hex digits."""
    try:
        raw = msgspec.json.encode(value, enc_hook=_plain, order="deterministic")
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        path, kind = _unserialisable(value)
        raise NotSerialisable(what, path, kind) from error
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump()
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def _problems(error: Any) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for problem in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"]) or "(all)"
        given = problem["input"] if problem["type"] != "missing" else "(nothing)"
        rows.append((field, str(problem["msg"]), _clip(given)))
    return rows


def _clip(value: Any) -> str:
    text = value if value == "(nothing)" else repr(value)
    return text if len(text) <= GIVEN_MAX else text[: GIVEN_MAX - 1] + "…"


def _unserialisable(value: Any, path: str = "value", depth: int = 0) -> tuple[str, str]:
    """The path to the first part that is not JSON, and its type's name."""
    from pydantic_core import PydanticSerializationError, to_json

    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if depth >= 40:
        return path, f"{kind} nested without end"
    children: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        children = [(f"{path}[{key!r}]", item) for key, item in mapping.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        items = cast("list[Any]", list(cast("Any", value)))
        children = [(f"{path}[{index}]", item) for index, item in enumerate(items)]
    elif hasattr(value, "__dict__"):
        children = [(f"{path}.{name}", item) for name, item in vars(value).items()]
    for child_path, child in children:
        try:
            to_json(child)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            return _unserialisable(child, child_path, depth + 1)
    return path, kind
