"""The signature of a workflow: its input, its services, its result."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from minuet.contracts.schema import schema_of, shape_digest
from minuet.contracts.service import Service, service_spec
from minuet.errors import DeclarationError
from minuet.workflows.reader.pure.valuetype import Opaque, type_of
from minuet.workflows.reader.source import MISSING, Source
from minuet.workflows.refusal import Refusals

_SHAPE = "a workflow is an async def (input, *, service: Service…)"


@dataclass(slots=True)
class Signature:
    """What a workflow takes and gives, as annotations. Only what is called by others may have several inputs."""

    inputs: dict[str, Any] = field(default_factory=dict)
    services: dict[str, type[Service]] = field(default_factory=dict)
    result: Any = None


def read_signature(source: Source, refusals: Refusals) -> Signature:
    """Read the signature of a workflow; what is wrong with it goes on the list."""
    node, signature = source.node, Signature()

    def refuse(code: str, at: ast.AST, message: str, remedy: str) -> None:
        source.refuse(refusals, code, at, message, remedy)

    if isinstance(node, ast.FunctionDef):
        refuse("M002", node, f"{node.name} is a plain def", f"write async def: {_SHAPE}")
    for variadic in filter(None, (node.args.vararg, node.args.kwarg)):
        stars = "*" if variadic is node.args.vararg else "**"
        refuse("M002", variadic, f"{node.name} takes {stars}{variadic.arg}", f"name each parameter: {_SHAPE}")
    for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
        refuse("M002", default, f"a parameter of {node.name} has a default", f"leave it out: {_SHAPE}")
    for parameter in (*node.args.posonlyargs, *node.args.args):
        annotation = _annotation(source, refusals, parameter)
        if _is_service(annotation):
            refuse("M002", parameter, f'the service "{parameter.arg}" is positional', f"put it behind a *: {_SHAPE}")
            signature.services[parameter.arg] = annotation
            continue
        signature.inputs[parameter.arg] = annotation
        if annotation is not MISSING:
            _carried(source, refusals, parameter.annotation or parameter, f'"{parameter.arg}"', annotation)
    for parameter in node.args.kwonlyargs:
        annotation = _annotation(source, refusals, parameter)
        if _is_service(annotation):
            signature.services[parameter.arg] = annotation
        elif annotation is not MISSING:
            refuse(
                "M002",
                parameter,
                f'"{parameter.arg}" is keyword-only, and no service',
                f"put it before the *: {_SHAPE}",
            )
            signature.inputs[parameter.arg] = annotation
        else:
            signature.inputs[parameter.arg] = annotation
    if not node.args.kwonlyargs and not signature.services:
        refuse("M002", node, f"{node.name} has no services", f"name them keyword-only: {_SHAPE}")
    _result(source, refusals, signature)
    return signature


def service_specs(signature: Signature) -> dict[str, Any]:
    """Give what each service of a signature declares, by the parameter."""
    return {name: service_spec(cls) for name, cls in signature.services.items()}


def shape_of(annotation: Any) -> str:
    """Give the digest of a type's shape; empty for a type that was refused."""
    try:
        return "" if annotation is MISSING else str(shape_digest(annotation))
    except DeclarationError:
        return ""


def schemas_of(signature: Signature) -> dict[str, dict[str, Any]]:
    """Give the schema of the input of a workflow that is started from outside, under the position ""."""
    annotation = next(iter(signature.inputs.values()), MISSING)
    return {"": schema_of(annotation)} if shape_of(annotation) else {}


def _result(source: Source, refusals: Refusals, signature: Signature) -> None:
    node = source.node
    if node.returns is None:
        source.refuse(
            refusals, "M003", node, f"{node.name} does not say what it returns",
            "annotate it, with -> None if it returns nothing",
        )  # fmt: skip
        return
    annotation = source.annotation(source.function.__annotations__.get("return"))
    if annotation is MISSING:
        _unknown(source, refusals, node.returns)
        return
    signature.result = None if annotation is type(None) else annotation
    _carried(source, refusals, node.returns, "the result", annotation)


def _annotation(source: Source, refusals: Refusals, parameter: ast.arg) -> Any:
    if parameter.annotation is None:
        source.refuse(
            refusals, "M003", parameter, f'the type of "{parameter.arg}" is needed to carry it between services',
            f"annotate it: {parameter.arg}: …",
        )  # fmt: skip
        return MISSING
    annotation = source.annotation(source.function.__annotations__.get(parameter.arg))
    if annotation is MISSING:
        _unknown(source, refusals, parameter.annotation)
    return annotation


def _unknown(source: Source, refusals: Refusals, annotation: ast.expr) -> None:
    source.refuse(
        refusals, "M003", annotation, f"the type {ast.unparse(annotation)} is not known where the workflow is read",
        "define or import it above the workflow, at the top of the module",
    )  # fmt: skip


def _carried(source: Source, refusals: Refusals, node: ast.AST, what: str, annotation: Any) -> None:
    """Refuse a type that cannot travel."""
    if type_of(annotation) == Opaque("Any"):
        source.refuse(
            refusals,
            "M003",
            node,
            f"the type of {what} is Any, which says nothing",
            "name a type, so that it can be carried",
        )
        return
    try:
        shape_digest(annotation)
    except DeclarationError as error:
        source.refuse(
            refusals, "M003", node, f"{what} cannot travel: {error.message}", error.remedy or "take another type"
        )


def _is_service(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Service)
