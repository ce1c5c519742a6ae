"""The determinism lint: every rule finds its mistakes, and ordinary workflow code is left alone."""

import asyncio
import re
from pathlib import Path

import pytest

from cadenza.durable.lint import RULES, Finding, check_source
from tests.unit.lint_snippets import HEADER, MISTAKES, NOT_REACHED, ORDINARY, REACHED, SOUND, module, snippets

DOCS = Path(__file__).parents[2] / "docs" / "determinism.md"


def rules_of(source: str) -> list[str]:
    return [finding.rule for finding in check_source(source, "shop.py")]


@pytest.mark.parametrize(
    ("rule", "snippet"), [(rule, each) for rule, block in MISTAKES.items() for each in snippets(block)]
)
def test_a_mistake_is_found_once_and_by_its_rule(rule: str, snippet: str) -> None:
    assert rules_of(module(snippet)) == [rule]


@pytest.mark.parametrize("snippet", [each for block in SOUND.values() for each in snippets(block)])
def test_what_only_looks_like_a_mistake_is_left_alone(snippet: str) -> None:
    assert check_source(module(snippet), "shop.py") == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "CDZ000"])
def test_every_rule_is_shown_by_two_mistakes_and_two_sound_pieces_of_code(rule: str) -> None:
    assert len(snippets(MISTAKES[rule])) >= 2
    assert len(snippets(SOUND[rule])) >= 2


# --- which code is read -------------------------------------------------------------------------------------------

CLOCK = "import time\n"


@pytest.mark.parametrize(
    "decorated",
    [
        "from cadenza import workflow\n@workflow\n",
        "from cadenza import workflow as w\n@w\n",
        "import cadenza\n@cadenza.workflow\n",
        "import cadenza as cz\n@cz.workflow(name='x', concurrency=2)\n",
        "from cadenza import workflow\n@workflow()\n",
        "from cadenza import *\n@workflow\n",
        "from cadenza.durable.define import workflow\n@workflow\n",
        "import cadenza\nimport functools\n@functools.cache\n@cadenza.workflow\n",
    ],
)
def test_a_workflow_is_known_by_its_decorator_however_it_was_imported(decorated: str) -> None:
    assert rules_of(f"{CLOCK}{decorated}async def flow(ctx):\n    return time.time()") == ["CDZ001"]


@pytest.mark.parametrize(
    "source",
    [
        "async def flow(ctx):\n    return time.time()",
        "from prefect import workflow\n@workflow\nasync def flow(ctx):\n    return time.time()",
        "from temporalio import workflow\nclass Flow:\n    @workflow.run\n    async def run(self): time.sleep(1)",
        "def workflow(fn):\n    return fn\n@workflow\nasync def flow(ctx):\n    return time.time()",
        "from cadenza import workflow\nprint(time.time())\n@workflow\nasync def flow(ctx): ...\ntime.sleep(1)",
    ],
)
def test_code_outside_of_workflows_may_do_anything(source: str) -> None:
    assert rules_of(CLOCK + source) == []


@pytest.mark.parametrize("snippet", snippets(REACHED))
def test_what_a_workflow_uses_of_its_module_is_read_too(snippet: str) -> None:
    assert rules_of(module(CLOCK + snippet)) == ["CDZ001"]


@pytest.mark.parametrize("snippet", snippets(NOT_REACHED))
def test_what_runs_in_a_step_is_not_read(snippet: str) -> None:
    assert rules_of(module(CLOCK + snippet)) == []


def test_a_workflow_made_by_a_call_is_read() -> None:
    for made in ("cadenza.workflow(f)", "cadenza.workflow(name='f')(f)"):
        source = f"import time, cadenza\nasync def f(ctx):\n    time.sleep(1)\nflow = {made}\n"
        assert rules_of(source) == ["CDZ004"]


def test_a_function_of_two_workflows_is_reported_once() -> None:
    source = f"{HEADER}import time\ndef now():\n    return time.time()\n" + "".join(
        f"@workflow\nasync def {name}(ctx):\n    now()\n" for name in ("first", "second")
    )
    assert [finding.message.split(" reads")[0] for finding in check_source(source, "shop.py")] == [
        "time.time() in now (used by workflow first)"
    ]


# --- what a finding says ------------------------------------------------------------------------------------------


def test_a_finding_says_where_what_in_which_workflow_why_and_what_to_use() -> None:
    source = "import time\nimport cadenza\n@cadenza.workflow\nasync def checkout(ctx):\n    x = time.time()\n"
    [finding] = check_source(source, "shop/orders.py")
    assert finding == Finding("shop/orders.py", 5, 9, "CDZ001", finding.message, "error")
    assert str(finding) == (
        "shop/orders.py:5:9: CDZ001 time.time() in workflow checkout reads a clock, which replay cannot repeat: "
        "use ctx.now()"
    )


def test_a_workflow_is_called_by_the_name_its_decorator_gives_it() -> None:
    source = "import time, cadenza\n@cadenza.workflow(name='shop-checkout')\nasync def f(ctx):\n    time.sleep(1)\n"
    assert "in workflow shop-checkout " in check_source(source, "a.py")[0].message


def test_columns_count_characters_and_findings_come_in_the_order_of_the_source() -> None:
    source = module("import time\n---\nx = '→→' + str(time.time()) + str(id(order))\ntime.sleep(1)")
    found = check_source(source, "a.py")
    assert [(each.column, each.rule) for each in found] == [(20, "CDZ001"), (39, "CDZ010"), (5, "CDZ004")]
    assert found[0].line + 1 == found[2].line


@pytest.mark.parametrize(
    ("snippet", "severity"),
    [
        ("---\nprint(1)", "warning"),
        ("---\norder.path.read_text()", "warning"),
        ("import os\nMODEL = os.environ['MODEL']\n---\nreturn MODEL", "warning"),
        ("import os\n---\nreturn os.environ['MODEL']", "error"),
        ("---\nhash(order)", "error"),
    ],
)
def test_what_is_unwelcome_or_uncertain_is_a_warning(snippet: str, severity: str) -> None:
    assert [finding.severity for finding in check_source(module(snippet), "a.py")] == [severity]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "CDZ000"])
def test_every_message_ends_with_what_to_do(rule: str) -> None:
    for snippet in snippets(MISTAKES[rule]):
        for finding in check_source(module(snippet), "a.py"):
            assert re.search(r". in (workflow flow|\w.* \(used by workflow flow\)) .+: .+\w", finding.message), finding


# --- ignoring -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(1)  # cadenza: ignore[CDZ004] a test of the watchdog",
        "time.sleep(id(order))  # cadenza: ignore[CDZ004, CDZ010] a test of the watchdog",
        "time.sleep(  # cadenza: ignore[CDZ004] a test\n    1,\n)",
        "time.sleep(\n    1,\n)  # cadenza: ignore[CDZ004] a test",
        "time.sleep(1)  #cadenza:ignore[CDZ004] a test",
        "try:\n    await ctx.call('a', 1)\nexcept BaseException:  # cadenza: ignore[CDZ013] a test\n    pass",
    ],
)
def test_a_line_is_let_through_with_a_reason(body: str) -> None:
    assert rules_of(module(f"import time\n---\n{body}")) == []


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(1)  # cadenza: ignore[CDZ001] another rule",
        "time.sleep(1)\n# cadenza: ignore[CDZ004] another line",
        "time.sleep(1), '# cadenza: ignore[CDZ004] in a string'",
        "time.sleep(1)  # cadenza: ignore everything",
    ],
)
def test_an_ignore_comment_covers_only_the_rule_and_the_line_it_names(body: str) -> None:
    assert rules_of(module(f"import time\n---\n{body}")) == ["CDZ004"]


def test_an_ignore_comment_without_a_reason_is_refused_and_says_so() -> None:
    [finding] = check_source(module("import time\n---\ntime.sleep(1)  # cadenza: ignore[CDZ004]"), "a.py")
    assert finding.message.endswith("(to ignore it, give the reason after ignore[CDZ004])")


# --- any source ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("x = 1\ndef f(:\n    pass\n", 2, 7),
        ("if True:\nx = 1\n", 2, 1),
        ("x = 'open\n", 1, 5),
        ("x = 1\0\n", 1, 1),
        ("def f():\n\treturn 1\n        return 2\n", 3, 17),
    ],
)
def test_source_that_is_not_python_is_a_finding(source: str, line: int, column: int) -> None:
    [finding] = check_source(source, "a.py")
    assert (finding.rule, finding.severity) == ("CDZ000", "error")
    assert finding.line == line
    assert finding.column == column or "\0" in source or "\t" in source  # Pythons differ on these
    assert "check again" in finding.message


@pytest.mark.parametrize("source", ["", "\n", "# nothing\n", "\ufeffimport time\n", "x = '\\d'\n"])
def test_source_without_workflows_has_no_findings(source: str) -> None:
    assert check_source(source, "a.py") == []


def test_line_endings_do_not_move_findings() -> None:
    source = module("import time\n---\ntime.sleep(1)")
    assert check_source(source, "a.py") == check_source(source.replace("\n", "\r\n"), "a.py")


@pytest.mark.parametrize("depth", [3_000, 100_000])
def test_source_nested_too_deeply_is_a_finding(depth: int) -> None:
    [finding] = check_source(module(f"---\nx = {'-' * depth}1"), "a.py")
    assert finding.rule == "CDZ000"


def test_names_that_refer_to_themselves_come_to_an_end() -> None:
    body = "a = b\nb = a\nfor x in a:\n    pass\nwhile order:\n    order = order.next()\nf(A().x())"
    assert rules_of(module(f"class A(A): ...\ndef f(date: 'date.date'):\n    date.x()\n---\n{body}")) == []


def test_a_long_chain_of_assignments_is_followed() -> None:
    lines = "\n".join(["names = set(order)"] + ["names = names.union(order)"] * 300)
    assert rules_of(module(f"---\n{lines}\nlist(names)")) == ["CDZ009"]


def test_the_lint_holds_for_code_of_every_kind() -> None:
    """Every function of a library, read as a workflow: nothing is raised, every place exists."""
    for file in sorted(Path(str(asyncio.__file__)).parent.glob("*.py")):
        source = re.sub(r"^( *)(?=(async )?def )", r"\1@workflow\n\1", file.read_text("utf-8"), flags=re.MULTILINE)
        lines = source.split("\n")
        for finding in check_source(source, file.name):
            assert finding.rule != "CDZ000"
            assert 1 <= finding.line <= len(lines)
            assert 1 <= finding.column <= len(lines[finding.line - 1])


def test_ordinary_workflows_have_no_findings() -> None:
    assert check_source(ORDINARY, "orders.py") == []


# --- the page for users -------------------------------------------------------------------------------------------

SECTION = re.compile(r"^## (CDZ\d+): .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGE = {match[1]: match[0] for match in SECTION.finditer(DOCS.read_text("utf-8"))}


def test_the_page_has_a_section_for_each_rule() -> None:
    assert list(PAGE) == list(RULES)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "CDZ000"])
def test_the_page_shows_bad_code_that_is_found_and_good_code_that_is_not(rule: str) -> None:
    bad, good = BLOCK.findall(PAGE[rule])
    assert set(rules_of(HEADER + bad)) == {rule}
    assert rules_of(HEADER + good) == []
