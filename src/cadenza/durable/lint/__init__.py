"""The determinism lint behind ``cadenza check``: source text in, findings out; nothing is imported, run or opened.

- check.py: from the workflows of a module to everything they use in it; findings; ignore comments
- rules.py: the rules, and the functions and modules they are about
- calls.py, order.py, flow.py, state.py: readers of one function's code: what it calls, where it takes the order of a
  set, where it swallows cancellation or never yields, where it changes the state of the module
- reader.py: what the readers share
- origins.py: what an expression stands for; values.py: the values that are told apart; names.py: who owns a name
"""

from cadenza.durable.lint.check import Finding, check_source
from cadenza.durable.lint.rules import RULES, Rule, Severity

__all__ = ["RULES", "Finding", "Rule", "Severity", "check_source"]
