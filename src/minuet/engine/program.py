"""A plan as tables: for each condition who watches it, so that learning a fact touches only its watchers."""

from __future__ import annotations

from typing import Any

from minuet.contracts.action import RetryPolicy
from minuet.engine import bound
from minuet.engine.row import ASKED, ASKED_BACK
from minuet.plans.condition import ENTER, EXIT, FALSE, FAN, FIRST, LAST, NEXT, OUTER, PREV, SAME, START
from minuet.plans.dataflow import BEGIN, CANCELLATION, Flow, flow_of
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule, labels

EDGE_CODES = {e: i for i, e in enumerate((SAME, ENTER, NEXT, LAST, PREV, FIRST, EXIT, FAN))}
START_POSITION = BEGIN[0]
CANCEL, REQUESTED = CANCELLATION
RESULT = "$result"  # where a run stands that has done everything, and cannot say its result

_TIMED = frozenset({"sleep", "wait", "deadline", "timeout", "abandon"})  # rules that set a timer of their name

DEEP = 16  # values that stand on more than so many others, one upon the other, are read from the ground up

E_SAME, E_ENTER, E_NEXT, E_LAST, E_PREV, E_FIRST, E_EXIT, E_FAN = range(8)


class Program:
    """The tables of one plan, as one participant evaluates it; shared by all its runs, and never changed.

    `who`: the names whose rules are evaluated here; None: everybody's, in one place. `only_watches`: nothing is
    decided or carried out, it is only found out what is still to come. `flow`: the plan's, if it is known.
    """

    def __init__(
        self,
        plan: Plan,
        default_retry: RetryPolicy = bound.RETRY,
        who: frozenset[str] | None = None,
        *,
        only_watches: bool = False,
        flow: Flow | None = None,
    ) -> None:
        self._flow = flow
        self.who = who
        self.only_watches = only_watches
        conditions = plan.conditions
        n = len(conditions)
        self.plan = plan
        self.values = plan.values
        self.rules = list(plan.rules)
        self.blocks = plan.blocks
        self.switches = plan.switches
        self.default_retry = default_retry
        self.fact_node: dict[tuple[str, str], int] = {}
        self.is_and = [c.kind == "and" for c in conditions]
        self.is_count = [c.kind == "count" for c in conditions]
        self.depth = [len(c.scope) for c in conditions]
        self.limit = [plan.blocks[c.scope[-1]].limit if c.scope else 0 for c in conditions]
        self.block = [c.scope[-1] if c.scope else -1 for c in conditions]
        edges: list[list[tuple[int, int]]] = [[] for _ in range(n)]
        self.need = [0] * n  # inputs of an `and` that come with its own round
        self.outer: list[list[int]] = [[] for _ in range(n)]  # and those that stand further out
        self.counted = [-1] * n  # for `count`: the block whose elements it counts
        self.counts_of: dict[int, list[int]] = {}
        self.begins: dict[int, int] = {}  # an `each` -> the condition that begins an element
        for i, c in enumerate(conditions):
            if c.kind == "fact":
                self.fact_node[c.of] = i
            elif c.kind == "count":
                self.counted[i] = c.of[0]
                self.counts_of.setdefault(c.of[0], []).append(i)
            for source, edge in c.inputs:
                if edge == OUTER:
                    self.outer[i].append(source)
                else:
                    edges[source].append((EDGE_CODES[edge], i))
                    self.need[i] += 1
                    if edge == FAN:
                        self.begins[c.scope[-1]] = i
        self.edges = [tuple(e) for e in edges]
        rules: list[list[int]] = [[] for _ in range(n)]
        for r, rule in enumerate(plan.rules):
            if who is None or (rule.who in who and not self._is_for_another(rule)):
                rules[rule.when].append(r)
        self.rules_of = [tuple(r) for r in rules]
        switches: list[list[int]] = [[] for _ in range(n)]
        for s, switch in enumerate(plan.switches):
            switches[switch.trigger].append(s)
        self.switches_of = [tuple(s) for s in switches]
        self.releases = {b.ended: i for i, b in enumerate(plan.blocks) if b.ended is not None and b.at_once}
        for switch in plan.switches:  # a person may decide where the guard has no answer
            for label, arm in zip(("chosen:then", "chosen:else"), switch.arms[:2], strict=True):
                if arm != FALSE:
                    self.fact_node.setdefault((switch.position, label), arm)
        self.fact_node[START_POSITION, "ok"] = START
        self.heads = self._heads()
        self.deep = self._deep()
        self.runs: dict[str, Rule] = {r.position: r for r in plan.rules if r.kind == "run"}
        self.compensations = {r.position: _compensation(r) for r in plan.rules if r.about.get("compensation")}
        self.armed = {r.position: r for r in plan.rules if r.kind in ("wait", "sleep")}
        self.armed_by = {r.position: r.who for r in plan.rules if r.kind == "abandon"}  # who gives a step up
        self.deadline_depth = {r.position: len(r.scope) for r in plan.rules if r.kind == "deadline"}
        self.disarmed = {r.position: r.when for r in plan.rules if r.kind == "disarm"}
        self.has_attempt = _has_attempt(plan.body)
        self._hear_commands()
        self.expected = self._expected()
        # Where rows of other tables may stand, and how deep their rounds are.
        self.acts = {(r.position, "forward"): len(r.scope) for r in self.runs.values()}
        self.acts |= {(r.position, "compensation"): len(r.scope) for r in self.compensations.values()}
        self.timed = {(r.position, r.kind): len(r.scope) for r in plan.rules if r.kind in _TIMED}
        self.waits = {(r.position, r.about["event"]): len(r.scope) for r in plan.rules if r.kind == "wait"}
        self.order = {r.position: i for i, r in reversed(list(enumerate(plan.rules))) if r.position}

    def performs(self, rule: Rule) -> bool:
        """Say whether the action of a rule is performed here, not commanded elsewhere."""
        return not self.only_watches and (self.who is None or rule.about["service"] in self.who)

    @property
    def flow(self) -> Flow:
        """Who hears what of a run, and what travels with it."""
        if self._flow is None:
            self._flow = flow_of(self.plan)
        return self._flow

    def _is_for_another(self, rule: Rule) -> bool:
        """Say whether a rule is evaluated by whoever performs the step: its own row decides whether it is late."""
        if rule.kind != "timeout" or self.who is None:
            return False
        step = next(r for r in self.rules if r.kind == "run" and r.position == rule.position)
        return step.about["service"] not in self.who

    def _hear_commands(self) -> None:
        """Let a command stand for the condition of a rule that somebody else evaluates."""
        if self.who is None:
            return
        commanded = [
            r for r in self.rules if r.kind in ("run", "compensate") and self.performs(r) and r.who not in self.who
        ]
        commanded += self._late_compensations()
        for rule in commanded:
            ruled = [
                i
                for i, r in enumerate(self.rules)
                if r is rule or (rule.kind == "run" and r.kind == "timeout" and r.position == rule.position)
            ]
            self.fact_node[rule.position, ASKED if rule.kind == "run" else ASKED_BACK] = len(self.edges)
            self.is_and.append(False)
            self.is_count.append(False)
            self.depth.append(len(rule.scope))
            self.limit.append(0)
            self.block.append(-1)
            self.edges.append(())
            self.need.append(0)
            self.outer.append([])
            self.rules_of.append(tuple(ruled))
            self.switches_of.append(())

    def _late_compensations(self) -> list[Rule]:
        """Give the compensations for which a service that was given up, and has run after all, asks another one."""
        found = []
        for position in {r.position for r in self.rules if r.kind == "abandon"}:
            rule = self.compensations[position]
            if self.performs(rule) and not self.performs(self.runs[position]):
                planned = (r for r in self.rules if r.kind == "compensate" and r.position == position)
                if (of_plan := next(planned, None)) is None:
                    self.rules.append(rule)
                found.append(of_plan or rule)
        return found

    def _expected(self) -> dict[str, tuple[int, frozenset[str]]]:
        """Give, for each position, how deep its rounds are, and the labels of the facts that it may have."""
        found: dict[str, set[str]] = {CANCEL: {REQUESTED}}
        depth = {CANCEL: 0}
        if self.who is not None or self.only_watches:
            depth[START_POSITION] = 0
            found[START_POSITION] = {"ok"}
        for r in self.rules:
            depth.setdefault(r.position, len(r.scope))
            found.setdefault(r.position, set()).update(labels(r, self.rules))
            if self.who is not None and r.kind == "run":
                found[r.position].update((ASKED, ASKED_BACK))
        for position in self.compensations:
            found[position].add("compensated")
        for s in self.switches:
            depth.setdefault(s.position, len(s.scope))
            found.setdefault(s.position, set()).update(("chosen:then", "chosen:else"))
        return {p: (depth[p], frozenset(names)) for p, names in found.items()}

    def _deep(self) -> frozenset[int]:
        """Give the values that stand on long chains of others: `x1 = x0 + 1`, `x2 = x1 + 1`, and so on."""
        depth: dict[int, int] = {}
        for v in range(len(self.values)):
            todo = [v]
            while todo:
                u = todo[-1]
                below = self.values[u].below
                below = below[:1] if self.values[u].kind == "head" else below  # the round before is known already
                if missing := [x for x in below if x not in depth]:
                    todo += missing
                else:
                    depth[u] = 1 + max((depth[x] for x in below), default=0)
                    todo.pop()
        return frozenset(v for v, n in depth.items() if n > DEEP)

    def _heads(self) -> dict[int, list[int]]:
        """Give, for the conditions that begin a round, the values that are handed from round to round.

        They are read as soon as the round begins: so each is one step from the last, whatever the number of rounds.
        """
        begins = {}
        for i, c in enumerate(self.plan.conditions):
            if any(e == ENTER for _, e in c.inputs):
                begins[c.scope] = i
        found: dict[int, list[int]] = {}
        for v, value in enumerate(self.values):
            if value.kind == "head" and value.scope in begins:
                found.setdefault(begins[value.scope], []).append(v)
        return found


def _compensation(run: Rule) -> Rule:
    """Give the rule that compensates a step, for where it is due without the plan's own condition (`abandon`)."""
    service, action = run.about["compensation"]
    about = {"service": service, "action": action, "codes": [], "retry": None, "attempt_timeout_ms": None}
    return Rule(kind="compensate", position=run.position, when=run.when, scope=run.scope, who=run.who, about=about)


def _has_attempt(node: Any) -> bool:
    if isinstance(node, dict):
        return node.get("node") == "Attempt" or any(_has_attempt(x) for x in node.values())
    return isinstance(node, list) and any(_has_attempt(x) for x in node)
