"""Sync agents that run in processes of their own, which import this module."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from cadenza import Retry, agent, step
from cadenza.routing.policy import Policy


@dataclass(frozen=True)
class Job:
    """What to do: ``mark`` is a file that gets a line for each beginning and each end."""

    mark: str
    takes_s: float = 0.0
    fails: str = ""


class OddError(Exception):
    """An exception of the user's own."""


@agent(policy=Policy(killable=True, attempt_timeout_s=6, retry=Retry(attempts=2, delay_s=0.01)))
def killable_worker(job: Job) -> dict[str, int]:
    print("this is no reply")
    with Path(job.mark).open("a") as file:
        file.write(f"began {os.getpid()}\n")
        file.flush()
        if step.attempt() == 1 and job.takes_s:
            time.sleep(job.takes_s)
        file.write("ended\n")
    if job.fails == "odd":
        raise OddError("odd")
    if job.fails == "value":
        raise ValueError("no such thing")
    return {"pid": os.getpid(), "attempt": step.attempt()}
