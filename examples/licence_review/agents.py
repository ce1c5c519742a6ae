"""The cast: five agents, each with a card that says what it is for.

Each is a plain function that `@agent` makes durable: its answer is journaled, and after a crash it is handed back
instead of computed again. All of them block (they read files and compare texts), so they are ordinary `def`
functions, which the engine runs in threads.

Every answer about a package is signed with the process that gave it. The report counts by these signatures what was
replayed.
"""

import os
import time
from dataclasses import replace

from cadenza import Skill, agent, step

from .arbiter import Case, Conclusion, arbitrate
from .documents import Collection, Package, collect
from .metadata import Declared, classify_metadata
from .policy import Decision, PolicyCheck, check_policy
from .texts import Found, classify_texts

PROCESS = f"{os.getpid()}@{time.time_ns() // 1_000_000}"  # the process id may come back; id and start time do not


@agent(
    description="Lists the installed distributions of an environment with their licence documents, sizes and hashes.",
    skills=[Skill("list-distributions", tags=("python", "inventory"))],
)
def collector(site: str) -> Collection:
    return collect(site)


@agent(
    description="Reads which licence a package declares: License-Expression, else License, else the classifiers.",
    skills=[Skill("classify-metadata", tags=("licence", "metadata"))],
)
def metadata_classifier(package: Package) -> Declared:
    return replace(classify_metadata(package), done_by=PROCESS)


@agent(
    description="Recognises the licence texts in a package's files, without a look at its metadata.",
    skills=[Skill("classify-texts", tags=("licence", "text"))],
)
def text_classifier(package: Package) -> Found:
    step.heartbeat(package.name)  # for those who watch
    return replace(classify_texts(package), done_by=PROCESS)


@agent(
    description="Decides which licence holds where metadata and texts disagree, and says by which rule.",
    skills=[Skill("arbitrate", tags=("licence", "disagreement"))],
)
def arbiter(case: Case) -> Conclusion:
    return replace(arbitrate(case), done_by=PROCESS)


@agent(
    description="Weighs a licence expression by the policy file, and says which line decided.",
    skills=[Skill("check-policy", tags=("licence", "policy"))],
)
def policy_check(check: PolicyCheck) -> Decision:
    return replace(check_policy(check), done_by=PROCESS)
