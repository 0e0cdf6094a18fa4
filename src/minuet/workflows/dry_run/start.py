"""`dry_run`: executes a workflow as ordinary Python, and tells what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from minuet.contracts.action import Rejection
from minuet.contracts.codec import codec_for
from minuet.contracts.service import Service
from minuet.contracts.step import performing
from minuet.workflows.dry_run.actor import Actor
from minuet.workflows.dry_run.performer import Performer
from minuet.workflows.dry_run.script import Script
from minuet.workflows.dry_run.trace import Entry

if TYPE_CHECKING:
    from minuet.workflows.workflow import Workflow

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun(Generic[R]):
    """What became of a dry run.

    `result` is None and `rejection` a code when it was rejected; `raised` is the rejection itself. `trace` has the
    facts in the order in which they came about, `published` the events that handlers sent, and `statements` what
    they would have written, as (text, arguments).
    """

    result: R | None
    rejection: str | None
    raised: Rejection | None
    trace: list[Entry]
    published: list[Any]
    statements: list[tuple[str, tuple[Any, ...]]]


async def dry_run(
    flow: Workflow[A, P, R],
    input: A,
    /,
    *,
    outcomes: Mapping[str, Sequence[Any]] | None = None,
    events: Mapping[str, Sequence[Any]] | None = None,
    deadlines: Collection[str] = (),
    provide: Mapping[type, Any] | None = None,
    key: str = "dry-run",
    **services: Service,
) -> DryRun[R]:
    """Execute a workflow as ordinary Python, and tell what became of it.

    What an action raises, other than a declared rejection, reaches the caller: nothing is tried again. Sleeps take
    no time. A transaction takes statements and keeps them for `DryRun.statements`; each counts as one changed row,
    and a query is refused, since there is nothing to query: provide a transaction of your own where one is needed.

    Args:
        flow: the workflow.
        input: its input; None where it takes none.
        outcomes: what steps answer instead of running, in the order in which they are reached: by
            `"service.action"` or by position, a list of results and rejections. `...` in it lets the action run, and
            so does the end of the list.
        events: what waits see, in the same way: by the name of the event's type or by position, a list of events.
            None in it is a wait that runs out, and so is the end of the list.
        deadlines: positions of deadlines that pass, as soon as they are set.
        provide: what is injected into actions, by type.
        key: the business key of the run.
        **services: the services, under the names of the workflow's parameters.

    Raises:
        NotFound: a wait without a timeout has no event, or a name above is none of the workflow's.
    """
    script = Script(flow.tree, outcomes or {}, events or {}, deadlines)
    actor = Actor(flow.name, key, provide or {})
    performer = Performer(flow.tree, script, actor)
    arguments = () if flow.tree.input is None else (_as_it_arrives(input, flow.input_type),)
    result, raised = None, None
    with performing(performer):
        try:
            returned = await performer.execute(flow.function, arguments, services)
            result = _as_it_arrives(returned, flow.result_type)
        except Rejection as rejection:
            raised = rejection
            await performer.undo_all()
    return DryRun(
        result=result,
        rejection=None if raised is None else raised.code,
        raised=raised,
        trace=performer.trace.entries,
        published=actor.published,
        statements=actor.statements,
    )


def _as_it_arrives(value: Any, type_: Any) -> Any:
    """Give a value as it would be after travelling as JSON."""
    codec = codec_for(type_)
    return codec.decode(codec.encode_checked(value))
