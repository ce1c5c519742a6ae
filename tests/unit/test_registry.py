"""The registry in one process: several instances and versions, and discovery."""

from dataclasses import dataclass
from typing import Any

import pytest

from cadenza import Agent, Context, HttpAgent, HumanAgent, ProcessAgent, as_agent, workflow
from cadenza.agents.agent import AnyAgent
from cadenza.agents.card import Card, Skill
from cadenza.agents.function import FunctionAgent, agent
from cadenza.errors import DefinitionError, UnknownName
from cadenza.routing.registry import Registry


@dataclass
class Company:
    name: str
    employees: int = 0


@dataclass
class Report:
    text: str
    sources: list[str]


@agent(
    name="registry_reporter",
    skills=[Skill("research", "Finds facts about companies.", ("web", "finance"), ("Who owns ACME?",))],
    placement=("eu", "cloud"),
    data_classes=("restricted",),
    concurrency=4,
    requests_per_minute=60,
    tokens_per_minute=10_000,
    owner="research team",
    purpose="Due diligence",
)
def registry_reporter(company: Company) -> Report:
    """Writes a report."""
    return Report(company.name, [])


@agent(
    name="registry_summariser", skills=[Skill("summarise", tags=("text",)), Skill("translate", tags=("text", "web"))]
)
def registry_summariser(text: str) -> str:
    """Makes long texts short."""
    return text[:10]


@pytest.fixture
def registry() -> Registry:
    known: list[FunctionAgent[..., Any]] = [registry_reporter, registry_summariser]
    return Registry({each.name: each for each in known})


def keys(found: Any) -> list[str]:
    return [each.key for each in found]


def test_agents_of_the_process_are_there_by_themselves(registry: Registry) -> None:
    assert keys(registry.instances()) == ["registry_reporter@1/", "registry_summariser@1/"]
    reporter = registry.instances()[0]
    assert (reporter.agent, reporter.owner, reporter.purpose) == (registry_reporter, "research team", "Due diligence")
    assert reporter.healthy
    card = reporter.card
    assert (card.concurrency, card.requests_per_minute, card.tokens_per_minute) == (4, 60, 10_000)


def test_an_agent_that_is_registered_later_is_found() -> None:
    known: dict[str, AnyAgent] = {}
    registry = Registry(known)
    assert not registry.instances()
    known["registry_reporter"] = registry_reporter
    assert keys(registry.instances()) == ["registry_reporter@1/"]
    del known["registry_reporter"]
    assert not registry.instances()


def test_several_instances_and_versions_of_one_agent(registry: Registry) -> None:
    registry.add(registry_reporter, instance="us-1", placement=("us",), price_usd=0.2)
    registry.add(registry_summariser, name="registry_reporter", version="2")
    assert keys(registry.instances()) == [
        "registry_reporter@1/", "registry_summariser@1/", "registry_reporter@1/us-1", "registry_reporter@2/",
    ]  # fmt: skip
    assert keys(registry.find(placement=["us"])) == ["registry_reporter@1/us-1"]
    assert registry.instance("registry_reporter@1/us-1") is registry.find(placement=["us"])[0]
    registry.remove("registry_reporter@1/us-1")
    assert registry.instance("registry_reporter@1/us-1") is None


def test_the_agent_itself_may_be_changed_where_it_has_one_instance(registry: Registry) -> None:
    registry.add(registry_reporter, placement=("edge",))
    assert [each.card.placement for each in registry.instances()] == [(), ("edge",)]
    assert keys(registry.instances()) == ["registry_summariser@1/", "registry_reporter@1/"]


def test_two_agents_of_one_name_and_version_are_refused(registry: Registry) -> None:
    refused = r"there are two agents 'registry_reporter' of version '1'\. Give another version="
    with pytest.raises(DefinitionError, match=refused):
        registry.add(registry_summariser, name="registry_reporter")
    registry.add(registry_reporter, instance="eu-1")
    with pytest.raises(DefinitionError, match=r"of version '1', instance 'eu-1'\. Give another version="):
        registry.add(registry_reporter, instance="eu-1")
    with pytest.raises(DefinitionError, match="'price' is no field of a card"):
        registry.add(registry_reporter, instance="eu-2", price=1)
    with pytest.raises(DefinitionError, match="'eu 2' is no name of an instance"):
        registry.add(registry_reporter, instance="eu 2")
    with pytest.raises(DefinitionError, match="is not an agent"):
        registry.add(Report)  # type: ignore[arg-type]


def test_two_definitions_of_one_name_are_told_how_to_be_two_versions() -> None:
    with pytest.raises(
        DefinitionError, match=r"registry_reporter.*Give name=….*registry.add\(agent, name='registry_rep"
    ):

        @agent(name="registry_reporter", version="2")
        def registry_other(text: str) -> str:
            return text


def test_discovery_by_skill_tag_label_and_text(registry: Registry) -> None:
    assert keys(registry.find(skill="research")) == ["registry_reporter@1/"]
    assert keys(registry.find(tags=["web"])) == ["registry_reporter@1/", "registry_summariser@1/"]
    assert keys(registry.find(tags=["web", "text"])) == ["registry_summariser@1/"]
    assert keys(registry.find(tags=["finance", "text"])) == []
    assert keys(registry.find(placement=["eu", "cloud"])) == ["registry_reporter@1/"]
    assert keys(registry.find(text="please summarise this text for me")) == ["registry_summariser@1/"]
    assert keys(registry.find(text="owners of a company"))[0] == "registry_reporter@1/"
    assert keys(registry.find(text="due diligence")) == ["registry_reporter@1/"]
    assert keys(registry.find(text="texts", skill="translate")) == ["registry_summariser@1/"]
    assert keys(registry.find(text="zebra")) == []


def test_discovery_by_what_goes_in_and_what_comes_out(registry: Registry) -> None:
    assert keys(registry.find(accepts="a text")) == ["registry_summariser@1/"]
    assert keys(registry.find(accepts=Company("ACME"))) == ["registry_reporter@1/"]
    assert keys(registry.find(accepts={"name": "ACME", "employees": 3})) == ["registry_reporter@1/"]
    assert keys(registry.find(accepts={"name": "ACME", "employees": "many"})) == []
    assert keys(registry.find(accepts=None)) == []
    wants = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    assert keys(registry.find(output_schema=wants)) == ["registry_reporter@1/"]
    assert keys(registry.find(output_schema={"type": "string"})) == ["registry_summariser@1/"]


def test_what_nobody_has_is_refused_with_the_nearest(registry: Registry) -> None:
    with pytest.raises(UnknownName, match=r"no skill is named 'sumarize'\. Did you mean 'summarise'\?"):
        registry.find(skill="sumarize")
    with pytest.raises(UnknownName, match=r"no skill is named 'reserch'\. Did you mean 'research'\?"):
        registry.skill_named("reserch")
    assert registry.skill_named("research").description == "Finds facts about companies."
    with pytest.raises(UnknownName, match=r"no placement label is named 'EU'\. Did you mean 'eu'\?|Known: cloud, eu"):
        registry.find(placement=["EU"])


def test_an_agent_whose_type_has_no_schema_is_listed_and_says_so() -> None:
    class Odd:
        pass

    @agent(name="registry_odd")
    def registry_odd(text: str) -> Odd:
        raise NotImplementedError

    found = Registry({"registry_odd": registry_odd}).instances()[0]
    assert found.card.output_schema is None
    assert "the card of 'registry_odd' has no schema" in found.problem
    assert not Registry({"registry_odd": registry_odd}).find(output_schema={"type": "string"})


ORCHESTRATION: dict[str, Any] = {
    "concurrency": 2,
    "requests_per_minute": 30,
    "tokens_per_minute": 5_000,
    "owner": "the team",
    "purpose": "Tests",
    "placement": ("edge",),
    "data_classes": ("restricted",),
}


@workflow
async def registry_flow(ctx: Context, text: str) -> str:
    return text


def test_every_kind_of_agent_takes_the_fields_of_its_card() -> None:
    made: list[AnyAgent] = [
        agent(name="registry_kind_function", **ORCHESTRATION)(lambda_of_text),
        Agent("registry_kind_llm", model="test", **ORCHESTRATION),
        HttpAgent("registry_kind_http", url="http://127.0.0.1:9/", **ORCHESTRATION),
        ProcessAgent("registry_kind_process", ["true"], **ORCHESTRATION),
        HumanAgent("registry_kind_human", **ORCHESTRATION),
        as_agent(registry_flow, name="registry_kind_workflow", **ORCHESTRATION),
    ]
    for each in made:
        assert {name: getattr(each.card, name) for name in ORCHESTRATION} == ORCHESTRATION
    found = Registry({each.name: each for each in made}).find(placement=["edge"])
    assert [each.agent for each in found] == made


def lambda_of_text(text: str) -> str:
    return text


class Numbered:
    """An agent with a ready card, as there are thousands of."""

    def __init__(self, number: int) -> None:
        skills = (Skill(f"skill{number % 500}", f"Does the thing number {number}", (f"tag{number % 50}",)),)
        text = {"type": "string"}
        self.card = Card(f"numbered{number}", skills=skills, placement=(f"site{number % 20}",), output_schema=text)
        self.name = self.card.name
        self.types: Any = (str if number % 2 else int, str)

    def invoke(self, ctx: Any, input: Any) -> Any:
        raise NotImplementedError


def test_ten_thousand_agents_are_searched_by_index() -> None:
    made = [Numbered(number) for number in range(10_000)]
    registry = Registry({each.name: each for each in made})
    assert len(registry.instances()) == 10_000
    for _ in range(10):
        assert len(registry.find(skill="skill7")) == 20
        assert len(registry.find(tags=["tag7"], placement=["site7"])) == 100
        assert registry.find(text="the thing number 4711")[0].card.name == "numbered4711"
        assert len(registry.find(accepts="text", skill="skill7", output_schema={"type": "string"})) == 20
    assert registry.instances() is registry.instances()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"concurrency": 0}, "concurrency is at least 1"),
        ({"requests_per_minute": -1}, "requests_per_minute is at least 1"),
        ({"price_usd": -0.1}, "price_usd is 0 or more"),
        ({"latency_s": float("nan")}, "latency_s is 0 or more"),
        ({"placement": "eu"}, r"placement is a tuple: write placement=\('eu',\)"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=f"registry_bad: {problem}"):
        Card("registry_bad", **fields)


def test_an_agent_that_says_nothing_of_data_classes_never_sees_classified_data() -> None:
    silent, cleared = Card("registry_silent"), Card("registry_cleared", data_classes=("restricted",))
    assert silent.may_see("")
    assert cleared.may_see("")
    assert not silent.may_see("restricted")
    assert cleared.may_see("restricted")
    assert not cleared.may_see("secret")
