"""Plans as they are loaded, and made into tables: once for all participants of a process."""

from __future__ import annotations

from minuet.contracts.action import RetryPolicy
from minuet.engine.program import Program
from minuet.plans.dataflow import Flow
from minuet.plans.plan import Plan, load_plan


class Library:
    """What was made of each plan. Nothing of it is ever changed, so whoever asks for the same gets the same."""

    def __init__(self) -> None:
        self._plans: dict[bytes, Plan] = {}
        self._flows: dict[str, Flow] = {}
        self._programs: dict[tuple[str, RetryPolicy, frozenset[str] | None, bool], Program] = {}

    def plan(self, body: bytes) -> Plan:
        """Give a plan from its JSON text. Raises PlanInvalid."""
        if (plan := self._plans.get(body)) is None:
            plan = self._plans[body] = load_plan(body)
        return plan

    def program(self, plan: Plan, retry: RetryPolicy, who: frozenset[str] | None, *, only_watches: bool) -> Program:
        """Give the tables of a plan, as one participant evaluates it; see `Program`."""
        key = plan.digest, retry, who, only_watches
        if (program := self._programs.get(key)) is None:
            flow = self._flows.get(plan.digest)
            program = self._programs[key] = Program(plan, retry, who, only_watches=only_watches, flow=flow)
            if who is not None:  # others hear of it
                self._flows[plan.digest] = program.flow
        return program
