"""Values to bytes and back, by their type annotations; and the canonical hash of a call's input.

Values are JSON (through pydantic), never pickle. The live path encodes and decodes as replay does, so that workflow
code sees the same value either way: a tuple returned by an unannotated step is a list for both. pydantic is imported
at first use, and not at all for plain types, to keep starts fast.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from cadenza.errors import DefinitionError, InputInvalid, NotSerialisable, PayloadTooLarge

PAYLOAD_BYTES_MAX = 8_000_000
GIVEN_MAX = 60

_codecs: dict[Any, Codec] = {}
_PLAIN = frozenset({str, int, float, bool, type(None)})
_CORE: dict[Any, Any] = {
    str: {"type": "str"},
    int: {"type": "int"},
    float: {"type": "float"},
    bool: {"type": "bool"},
    type(None): {"type": "none"},
    Any: {"type": "any"},
}
"""Types of which pydantic's core schema is known without pydantic, whose import takes longer than a start else does."""
_CONFIG: Any = {"ser_json_inf_nan": "constants", "ser_json_bytes": "base64", "val_json_bytes": "base64"}


class Codec:
    """Writes and reads the values of one type; pydantic's compiled functions are looked up once.

    Raises:
        DefinitionError: pydantic does not know what to do with the type.
    """

    def __init__(self, annotation: Any) -> None:
        from pydantic_core import (  # lazy, as pydantic itself
            PydanticSerializationError,
            SchemaSerializer,
            SchemaValidator,
            ValidationError,
            from_json,
            to_json,
        )

        self.annotation = annotation
        self._unwritable = (PydanticSerializationError, ValueError, TypeError, RecursionError)
        self._invalid = ValidationError
        self._is_any = annotation is Any
        core = _CORE.get(annotation) if isinstance(annotation, type) or self._is_any else None
        if core is not None:
            serializer: Any = SchemaSerializer(core, _CONFIG)
            self._validator: Any = SchemaValidator(core, _CONFIG)
        else:
            serializer, self._validator = self.adapter.serializer, self.adapter.validator
        self._to_json: Any = serializer.to_json
        self._read: Any = from_json if self._is_any else self._validator.validate_json
        self._any_to_json: Any = to_json

    @functools.cached_property
    def adapter(self) -> Any:
        """The pydantic ``TypeAdapter``."""
        from pydantic import ConfigDict, PydanticUserError, TypeAdapter

        try:
            try:
                return TypeAdapter(self.annotation, config=ConfigDict(**_CONFIG))
            except PydanticUserError:  # the type brings its own configuration
                return TypeAdapter(self.annotation)
        except PydanticUserError as error:
            problem = str(error).partition("\n")[0]
            raise DefinitionError(f"values of the type {self.annotation!r} cannot be journaled: {problem}") from error

    def encode(self, value: Any, what: str, bytes_max: int = PAYLOAD_BYTES_MAX) -> bytes:
        """``value`` as JSON bytes. Raises NotSerialisable with the path to what cannot be written, PayloadTooLarge."""
        try:
            if self._is_any:
                raw: bytes = self._any_to_json(value, inf_nan_mode="constants", bytes_mode="base64")
            else:
                raw = self._to_json(value, warnings=False)
        except self._unwritable as error:
            path, kind = _unserialisable(value)
            raise NotSerialisable(what, path, kind) from error
        if len(raw) > bytes_max:
            raise PayloadTooLarge(what, len(raw), bytes_max)
        return raw

    def decode(self, raw: bytes, what: str) -> Any:
        """The value that ``raw`` holds. Raises InputInvalid with a table of problems."""
        try:
            return self._read(raw)
        except self._invalid as error:
            raise InputInvalid(what, _problems(error)) from error
        except ValueError as error:
            raise InputInvalid(what, [("(all)", f"not JSON: {error}", _clip(raw))]) from error

    def coerce(self, value: Any, what: str) -> Any:
        """A fresh, validated copy of ``value``. Raises InputInvalid, NotSerialisable."""
        if type(value) in _PLAIN and (self._is_any or type(value) is self.annotation):
            return value
        if not self._is_any:
            try:  # what does not fit is refused by its own type, before JSON could make it fit
                value = self._validator.validate_python(value)
            except self._invalid as error:
                raise InputInvalid(what, _problems(error)) from error
        return self.decode(self.encode(value, what), what)


def codec_of(annotation: Any) -> Codec:
    """The codec of a type, built once."""
    try:
        found = _codecs.get(annotation)
    except TypeError:  # an unhashable annotation
        return Codec(annotation)
    if found is None:
        found = _codecs[annotation] = Codec(annotation)
    return found


def adapter(annotation: Any) -> Any:
    """The pydantic ``TypeAdapter`` of a type."""
    return codec_of(annotation).adapter


def encode(value: Any, annotation: Any, what: str, bytes_max: int = PAYLOAD_BYTES_MAX) -> bytes:
    """``value`` as JSON bytes; a set that is declared as nothing else becomes a sorted list.

    Args:
        annotation: the type it is declared as; ``Any`` for plain JSON.
        what: names the value in an error ("the result of charge").
        bytes_max: bound on the size in bytes.

    Raises:
        NotSerialisable: names the path to the part that cannot be written.
        PayloadTooLarge: over ``bytes_max``.
    """
    if annotation is Any and _holds_set(value):
        value = _sets_sorted(value)
    return codec_of(annotation).encode(value, what, bytes_max)


def decode(raw: bytes, annotation: Any, what: str) -> Any:
    """The value that ``raw`` holds, as its type. Raises InputInvalid with a table of problems."""
    return codec_of(annotation).decode(raw, what)


def coerce(value: Any, annotation: Any, what: str) -> Any:
    """``value`` as a fresh, validated value of its type, as a step receives it. Raises InputInvalid,
    NotSerialisable."""
    return codec_of(annotation).coerce(value, what)


def fingerprint(value: Any, what: str) -> str:
    """Canonical hash of a value: sorted keys and sets, no dependence on hash seeds or addresses; 16 hex digits."""
    try:
        raw = _canonical(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        try:
            raw = _canonical(_ordered(value))
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            path, kind = _unserialisable(value)
            raise NotSerialisable(what, path, kind) from error
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump()
    if isinstance(value, deque):
        return list(cast("deque[Any]", value))  # what it holds may have to be put in order
    if isinstance(value, Iterator):
        raise TypeError("an iterator is used up by reading it")
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def _ordered(value: Any) -> Any:
    """The same with dicts whose keys are not text, and sets of mixed types, in an order of their own."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        return {_canonical(_ordered(key)).decode(): _ordered(each) for key, each in mapping.items()}
    if isinstance(value, set | frozenset):
        members = cast("set[Any]", value)
        return [msgspec.Raw(raw) for raw in sorted(_canonical(_ordered(each)) for each in members)]
    if isinstance(value, list | tuple | deque):
        return [_ordered(each) for each in cast("list[Any]", value)]
    if hasattr(value, "model_dump"):
        return _ordered(value.model_dump())
    if dataclasses.is_dataclass(value):
        return {each.name: _ordered(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


def _holds_set(value: Any, depth: int = 0) -> bool:
    kind = cast("type[Any]", type(value))
    if kind in _PLAIN or depth > 20:
        return False
    if kind is dict:
        return any(_holds_set(each, depth + 1) for each in value.values())
    if kind is list or kind is tuple:
        return any(_holds_set(each, depth + 1) for each in value)
    return isinstance(value, set | frozenset) or _holds_set(getattr(value, "__dict__", None), depth + 1)


def _sets_sorted(value: Any) -> Any:
    """Plain data in which no order is left to the hash seed."""
    if isinstance(value, set | frozenset):
        members = [_sets_sorted(each) for each in cast("set[Any]", value)]
        return sorted(members, key=lambda each: _canonical(_ordered(each)))
    if isinstance(value, dict):
        return {key: _sets_sorted(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_sets_sorted(each) for each in cast("list[Any]", value)]
    if hasattr(value, "model_dump"):
        return _sets_sorted(value.model_dump())
    if dataclasses.is_dataclass(value):
        return {each.name: _sets_sorted(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


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

    kind = _kind(value)
    if depth >= 40:
        return path, f"{kind} nested without end"
    children: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        children = [(f"{path}[{key!r}]", item) for key, item in mapping.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        items: list[Any] = list(cast("Any", value))
        children = [(f"{path}[{index}]", item) for index, item in enumerate(items)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        children = [(f"{path}.{name}", getattr(value, name, None)) for name in names]
    elif hasattr(value, "__dict__"):
        fields = cast("dict[str, Any]", vars(value))  # pyright: ignore[reportUnknownArgumentType] - any object
        children = [(f"{path}.{name}", item) for name, item in fields.items()]
    for child_path, child in children:
        try:
            to_json(child)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            return _unserialisable(child, child_path, depth + 1)
    return path, kind


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


_canonical = msgspec.json.Encoder(enc_hook=_plain, order="deterministic").encode
