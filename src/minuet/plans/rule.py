"""A rule: when this condition holds, this participant does that. And the values that rules read.

| kind | does | records |
| --- | --- | --- |
| `run` | runs the step's action | `ok`, `rejected:<code>` |
| `compensate` | runs the step's compensation | `compensated` |
| `decide` | evaluates a guard, on the record | `chosen:<label>` |
| `wait` | waits for an outside event | `ok`, `fired` when it ran out |
| `sleep` | sets a timer | `fired` |
| `timeout` | gives up on a step that has no outcome in time; whoever runs it decides | `rejected:timeout` at the step |
| `abandon` | the same, but the owner decides at once, at a position of its own | `rejected:timeout` at the verdict |
| `verdict` | repeats the outcome of a step that may be abandoned | the outcome, at the verdict's position |
| `deadline` | sets a timer that cancels a block | `fired` |
| `disarm` | the block has ended: its deadline has nothing left to do | nothing |
| `mark` | a joiner's fact: `ok` with the results, `back`, `failed:<code>`, `gone` | that |
| `reject` | the workflow's own text says no | nothing: the condition is enough |
| `end` | the run has ended | nothing: the run's row says so |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from minuet.plans.condition import Scope
from minuet.workflows import expression


@dataclass(slots=True, kw_only=True)
class Rule:
    """One rule. `when` is a condition; `scope` that condition's; `arguments` are (name, value index).

    What else a kind needs is in `about` (JSON): for `run` the step's policies, for `wait` the event, and so on.
    """

    kind: str
    position: str
    when: int
    scope: Scope
    who: str
    arguments: list[tuple[str, int]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Value:
    """A value that rules read. It stands in a scope, as conditions do.

    | kind | is | `of` |
    | --- | --- | --- |
    | `input` | the run's input | |
    | `out` | the value of the outcome at a position | position |
    | `expression` | a pure expression over other values | expression with `("var", value index)` |
    | `phi` | the value of the first alternative whose condition holds | ((condition, value), …) |
    | `index` | the round of the innermost block | |
    | `item` | an element of a list, by the innermost round | list value |
    | `list` | what the body of an `each` gave, in order | each block, body value |
    | `head` | what a loop hands from round to round | first value, next value |
    | `left` | a value of the round in which a block was left | condition with EXIT edges, inner value |
    """

    kind: str
    scope: Scope
    of: tuple[Any, ...] = ()

    @property
    def below(self) -> list[int]:
        """The values that this one reads."""
        match self.kind:
            case "expression":
                return sorted(expression.variables(self.of[0]))
            case "phi":
                return [v for _, v in self.of]
            case "item":
                return [self.of[0]]
            case "list" | "left":
                return [self.of[1]]
            case "head":
                return list(self.of)
        return []


@dataclass(slots=True, kw_only=True)
class Switch:
    """A guard, evaluated once its trigger holds. `arms` are the conditions of true, false and error (FALSE: none)."""

    position: str
    trigger: int
    scope: Scope
    guard: int
    arms: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A loop or an `each`: what gives conditions and values their rounds. `over` is the list of an `each`."""

    kind: str
    position: str
    limit: int
    over: int | None = None
    at_once: int | None = None
    ended: int | None = None  # condition (inside) of an element that has ended, for `at_once`


def labels(r: Rule, rules: Sequence[Rule]) -> list[str]:
    """Give the labels that a rule may record at its position."""
    match r.kind:
        case "run":
            return ["ok", *(f"rejected:{c}" for c in r.about["codes"])]
        case "compensate":
            return ["compensated"]
        case "verdict":
            of = next(x for x in rules if x.kind == "run" and x.position == r.about["of"])
            return ["ok", *(f"rejected:{c}" for c in of.about["codes"])]
        case "decide":
            return ["chosen:then", "chosen:else", "rejected:invalid-value"]
        case "wait":
            return ["ok", "fired", *(f"rejected:{c}" for c in r.about["codes"])]
        case "sleep":
            return ["fired", *(f"rejected:{c}" for c in r.about["codes"])]
        case "deadline":
            return ["fired", "gone"]
        case "fork":
            return ["ok", "failed:too-many", "failed:invalid-value"]
        case "mark" if r.about["label"] == "failed":
            return [f"failed:{c}" for c in r.about["codes"]]
        case "mark":
            return [r.about["label"]]
    return []
