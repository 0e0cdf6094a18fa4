"""What the reader refuses: the codes with their meaning, and the list that findings are put on."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from typing import Final

from minuet.finding import Finding, Severity

EXPLANATIONS: Final[dict[str, str]] = {
    "M001": "A workflow is read from its source. At a prompt, in exec, or where only bytecode is installed, "
    "there is none.",
    "M002": "A workflow is an `async def` with its input first and its services keyword-only: "
    "`async def place_order(order: Order, *, payments: Payments) -> Receipt`.",
    "M003": "Values travel between services as JSON, so the reader needs the type of each: a plain type, an enum, "
    "a list, tuple or dict of such, or a message type (dataclass, msgspec.Struct, Pydantic model). `Any` says nothing.",
    "M004": "A workflow's body is never executed by a participant. It may contain steps, the words of Minuet and pure "
    "expressions; any other call, method or property belongs into an action.",
    "M005": "Time, randomness and the environment differ from place to place and from moment to moment. "
    "Read them in an action, whose result is a fact, or wait with `sleep`.",
    "M006": "Python would enter an `except` or `finally` at once, while what was done is still to be compensated. "
    "`async with attempt(…) as tried:` goes on after the compensation; then ask `tried.rejected`.",
    "M007": "Every loop has a bound, which is part of the plan: `for _ in range(n)`, with a number or a constant.",
    "M008": "A loop over a list with steps would be one step after another without a bound. "
    "`each(xs, lambda x: …, limit=n)` runs them beside each other; `range(n)` counts rounds.",
    "M009": "A step is performed where it is awaited. Await it on a line of its own, or put it into `together(…)`.",
    "M010": "Values are facts and do not change. Build a new value and give it a name.",
    "M011": "A name may be read where every way that leads there has bound it. What an attempt's body bound is taken "
    "back when the body was rejected, so it may be read where `tried.rejected` is known to be false.",
    "M012": "Who performs a step is part of the plan, so services are not chosen at run time: one arm per service.",
    "M013": "A piece of a workflow is a workflow of its own: an `async def` with `@workflow`, which is then called. "
    "Only `each` takes a lambda.",
    "M014": "A compensation takes what its action gives, takes nothing else, and may not reject.",
    "M015": "The branches beside it still run and must end. Let the branch give a value, and decide after the join.",
    "M016": "The primitives of asyncio live in one process and end with it. `together`, `sleep` and `deadline` are "
    "kept in the plan.",
    "M017": "Workflows are inlined where they are called, so they cannot call each other in a circle; "
    "and what is started from outside takes one input.",
    "M018": "A step has the methods compensate, keep, retry and timeout; each says something that a plan can keep.",
    "M019": "A comment `# minuet: allow CODE because …` stands where nothing of that kind is found.",
}


class Refusals:
    """The findings of one reading, in the order in which they were found."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def add(
        self, code: str, file: str, line: int, column: int, message: str, remedy: str, *, is_note: bool = False
    ) -> None:
        """Put a finding on the list, unless it is there already."""
        finding = Finding(
            code=code,
            file=file,
            line=line,
            column=column,
            message=message,
            remedy=remedy,
            severity=Severity.NOTE if is_note else Severity.ERROR,
        )
        if finding not in self.findings:
            self.findings.append(finding)

    def errors(self) -> list[Finding]:
        """Give what forbids the workflow, in the order of the text."""
        return sorted(
            (f for f in self.findings if f.severity is Severity.ERROR), key=lambda f: (f.file, f.line, f.column)
        )


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Give "did you mean x?" where a known name is like the given one."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def shown(node: ast.AST, *, width: int = 60) -> str:
    """Give a piece of source on one line, with the arguments of calls left out: `requests.get(…)`."""
    if isinstance(node, ast.Call):
        return f"{shown(node.func)}(…)" if node.args or node.keywords else f"{shown(node.func)}()"
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def attribute_name(node: ast.Attribute) -> ast.Name:
    """Give the place of the name behind the dot."""
    end = (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
    return ast.Name(node.attr, lineno=end[0], col_offset=end[1] - len(node.attr.encode()))
