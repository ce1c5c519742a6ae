"""The determinism lint behind ``cadenza check``: source text in, findings out; nothing is imported, run or opened.

check.py     check_source: from workflows to everything they call in the module
rules.py     the rules, and the functions and modules they are about
calls.py     readers of one function's code, one for each kind of mistake:
order.py         what is called and read; what takes the order of a set;
flow.py          what swallows cancellation or never yields; what writes
state.py         module state
reader.py    what the readers share
origins.py   what an expression stands for
names.py     who owns a name
"""

from cadenza.durable.lint.check import Finding, check_source
from cadenza.durable.lint.rules import RULES, Rule, Severity

__all__ = ["RULES", "Finding", "Rule", "Severity", "check_source"]
