"""Which facts made a rule true, and when: derived from a plan and the facts of a run, which do not say so themselves.

The facts are folded once more through the engine's own network of conditions, and the order in which conditions became
true is kept. What made one true is then found by walking down from it: all inputs of an `and`, that input of an `or`
which was true first, and so on down to facts.

Only labels are looked at, never values: whoever is shown a run may not be shown its values, and its input is not among
its facts. So a guard is told by what followed it (a fact that stands in an arm could not be there otherwise), and the
length of a list by the elements that were seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from minuet.engine.knowledge import MISSING, Knowledge, Round
from minuet.engine.program import CANCEL, REQUESTED, START_POSITION, Program
from minuet.engine.progress import describe
from minuet.ids import parse_round, round_text
from minuet.observe.traced import TracedFact, TracedRun
from minuet.plans import condition
from minuet.plans.condition import FALSE, FAN, NEXT, PREV, START
from minuet.plans.dataflow import FactName
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule, labels

_Instance = tuple[int, Round]  # a condition in a round
_SAME_ROUND = frozenset({condition.SAME, condition.OUTER, condition.ENTER, condition.FAN, condition.LAST})
_PLUMBING = frozenset({"asked", "asked-back"})


class Known(NamedTuple):
    """A fact of a run. `seq` counts them in the order in which they were recorded; the start is 0."""

    seq: int
    position: str
    round: Round
    label: str
    at_ms: int

    @property
    def where(self) -> str:
        """Give its position, with its round where there is one: `2a`, `3.1[0.2]`."""
        return where(self.position, self.round)


class Became(NamedTuple):
    """That a rule has become true in a round, and by which facts: in their order, and none twice."""

    rule: Rule
    round: Round
    causes: tuple[Known, ...]

    @property
    def after(self) -> int:
        """Give the number of the fact that was the last to come."""
        return self.causes[-1].seq if self.causes else 0

    @property
    def at_ms(self) -> int:
        """Give when it became true."""
        return max((c.at_ms for c in self.causes), default=0)


class Derivation:
    """What made each rule of a run true.

    `facts` are those of the trace, the start first; what a fact of an unknown position, or of another form than its
    plan says, has caused is not known, and so it is left out.
    """

    def __init__(self, plan: Plan, run: TracedRun) -> None:
        self.plan = plan
        self.program = Program(plan)
        self.start = Known(0, START_POSITION, (), "ok", run.started_at_ms)
        self.facts = [self.start, *self._known(run.facts)]
        self._by_name = {(f.position, f.round, f.label): f for f in reversed(self.facts)}
        self._recorders = recorders(plan, self.program)
        self._eaches = {b.position for b in plan.blocks if b.kind == "each"}
        self._seen = [(f.position, f.round, f.label) for f in self.facts[1:]]
        self._seen += [
            (w.position, rnd, "") for w in run.waiting if (rnd := self._round(w.position, w.round)) is not None
        ]
        self._fold = _Fold(self.program, self._arms(run), self._sizes())
        self._fold.begin()
        for f in self.facts[1:]:
            self._fold.learn(f.position, f.round, f.label, None)
        self._rank = self._fold.ranked.rank
        self._rounds: dict[int, list[Round]] = {}
        self._ordered: dict[_Instance, list[Round]] = {}
        for key in self._rank:
            node, rnd = key if isinstance(key, tuple) else (key, ())
            self._rounds.setdefault(node, []).append(rnd)

    def became(self, fact: Known) -> Became | None:
        """Say what made the rule true that recorded a fact; None for what came from outside, or cannot be told.

        A cancellation and a deadline are causes too, where the fact says so.
        """
        rules = self._recorders.get((fact.position, fact.label), ())
        found = [b for rule in rules if (b := self.rule(rule, fact.round)) is not None]
        before = [b for b in found if b.after < fact.seq] or found
        if not before:
            return self._late(fact)
        # A verdict repeats an outcome, or is given when there is none in time: what came last before it was the cause.
        best = max(before, key=lambda b: b.after)
        also = [
            f for name in _called_off_by(fact, best.rule, self.program) if (f := self._by_name.get(name)) is not None
        ]
        if not also:
            return best
        return best._replace(causes=tuple(sorted({*best.causes, *also})))

    def _late(self, fact: Known) -> Became | None:
        """Say why a step was taken back that had been given up, and ran after all: no rule of the plan is about it."""
        if fact.label != "compensated":
            return None
        names = [(fact.position, "ok"), (fact.position + "!", "rejected:timeout")]
        causes = [f for p, label in names if (f := self._by_name.get((p, fact.round, label))) is not None]
        rule = self.program.compensations.get(fact.position)
        return Became(rule, fact.round, tuple(sorted(causes))) if rule is not None else None

    def rule(self, rule: Rule, round_: Round) -> Became | None:
        """Say what made a rule true in a round; None if it is not, as far as is known."""
        if not self._is_true(rule.when, round_):
            return None
        return Became(rule, round_, tuple(sorted(self._below(rule.when, round_))))

    def end(self, state: str, code: str) -> Became | None:
        """Say what made a run end; None if it has not, or an operator has ended it."""
        for rule in self._ends(state, code):
            if (b := self.rule(rule, ())) is not None:
                return b
        return None

    def recorder(self, position: str, label: str) -> Rule | None:
        """Give the rule that records a fact, preferring the one that runs something."""
        rules = self._recorders.get((position, label), ())
        return next((r for r in rules if r.kind in ("run", "compensate")), next(iter(rules), None))

    def what(self, position: str, label: str) -> str:
        """Say what a fact is about: `orders.open`, `wait carrier.picked-up`, `section`, `each`."""
        rule = self.recorder(position, label)
        if rule is not None and rule.kind == "mark" and position not in self._eaches:
            return "section"
        return describe(self.plan, position, label)[0]

    def outcome(self, position: str, round_: Round) -> bool:
        """Say whether something was done: then what is still waited for there is that it is taken back."""
        return any((position, round_, label) in self._by_name for label in ("ok", "fired"))

    def _known(self, facts: Iterable[TracedFact]) -> Iterator[Known]:
        n = 0
        for f in facts:
            rnd = self._round(f.position, f.round)
            if rnd is None or f.label in _PLUMBING or f.position == START_POSITION:
                continue
            if f.label in self.program.expected[f.position][1]:
                n += 1
                yield Known(n, f.position, rnd, f.label, f.at_ms)

    def _round(self, position: str, text: str) -> Round | None:
        """Read the round of something at a position; None where it cannot be one."""
        expected = self.program.expected.get(position)
        try:
            rnd = parse_round(text)
        except ValueError:
            return None
        return rnd if expected is not None and len(rnd) == expected[0] and min(rnd, default=0) >= 0 else None

    # Guards and lists, told by what followed them

    def _arms(self, run: TracedRun) -> dict[_Instance, int]:
        """Give the arm that each guard has taken, as far as a fact, or what is waited for, tells."""
        needs = _needs(self.plan, self.program, self._recorders)
        recorded = {name: _common([needs[r.when] for r in rules]) for name, rules in self._recorders.items()}
        at: dict[str, list[frozenset[int] | None]] = {}
        for r in self.plan.rules:
            if r.kind in ("run", "wait", "sleep"):
                at.setdefault(r.position, []).append(needs[r.when])
        ends = [((), needs[r.when]) for r in self._ends(run.state, run.code)]
        told = [(rnd, recorded.get((p, label)) if label else _common(at.get(p, []))) for p, rnd, label in self._seen]
        found: dict[_Instance, int] = {}
        for rnd, arms in [*told, *ends]:
            for arm in arms or ():
                c = self.plan.conditions[arm]
                found[c.of[0], rnd[: len(c.scope)]] = arm
        return found

    def _ends(self, state: str, code: str) -> list[Rule]:
        if state not in ("completed", "compensated"):
            return []
        return [
            r
            for r in self.plan.rules
            if r.kind == "end" and bool(r.about["code"]) == (state == "compensated")
            if not code or r.about["code"].partition("@")[0] == code
        ]

    def _sizes(self) -> dict[_Instance, int]:
        """Give how many elements of each `each` were seen."""
        scopes = {r.position: r.scope for r in self.plan.rules} | {s.position: s.scope for s in self.plan.switches}
        found: dict[_Instance, int] = {}
        for position, rnd, _ in self._seen:
            for depth, block in enumerate(scopes.get(position, ())[: len(rnd)]):
                at = block, rnd[:depth]
                found[at] = max(found.get(at, 0), rnd[depth] + 1)
        return found

    # Walking down

    def _is_true(self, node: int, rnd: Round) -> bool:
        return ((node, rnd) if rnd else node) in self._rank

    def _rank_of(self, node: int, rnd: Round) -> int:
        return self._rank[(node, rnd) if rnd else node]

    def _below(self, node: int, rnd: Round) -> set[Known]:
        found = set[Known]()
        seen, todo = {(node, rnd)}, [(node, rnd)]
        while todo:
            i, r = todo.pop()
            c = self.plan.conditions[i]
            below: list[_Instance] = []
            if i == START:
                found.add(self.start)
            elif c.kind == "fact":
                found.add(self._by_name[c.of[0], r, c.of[1]])
            elif c.kind == "arm":
                switch = self.plan.switches[c.of[0]]
                chosen = "chosen:then" if i == switch.arms[0] else "chosen:else"
                if (fact := self._by_name.get((switch.position, r, chosen))) is not None:  # a person has decided
                    found.add(fact)
                else:
                    below = [(switch.trigger, r)]
            else:
                below = self._inputs(i, r)
            new = [x for x in below if x not in seen]
            seen.update(new)
            todo += new
        return found

    def _inputs(self, i: int, rnd: Round) -> list[_Instance]:
        """Give the inputs that made a condition true: all, or of an `or` the first that was."""
        c = self.plan.conditions[i]
        if any(edge == FAN for _, edge in c.inputs):
            return self._began(i, rnd)
        if c.kind == "count":
            counted = [
                (s, (*rnd, n)) for s, _ in c.inputs for (*outer, n) in self._rounds.get(s, ()) if rnd == (*outer,)
            ]
            block = c.of[0]
            return counted or [(s, rnd) for s, _ in self.plan.conditions[self.program.begins[block]].inputs]
        inputs = [x for s, edge in c.inputs for x in self._sources(s, edge, rnd)]
        if c.kind == "and":
            return inputs
        return [min(inputs, key=lambda x: self._rank_of(*x))] if inputs else []

    def _began(self, begin: int, rnd: Round) -> list[_Instance]:
        """Give what began an element of an `each`: the list, or that another element has ended."""
        block = self.plan.blocks[self.program.block[begin]]
        if block.at_once and block.ended is not None and rnd[-1] >= block.at_once:
            ended = self._in_order(block.ended, rnd[:-1])
            if rnd[-1] - block.at_once < len(ended):
                return [(block.ended, ended[rnd[-1] - block.at_once])]
        return [(s, rnd[:-1]) for s, _ in self.plan.conditions[begin].inputs]

    def _in_order(self, node: int, outer: Round) -> list[Round]:
        """Give the rounds within another in which a condition became true, the first one first."""
        if (node, outer) not in self._ordered:
            inside = (r for r in self._rounds.get(node, ()) if r[:-1] == outer)
            self._ordered[node, outer] = sorted(inside, key=lambda r: self._rank_of(node, r))
        return self._ordered[node, outer]

    def _sources(self, source: int, edge: str, rnd: Round) -> list[_Instance]:
        """Give the true instances of an input, the way of an edge back."""
        match edge:
            case condition.SAME | condition.LAST:
                rounds = [rnd]
            case condition.OUTER:
                rounds = [rnd[: self.program.depth[source]]]
            case condition.ENTER:
                rounds = [rnd[:-1]] if rnd[-1] == 0 else []
            case condition.NEXT:
                rounds = [(*rnd[:-1], rnd[-1] - 1)]
            case condition.PREV:
                rounds = [(*rnd[:-1], rnd[-1] + 1)]
            case condition.FIRST:
                rounds = [(*rnd, 0)]
            case _:  # out of the block, from whichever round
                rounds = [r for r in self._rounds.get(source, ()) if r[:-1] == rnd]
        return [(source, r) for r in rounds if self._is_true(source, r)]


class _Ranked(set[Any]):
    """A set that knows in which order its members came."""

    def __init__(self) -> None:
        super().__init__()
        self.rank: dict[Any, int] = {}

    def add(self, key: Any) -> None:
        self.rank.setdefault(key, len(self.rank))
        super().add(key)


class _Fold(Knowledge):
    """Knowledge that knows no values: which arm a guard takes, and how long a list is, it is told.

    A guard of which nothing is told takes both arms: then nothing in them has happened yet, and what follows an empty
    arm has the guard's own causes.
    """

    def __init__(self, program: Program, arms: dict[_Instance, int], sizes: dict[_Instance, int]) -> None:
        super().__init__(program, 0, None, None, 0)
        self.true = self.ranked = _Ranked()
        self._arms = arms
        self._sizes = sizes

    def read(self, v: int, rnd: Round) -> Any:
        """Give no value."""
        return MISSING

    def switch(self, s: int, rnd: Round, todo: list[_Instance] | None = None) -> None:
        """Take the arm that was told."""
        told = self._arms.get((s, rnd))
        arms = self.program.switches[s].arms[:2] if told is None else (told,)
        self._go([(arm, rnd) for arm in arms if arm != FALSE], todo)

    def fan(self, begin: int, rnd: Round, todo: list[_Instance] | None = None) -> None:
        """Begin the elements that were seen."""
        block = self.program.block[begin]
        n = self._sizes.get((block, rnd), 0)
        first = min(n, self.program.blocks[block].at_once or n)
        self.fans[block, rnd] = [n, first]
        begun = [(begin, (*rnd, i)) for i in range(first - 1, -1, -1)]
        begun += [(c, rnd) for c in self.program.counts_of.get(block, ()) if self.counts.get((c, rnd), 0) == n]
        self._go(begun, todo)

    def _go(self, begun: list[_Instance], todo: list[_Instance] | None) -> None:
        if todo is None:
            self._hold(begun)
        else:
            todo += begun


def where(position: str, round_: Round) -> str:
    """Give a position with its round, where there is one."""
    return f"{position}[{round_text(round_)}]" if round_ else position


def recorders(plan: Plan, program: Program) -> dict[FactName, list[Rule]]:
    """Give the rules that may record each fact, in the order of the plan."""
    found: dict[FactName, list[Rule]] = {}
    for rule in plan.rules:
        for label in labels(rule, plan.rules):
            found.setdefault((rule.position, label), []).append(rule)
        if rule.kind == "abandon":
            found.setdefault((rule.position + "!", "rejected:timeout"), []).append(rule)
    for position, rule in program.compensations.items():  # also where only an abandoned step needs it
        found.setdefault((position, "compensated"), [rule])
    return found


def _called_off_by(fact: Known, rule: Rule, program: Program) -> list[tuple[str, Round, str]]:
    """Name the facts that have called off a step, where its label says so."""
    code = fact.label.removeprefix("rejected:")
    if code == "cancelled":
        return [(CANCEL, (), REQUESTED)]
    if code.startswith("deadline@") and rule.kind in ("run", "wait", "sleep"):
        deadline = code.removeprefix("deadline@")
        return [(deadline, fact.round[: program.deadline_depth.get(deadline, 0)], "fired")]
    return []


def _needs(plan: Plan, program: Program, recorded: Mapping[FactName, Sequence[Rule]]) -> list[frozenset[int] | None]:
    """Give, for each condition, the arms without which it cannot be true; None for what can never be.

    The greatest fixpoint of: an `and` needs what any input needs, an `or` what all of its inputs do, and a fact what
    all rules do that record it. An arm of another round than the condition's is no use, and is left out.
    """
    needs: list[frozenset[int] | None] = [None] * len(plan.conditions)
    depth = program.depth

    def through(source: int, edge: str, node: int) -> frozenset[int] | None:
        got = needs[source]
        if got is None or edge in _SAME_ROUND:
            return got
        deepest = depth[node] - 1 if edge in (NEXT, PREV) else depth[node]
        return frozenset(arm for arm in got if depth[arm] <= deepest)

    def of(i: int) -> frozenset[int] | None:
        c = plan.conditions[i]
        match c.kind:
            case "start":
                return frozenset()
            case "fact":
                rules = recorded.get((c.of[0], c.of[1]))
                return _common([needs[r.when] for r in rules]) if rules else frozenset()
            case "arm":
                got = needs[plan.switches[c.of[0]].trigger]
                return None if got is None else got | {i}
            case "and":
                each = [through(s, edge, i) for s, edge in c.inputs]
                return None if None in each else frozenset().union(*(x for x in each if x is not None))
            case "or":
                return _common([through(s, edge, i) for s, edge in c.inputs])
            case "count":
                begin = plan.conditions[program.begins[c.of[0]]]
                return _common([needs[s] for s, _ in begin.inputs])
        return None

    grown = True
    while grown:
        grown = False
        for i in range(len(plan.conditions)):
            if (got := of(i)) != needs[i]:
                needs[i], grown = got, True
    return needs


def _common(needs: Sequence[frozenset[int] | None]) -> frozenset[int] | None:
    """Give what all of these need; those that can never be true do not count."""
    known = [x for x in needs if x is not None]
    return frozenset.intersection(*known) if known else None
