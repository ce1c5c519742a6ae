"""Agents that are written down: ``agents/*.yaml`` of a project, one agent a file.

    name: writer                                # the file's name by default
    description: Writes one paragraph.
    model: anthropic:claude-sonnet-4-5          # or a list: the next one is asked where one fails
    instructions: Write plainly.
    tools: [workflows:look_up]                  # module:function
    output: shapes:Paragraph                    # module:Type, or a JSON schema; text by default
    skills: [{id: write, tags: [text]}]
    policy: workflows:careful                   # module:name of a Policy

The other keys are those of ``AgentDefinition``. What is wrong is said with its file and line, all of it at once.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from cadenza.agents.card import Skill
from cadenza.agents.json_schema import type_of
from cadenza.agents.models import parse
from cadenza.durable.path import is_label
from cadenza.errors import AgentFileInvalid, DefinitionError, UsageError

if TYPE_CHECKING:
    from cadenza.agents.llm import Agent

SUFFIXES = (".yaml", ".yml")
REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
GIVEN_MAX = 60


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _skill(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


def _label(name: str) -> str:
    if not is_label(name):
        raise ValueError(f"{name!r} cannot be a name in the path of a step; use letters, digits, _, - and .")
    return name


def _model(name: str) -> str:
    try:
        if name != "test":
            parse(name)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return name


def _output(value: Any) -> Any:
    if value is None or isinstance(value, dict):
        return cast("Any", value)
    if isinstance(value, str) and re.fullmatch(REFERENCE, value):
        return value
    raise ValueError("write module:Type, or a JSON schema as a mapping")


class SkillDefinition(BaseModel):
    """A skill on the agent's card; its id alone may be written instead."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    description: str = ""
    tags: list[str] = []
    examples: list[str] = []


class AgentDefinition(BaseModel):
    """What an agent's file says. See the module's docstring; the fields of the card are those of ``Card``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, AfterValidator(_label)]
    description: str = ""
    version: str | None = None
    model: Annotated[list[Annotated[str, AfterValidator(_model)]], Field(min_length=1), BeforeValidator(_listed)]
    instructions: str = ""
    input: Annotated[str | None, Field(pattern=REFERENCE)] = None
    tools: list[Annotated[str, Field(pattern=REFERENCE)]] = []
    output: Annotated[Any, AfterValidator(_output)] = None
    settings: dict[str, Any] = {}
    stream: bool = False
    requests_max: Annotated[int, Field(ge=1)] = 50
    timeout_s: Annotated[float | None, Field(gt=0)] = None
    policy: Annotated[str | None, Field(pattern=REFERENCE)] = None
    skills: list[Annotated[SkillDefinition, BeforeValidator(_skill)]] = []
    price_usd: Annotated[float | None, Field(ge=0)] = None
    latency_s: Annotated[float | None, Field(ge=0)] = None
    placement: list[str] = []
    data_classes: list[str] = []
    concurrency: Annotated[int | None, Field(ge=1)] = None
    requests_per_minute: Annotated[int | None, Field(ge=1)] = None
    tokens_per_minute: Annotated[int | None, Field(ge=1)] = None
    owner: str = ""
    purpose: str = ""

    @property
    def sha256(self) -> str:
        """Hash of what is defined: comments and the order of keys do not count, nor do defaults that are written."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        plain = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()


class AgentFile:
    """A file that was read: its definition, and which line each part of it stands on."""

    def __init__(self, path: Path) -> None:
        """Read and validate. Raises AgentFileInvalid, with all that is wrong."""
        self.path = path
        self._root = _compose(path)
        value = _plain(self._root, path)
        value.setdefault("name", path.stem)
        try:
            self.definition = AgentDefinition.model_validate(value)
        except ValidationError as error:
            raise AgentFileInvalid(str(path), [self._problem(each) for each in error.errors()]) from None

    def line(self, *loc: str | int) -> int:
        """The line of a part, counted from 1; of the nearest part around it where it is not written."""
        node, line = self._root, 1
        for key in loc:
            found = _child(node, key)
            if found is None:
                break
            node, line = found
        return line

    def invalid(self, problem: str, *loc: str | int) -> AgentFileInvalid:
        """The error that says ``problem`` of a part."""
        return AgentFileInvalid(str(self.path), [(self.line(*loc), problem)])

    def _problem(self, error: ErrorDetails) -> tuple[int, str]:
        loc = error["loc"]
        where = ".".join(str(part) for part in loc)
        match error["type"]:
            case "extra_forbidden":
                known = SkillDefinition if "skills" in loc else AgentDefinition
                return self.line(*loc), _unknown_key(str(loc[-1]), list(known.model_fields))
            case "missing":
                return self.line(*loc), f"{where} is missing"
            case "value_error":
                return self.line(*loc), f"{where}: {error['msg'].removeprefix('Value error, ')}"
            case "string_pattern_mismatch" if "tools" in loc:
                return self.line(*loc), f"{where}: {error['input']!r} names no function; write module:function"
            case _:
                given = repr(error["input"])
                shown = given if len(given) <= GIVEN_MAX else f"{given[:GIVEN_MAX]}…"
                return self.line(*loc), f"{where}: {error['msg'].replace('Input should', 'should')}, not {shown}"


def load_agents(folder: str | Path) -> list[Agent[Any]]:
    """Register the agents that the files of a folder define, so that ``ctx.call`` finds them by their names.

    What they refer to is imported; its folder must be on ``sys.path``. A folder that is not there has no agents.

    Raises:
        AgentFileInvalid: with the file and the line.
    """
    return [build(AgentFile(path)) for path in agent_files(Path(folder))]


def build(file: AgentFile) -> Agent[Any]:
    """Make and register the agent of a file. Raises AgentFileInvalid."""
    from cadenza.agents.llm import Agent

    said = file.definition
    tools = [refer(file, each, "tools", number) for number, each in enumerate(said.tools)]
    try:
        return Agent(
            said.name,
            model=said.model,
            instructions=said.instructions,
            tools=tools,
            output=_output_type(file),
            input=refer(file, said.input, "input") if said.input else str,
            settings=said.settings,
            stream=said.stream,
            requests_max=said.requests_max,
            timeout_s=said.timeout_s,
            policy=refer(file, said.policy, "policy") if said.policy else None,
            defined_in=str(file.path.resolve()),
            description=said.description,
            version=said.version or said.sha256[:12],
            skills=[Skill(each.id, each.description, tuple(each.tags), tuple(each.examples)) for each in said.skills],
            price_usd=said.price_usd,
            latency_s=said.latency_s,
            placement=tuple(said.placement),
            data_classes=tuple(said.data_classes),
            concurrency=said.concurrency,
            requests_per_minute=said.requests_per_minute,
            tokens_per_minute=said.tokens_per_minute,
            owner=said.owner,
            purpose=said.purpose,
        )
    except DefinitionError as error:
        where = next((each for each in ("tool", "policy") if each in str(error)), "name")
        raise file.invalid(str(error), "tools" if where == "tool" else where) from None


def _output_type(file: AgentFile) -> Any:
    output = file.definition.output
    if output is None:
        return str
    if isinstance(output, str):
        return refer(file, output, "output")
    schema = cast("dict[str, Any]", output)
    if "$ref" in json.dumps(schema, default=str):
        raise file.invalid("output: references are not read here; write the type in Python, as module:Type", "output")
    try:
        return type_of(schema, "output")
    except DefinitionError as error:
        raise file.invalid(str(error), "output") from None


def agent_files(folder: Path) -> list[Path]:
    """The agents' files in a folder, by name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.suffix in SUFFIXES and each.is_file())


def refer(file: AgentFile, reference: str, *loc: str | int) -> Any:
    """What ``module:name`` stands for. Raises AgentFileInvalid: no such module, or nothing of that name in it."""
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise file.invalid(f"{reference}: importing {module} fails: {error}", *loc) from error
        problem = f"{reference}: there is no module {module}; a module beside agents/ is named without .py"
        raise file.invalid(problem, *loc) from None
    except Exception as error:
        raise file.invalid(f"{reference}: importing {module} fails: {type(error).__name__}: {error}", *loc) from error
    names = [each for each in dir(found) if not each.startswith("_")]
    for part in name.split("."):
        if not hasattr(found, part):
            raise file.invalid(f"{reference}: {module} has no {part!r}.{_meant(part, names)}", *loc)
        found = getattr(found, part)
    return found


# --- YAML with lines --------------------------------------------------------------------------------------------------


def _compose(path: Path) -> yaml.Node:
    try:
        text = path.read_text(encoding="utf-8")
        node = cast("Any", yaml).compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise AgentFileInvalid(str(path), [(0, f"cannot be read: {error}")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise AgentFileInvalid(str(path), [(mark.line + 1 if mark else 0, f"is not YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        raise AgentFileInvalid(str(path), [(0, f"is not YAML: {error}")]) from None
    if not isinstance(node, yaml.MappingNode):
        raise AgentFileInvalid(str(path), [(1, "an agent's file is a mapping; begin with:  model: provider:name")])
    return node


def _plain(root: yaml.Node, path: Path) -> dict[str, Any]:
    """The value of a file's node. Raises AgentFileInvalid for a key that is given twice."""
    twice = [(line, f"the key {key!r} is given twice") for line, key in _repeated(root, ())]
    if twice:
        raise AgentFileInvalid(str(path), twice)
    try:
        loader: Any = yaml.SafeLoader("")
        value: dict[Any, Any] = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise AgentFileInvalid(str(path), [(mark.line + 1 if mark else 0, f"is not YAML: {error.problem}")]) from None
    return {str(key): each for key, each in value.items()}


def _repeated(node: yaml.Node, within: Sequence[yaml.Node]) -> Iterator[tuple[int, str]]:
    if any(node is each for each in within):  # an alias to what holds it
        return
    inside = [*within, node]
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in _pairs(node):
            if key.value in seen:
                yield _line_of(key), str(key.value)
            seen.add(str(key.value))
            yield from _repeated(value, inside)
    elif isinstance(node, yaml.SequenceNode):
        for each in cast("list[yaml.Node]", node.value):
            yield from _repeated(each, inside)


def _child(node: yaml.Node, key: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for each, value in _pairs(node):
            if each.value == str(key):
                return value, _line_of(each)
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        items = cast("list[yaml.Node]", node.value)
        if key < len(items):
            return items[key], _line_of(items[key])
    return None


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    return cast("list[tuple[yaml.Node, yaml.Node]]", node.value)


def _line_of(node: yaml.Node) -> int:
    return cast("int", node.start_mark.line) + 1


def _unknown_key(key: str, known: list[str]) -> str:
    others = f" Known: {', '.join(known)}."
    return f"unknown key {key!r}.{_meant(key, known) or others}"


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
