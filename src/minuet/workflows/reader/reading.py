"""Reading a workflow: from its function to its tree and signature, or to all that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

from minuet.contracts.action import Rejection, ServiceSpec
from minuet.contracts.message import event_spec
from minuet.errors import WorkflowRefused
from minuet.finding import Finding
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.flow import Flow
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.valuetype import UNKNOWN, ValueType, type_of
from minuet.workflows.reader.signature import Signature, read_signature, schemas_of, service_specs, shape_of
from minuet.workflows.reader.source import MISSING, Source, file_label, source_of
from minuet.workflows.reader.statement import read_statement
from minuet.workflows.refusal import EXPLANATIONS, Refusals
from minuet.workflows.tree import Node, Seq, WorkflowTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reading gives: tree and signature, the types that it waits for and raises, notes that forbid nothing."""

    tree: WorkflowTree
    signature: Signature
    events: dict[str, type]
    rejections: dict[str, type[Rejection]]
    notes: tuple[Finding, ...] = ()


def read(function: FunctionType, name: str | None = None) -> WorkflowTree:
    """Read a workflow into its syntax tree.

    Raises:
        WorkflowRefused: it says something that a plan cannot say; holds everything that was found.
    """
    return read_workflow(function, name).tree


def read_workflow(function: FunctionType, name: str | None = None) -> Reading:
    """Read a workflow, its signature and the notes on it; as `read` otherwise."""
    source = _source(function)
    refusals = Refusals()
    signature = read_signature(source, refusals)
    body = Body(source=source, services=service_specs(signature), refusals=refusals)
    seq = _statements(body, signature, "")
    _note_allowances(source, refusals)
    if errors := refusals.errors():
        raise WorkflowRefused(errors)
    tree = WorkflowTree(
        name=name or source.node.name,
        file=source.file,
        input=next(((input_, shape_of(t)) for input_, t in signature.inputs.items()), None),
        result_shape=shape_of(signature.result),
        services={parameter: spec.name for parameter, spec in body.services.items()},
        body=seq,
        audiences=body.audiences,
        schemas=body.schemas | schemas_of(signature),
        events={name: spec.version for name, cls in body.events.items() if (spec := event_spec(cls)) is not None},
    )
    return Reading(
        tree=tree,
        signature=signature,
        events=body.events,
        rejections=body.rejections,
        notes=tuple(refusals.findings),
    )


def _source(function: FunctionType) -> Source:
    if not isinstance(function, FunctionType):
        raise WorkflowRefused([_finding("M002", "", 1, f"{function!r} is no function", "decorate an async def")])
    source = source_of(function)
    if source is None:
        message = f"the source of {function.__name__} is not available"
        line = function.__code__.co_firstlineno
        raise WorkflowRefused([_finding("M001", file_label(function), line, message, "put it into a file")])
    return source


def _finding(code: str, file: str, line: int, message: str, remedy: str) -> Finding:
    return Finding(code=code, file=file, line=line, column=1, message=message, remedy=remedy)


def _inline(caller: Body, workflow: Any, services: dict[str, ServiceSpec], prefix: str) -> tuple[Node, ValueType]:
    """Read the body of a workflow where another one calls it, with the services that it is given there."""
    signature: Signature = workflow.signature
    body = Body(
        source=_source(workflow.function),
        services=services,
        refusals=caller.refusals,
        events=caller.events,
        rejections=caller.rejections,
        audiences=caller.audiences,
        schemas=caller.schemas,
    )
    return _statements(body, signature, prefix), type_of(signature.result)


def _statements(body: Body, signature: Signature, prefix: str) -> Seq:
    """Read the whole body; its positions begin with the prefix."""
    for name, annotation in signature.inputs.items():
        body.scope.bind(name, UNKNOWN if annotation is MISSING else type_of(annotation))
    node = body.source.node
    return Flow(body, _inline, read_statement).block(node.body, Numbers(prefix), node)


def _note_allowances(source: Source, refusals: Refusals) -> None:
    """Note each comment that allows a refusal of this table: none of them can be allowed."""
    for allowance in source.allowances():
        if allowance.code not in EXPLANATIONS:
            continue  # one of the checks; they know whether it is needed
        is_there = any(f.code == allowance.code and f.line == allowance.line for f in refusals.findings)
        refusals.add(
            "M019",
            source.file,
            allowance.line,
            allowance.column,
            f"{allowance.code} cannot be allowed: a plan has no way to say it"
            if is_there
            else f"nothing here is {allowance.code}",
            "remove the comment",
            is_note=True,
        )
