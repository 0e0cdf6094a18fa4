"""The border guard: who may say what of a run. A fact is its owner's to record, a command its commander's to give.

What anybody else says is kept for a person, and nothing follows from it.
"""

from __future__ import annotations

from minuet.engine.program import CANCEL, START_POSITION
from minuet.engine.row import ASKED, ASKED_BACK
from minuet.plans.placement import HOME
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule


class Border:
    """Who may say what of the runs of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._conductors = plan.conductors()
        self._by_position: dict[str, list[Rule]] = {}
        for rule in plan.rules:
            self._by_position.setdefault(rule.position, []).append(rule)
        self._switches = {switch.position for switch in plan.switches}
        self._all = frozenset({HOME, *plan.services(), *(r.who for r in plan.rules)})

    def may_say(self, address: str, position: str, label: str, home: str) -> bool:
        """Say whether whoever is reached at this address may say this of a run that ends at this home."""
        names = self.sayers(position, label)
        return address in names or (address == home and not names.isdisjoint(self._conductors | {HOME}))

    def sayers(self, position: str, label: str) -> frozenset[str]:
        """Give the names of those who may say something; home stands for whoever the run ends at."""
        if position in (START_POSITION, CANCEL):
            return frozenset({HOME})
        if position in self._switches:
            return self._all  # everybody whose rules stand on the choice evaluates it
        rules = self._by_position.get(position, [])
        compensations = {r.about["compensation"][0] for r in rules if r.about.get("compensation")}
        if label == "compensated":
            return frozenset(compensations)
        if label == ASKED:
            return frozenset(r.who for r in rules if r.kind == "run")
        if label == ASKED_BACK:
            return frozenset(n for r in rules for n in (r.who, r.about.get("service", r.who)))
        verdicts = {r.who for r in self._by_position.get(position.removesuffix("!"), []) if r.kind == "abandon"}
        if label == "ok":
            return frozenset({r.about["service"] if r.kind == "run" else r.who for r in rules} | verdicts)
        return frozenset({n for r in rules for n in (r.who, r.about.get("service", r.who))} | verdicts)
