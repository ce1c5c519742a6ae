"""Operations read from OpenAPI documents, 3.0 and later: where to ask, what goes where, and the schemas of both ways.

Source: OpenAPI Specification 3.0.4 and 3.1.1.
"""

from __future__ import annotations

import functools
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from cadenza.agents.credential import Basic, Bearer
from cadenza.agents.json_schema import Schema
from cadenza.agents.openapi_schema import Dialect, pointed
from cadenza.agents.operation import FORM, TEXT, Operation, Parameter, placeholders
from cadenza.errors import DefinitionError, UnknownName

Source = str | Path | Mapping[str, Any]
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
DOCUMENT_BYTES_MAX = 20_000_000
FETCH_TIMEOUT_S = 20.0
NOT_PARAMETERS = ("accept", "content-type", "authorization")
"""Headers that the specification gives another place."""
STYLES = {
    "path": ("simple",),
    "header": ("simple",),
    "cookie": ("form",),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
}


def read_operation(source: Source, operation: str, server: str = "") -> Operation:
    """The operation of this ``operationId``, or of ``"METHOD /path"``.

    Args:
        source: a path, a URL, or the document itself.
        server: instead of the document's own.

    Raises:
        DefinitionError: the document cannot be read, or says what cannot be done.
        UnknownName: it has no such operation.
    """
    where = "the OpenAPI document" if isinstance(source, Mapping) else str(source)
    document = dict(source) if isinstance(source, Mapping) else read_document(where)
    return Reader(document, where).operation(operation, server)


def read_document(where: str) -> dict[str, Any]:
    """A document from a file or a URL, JSON or YAML. Raises DefinitionError."""
    try:
        if not _is_url(where):
            found = Path(where).stat()
            return _of_file(where, (found.st_mtime_ns, found.st_size))
        raw = _fetched(where)
    except OSError as error:
        raise DefinitionError(f"{where}: the OpenAPI document cannot be read: {error}") from error
    return _parsed(raw, where)


@functools.lru_cache(maxsize=8)
def _of_file(where: str, _: tuple[int, int]) -> dict[str, Any]:
    """One file often describes many agents."""
    return _parsed(Path(where).read_bytes(), where)


def _parsed(raw: bytes, where: str) -> dict[str, Any]:
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise DefinitionError(f"{where}: the OpenAPI document is over {DOCUMENT_BYTES_MAX:,} bytes")
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's few scalars: no dates, and only true and false are booleans."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, found) for tag, found in each if tag != "tag:yaml.org,2002:timestamp" and _is_plain(tag, first)]
        for first, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        document: Any = json.loads(raw) if raw.lstrip().startswith(b"{") else yaml.load(raw, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DefinitionError(f"{where}: neither JSON nor YAML: {error}") from error
    if not isinstance(document, dict):
        raise DefinitionError(f"{where}: no OpenAPI document, but {type(document).__name__}")
    return cast("dict[str, Any]", document)


class Reader:
    """Reads one document."""

    def __init__(self, document: dict[str, Any], where: str) -> None:
        self._document, self._where = document, where
        version = str(document.get("openapi", ""))
        if not version.startswith("3."):
            found = f"Swagger {document['swagger']}" if "swagger" in document else f"openapi: {version or '(nothing)'}"
            raise DefinitionError(f"{where}: OpenAPI 3.0 or later is needed, this is {found}. Convert it first")
        self._is_30 = version.startswith("3.0")

    def operation(self, wanted: str, server: str) -> Operation:
        """See ``read_operation``."""
        known: list[str] = []
        for path, item, method in self._operations():
            found = cast("dict[str, Any]", item[method])
            title = f"{method.upper()} {path}"
            if wanted in (found.get("operationId"), title):
                try:
                    return self._made(path, item, method, server)
                except (KeyError, TypeError, AttributeError, ValueError) as error:
                    problem = f"{type(error).__name__}: {error}"
                    raise DefinitionError(f"{self._where}: {title} is not as OpenAPI wants it: {problem}") from error
            known.append(str(found.get("operationId") or title))
        raise UnknownName("operation", wanted, known, f"It was looked for in {self._where}.")

    def _operations(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        for path, item in cast("dict[str, Any]", self._document.get("paths") or {}).items():
            item = self._at(item)
            yield from ((path, item, method) for method in METHODS if method in item)

    def _made(self, path: str, item: dict[str, Any], method: str, server: str) -> Operation:
        found = cast("dict[str, Any]", item[method])
        declared = self._parameters([*item.get("parameters", []), *found.get("parameters", [])])
        media, body, body_required = self._body(found)
        url = (server or self._server(found, item)).rstrip("/") + path
        in_path = [each["name"] for each in declared if each["in"] == "path"]
        if missing := [name for name in placeholders(url) if name not in in_path]:
            raise DefinitionError(f"{self._where}: {{{missing[0]}}} is in {url}, and no parameter has this name")
        return Operation(
            method=method.upper(),
            url=url,
            parameters=tuple(self._parameter(each) for each in declared),
            media=media,
            body_field="body" if declared and media else "",
            input_schema=self._input(declared, body if media else None, body_required),
            output_schema=self._output(found, method),
            credential=self._credential(found),
            description=str(found.get("summary") or found.get("description") or "").strip().partition("\n")[0],
        )

    def _at(self, part: Any) -> dict[str, Any]:
        """A part of the document, or the one that it refers to."""
        for _ in range(20):
            if "$ref" not in part:
                return cast("dict[str, Any]", part)
            part = pointed(self._document, part["$ref"], self._where)
        raise DefinitionError(f"{self._where}: a reference leads in a circle: {part['$ref']}")

    # --- where ------------------------------------------------------------------------------------------------------

    def _server(self, found: dict[str, Any], item: dict[str, Any]) -> str:
        servers = found.get("servers") or item.get("servers") or self._document.get("servers") or [{"url": "/"}]
        server = cast("dict[str, Any]", servers[0])
        url = str(server["url"])
        for name, variable in cast("dict[str, Any]", server.get("variables", {})).items():
            url = url.replace(f"{{{name}}}", str(variable["default"]))
        if _is_url(self._where):
            url = urllib.parse.urljoin(self._where, url)
        if not _is_url(url):
            raise DefinitionError(f"{self._where}: its server is {url!r}, which is not a whole URL. Give url=…")
        return url

    def _credential(self, found: dict[str, Any]) -> Any:
        """How to authenticate: the first way of the document that is known here."""
        known = self._document.get("components", {}).get("securitySchemes", {})
        for way in found.get("security", self._document.get("security", [])):
            for name in way:
                match self._at(known.get(name, {})):
                    case {"type": "http", "scheme": scheme} if str(scheme).lower() == "basic":
                        return Basic
                    case {"type": "http" | "oauth2" | "openIdConnect"}:
                        return Bearer
                    case {"type": "apiKey", "in": "header" | "query" as place, "name": key}:
                        return str(key), place
                    case _:
                        continue
        return None

    # --- what goes in -----------------------------------------------------------------------------------------------

    def _parameters(self, declared: list[Any]) -> list[dict[str, Any]]:
        """Those of the operation go before those of the path."""
        found = {(each["name"], each["in"]): each for each in map(self._at, declared)}
        kept = [
            each for (name, place), each in found.items() if place != "header" or name.lower() not in NOT_PARAMETERS
        ]
        names = [each["name"] for each in kept]
        if twice := [name for name in names if names.count(name) > 1 or name == "body"]:
            raise DefinitionError(
                f"{self._where}: the parameter {twice[0]!r} has the name of another part of the input"
            )
        return kept

    def _parameter(self, declared: dict[str, Any]) -> Parameter:
        name, place = declared["name"], declared["in"]
        if "content" in declared:
            return Parameter(name, place, "json")
        style = declared.get("style", STYLES[place][0])
        if style not in STYLES[place]:
            raise DefinitionError(
                f"{self._where}: the parameter {name!r} has the style {style!r}, which is not supported"
            )
        return Parameter(name, place, style, declared.get("explode", style == "form"))

    def _body(self, found: dict[str, Any]) -> tuple[str, Any, bool]:
        """Content type, schema, and whether there must be one."""
        if "requestBody" not in found:
            return "", None, False
        body = self._at(found["requestBody"])
        kinds = cast("dict[str, Any]", body["content"])
        plain = {kind.partition(";")[0].strip().lower(): kind for kind in kinds}
        for kind in [*(each for each in plain if _is_json(each)), FORM, TEXT]:
            if kind in plain:
                return kind, kinds[plain[kind]].get("schema", True), bool(body.get("required"))
        raise DefinitionError(f"{self._where}: the body is {', '.join(kinds)}; JSON, form fields and text can be sent")

    def _input(self, declared: list[dict[str, Any]], body: Any, body_required: bool) -> Schema:
        dialect = Dialect(self._document, self._where, "in", self._is_30)
        if not declared and body is not None:
            plain = dialect.schema(body)
            return dialect.complete(plain if body_required else {"anyOf": [plain, {"type": "null"}]})
        properties: dict[str, Any] = {}
        for each in declared:
            schema = each["schema"] if "schema" in each else next(iter(each["content"].values())).get("schema", True)
            plain = dialect.schema(schema)
            if isinstance(plain, dict) and "description" in each and "$ref" not in plain:
                plain = {"description": each["description"], **plain}
            properties[each["name"]] = plain
        required = [each["name"] for each in declared if each.get("required") or each["in"] == "path"]
        if body is not None:
            properties["body"] = dialect.schema(body)
            required += ["body"] if body_required else []
        kind: Any = "object" if required else ["object", "null"]
        made: Schema = {"type": kind, "properties": properties, "required": required, "additionalProperties": False}
        return dialect.complete(made)

    # --- what comes out ---------------------------------------------------------------------------------------------

    def _output(self, found: dict[str, Any], method: str) -> Schema | None:
        """Any of the good answers; None if the document says nothing of them."""
        if method == "head":
            return {"type": "null"}
        responses = {
            str(code).upper(): each for code, each in cast("dict[Any, Any]", found.get("responses", {})).items()
        }
        good = [each for code, each in responses.items() if code.startswith("2")] or [
            each for code, each in responses.items() if code == "DEFAULT"
        ]
        dialect = Dialect(self._document, self._where, "out", self._is_30)
        schemas: list[Any] = []
        for response in map(self._at, good):
            kinds = cast("dict[str, Any]", response.get("content", {}))
            if not kinds:
                schemas.append({"type": "null"})
            for kind, content in kinds.items():
                name = kind.partition(";")[0].strip().lower()
                if _is_json(name):
                    schemas.append(dialect.schema(content.get("schema", True)))
                elif name.startswith("text/"):
                    schemas.append({"type": "string"})
        schemas = [each for number, each in enumerate(schemas) if each not in schemas[:number]]
        if not schemas or True in schemas or {} in schemas:
            return None
        return dialect.complete(schemas[0] if len(schemas) == 1 else {"anyOf": schemas})


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _is_plain(tag: str, first: str) -> bool:
    return tag != "tag:yaml.org,2002:bool" or first in "tTfF"


def _fetched(url: str) -> bytes:
    """Raises OSError."""
    import httpx2

    try:
        with httpx2.stream("GET", url, timeout=FETCH_TIMEOUT_S, follow_redirects=True) as response:
            response.raise_for_status()
            raw = b""
            for piece in response.iter_bytes():
                raw += piece
                if len(raw) > DOCUMENT_BYTES_MAX:
                    break
            return raw
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise OSError(str(error) or type(error).__name__) from error
