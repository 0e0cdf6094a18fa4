"""Reads a service's class: the signatures of its methods, and whether what is declared can work."""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_type_hints

import msgspec

from minuet.contracts.action import (
    CANCELLED,
    PLATFORM_CODES,
    ActionSpec,
    Parameter,
    ReactionSpec,
    Rejection,
    ServiceSpec,
)
from minuet.contracts.codec import codec_for, name_of
from minuet.contracts.handler import Context, Injected, Transaction
from minuet.contracts.message import event_spec, field_names
from minuet.contracts.schema import Schema, schema_of, shape_digest
from minuet.contracts.step import Action, ActionOptions, Step
from minuet.errors import DeclarationError, MisplacedCall

_CODE = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def read_service(cls: type, name: str, implements: type | None) -> ServiceSpec:
    """Read the actions and reactions of a class, inherited ones included."""
    members = _members(cls)
    actions = {n: _action(name, m) for n, m in members.items() if isinstance(m, Action)}
    reactions = {n: _reaction(name, m, actions) for n, m in members.items() if hasattr(m, "spec")}
    for spec in list(actions.values()):
        if spec.compensates is not None:
            _pair(name, spec, actions)
    return ServiceSpec(name=name, actions=actions, reactions=reactions, implements=implements)


def bound_arguments(where: str, spec: ActionSpec, step: Step[Any]) -> dict[str, Any]:
    """Give a step's arguments by the names of the action's parameters; those left out have their defaults."""
    assert spec.function is not None
    given = inspect.signature(spec.function).bind(None, *step.arguments, **step.keywords).arguments
    foreign = [name for name in given if name in spec.injected]
    if foreign:
        raise MisplacedCall(
            f"{where} is given {', '.join(foreign)}, which the platform fills in", remedy="Leave it out of the step"
        )
    return {p.name: given[p.name] for p in spec.parameters if p.name in given}


def check_implements(spec: ServiceSpec, contract: ServiceSpec) -> None:
    """Refuse a service that does not perform what its contract promises."""
    for name, promised in contract.actions.items():
        own, where = spec.actions.get(name), f"{spec.name}.{name}"
        if own is None:
            raise DeclarationError(f"{where} is promised by the contract, and missing", remedy="Write the action")
        if [p.name for p in own.parameters] != [p.name for p in promised.parameters] or shape_digest(
            own.input
        ) != shape_digest(promised.input):
            raise DeclarationError(
                f"{where} takes {_listed(own.parameters)}, its contract says {_listed(promised.parameters)}",
                remedy="Make them equal",
            )
        if shape_digest(own.result) != shape_digest(promised.result):
            raise DeclarationError(
                f"{where} returns {name_of(own.result)}, its contract says {name_of(promised.result)}",
                remedy="Make them equal",
            )
        if {r.code for r in own.rejects} - {r.code for r in promised.rejects}:
            raise DeclarationError(
                f"{where} rejects with codes that its contract does not know", remedy="Declare them in the contract"
            )
        if own.private != promised.private:
            raise DeclarationError(
                f"{where} is private={own.private}, its contract says private={promised.private}",
                remedy="Make them equal: workflows are checked against the contract",
            )
        if own.compensates != promised.compensates:
            raise DeclarationError(
                f"{where} compensates {own.compensates}, its contract says {promised.compensates}",
                remedy="Make them equal",
            )


def _members(cls: type) -> dict[str, Any]:
    """Give the declared methods by name, in the order of the text, bases first."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Action) or isinstance(getattr(value, "spec", None), ReactionSpec):
                if value.name != name:
                    raise DeclarationError(
                        f"{cls.__qualname__}.{name} is {value.name} under another name",
                        remedy="Declare each action once, under its own name",
                    )
                found[name] = value
            elif name in found:
                raise DeclarationError(
                    f"{base.__qualname__}.{name} hides an inherited action, and is none itself",
                    remedy="Put @action above it, or give it another name",
                )
    return found


def _action(service: str, action: Action[..., Any]) -> ActionSpec:
    where, function, options = f"{service}.{action.name}", action.function, action.options
    if action.name.startswith("_"):
        raise DeclarationError(f"{where} begins with an underscore", remedy="Actions are public: rename it")
    hints = _hints(where, function)
    parameters, injected = _parameters(where, function, hints)
    if "return" not in hints:
        raise DeclarationError(
            f"{where} does not say what it returns", remedy="Annotate it, with -> None if it returns nothing"
        )
    result = hints["return"]
    for parameter in parameters:
        _travels(f'the parameter "{parameter.name}" of {where}', parameter.type)
    _travels(f"the result of {where}", result)
    _check_rejects(where, options.rejects)
    _check_events(where, options.emits)
    is_async = inspect.iscoroutinefunction(function)
    if not is_async and Transaction in injected.values():
        raise DeclarationError(
            f"{where} is a plain def and asks for the transaction",
            remedy="Make it async: a plain def runs in a thread, where the transaction is not",
        )
    _check_effect_key(where, options, parameters)
    if options.private is not None:
        _check_private(where, options.private, result)
    if options.event is not None:
        _check_events(where, (options.event,))
    event = options.event or (result if event_spec(result) is not None else None)
    return ActionSpec(
        name=action.name,
        parameters=parameters,
        result=result,
        rejects=options.rejects,
        compensates=None if action.compensates is None else action.compensates.name,
        injected=injected,
        is_async=is_async,
        pure=options.pure,
        retry=options.retry,
        timeout_ms=options.timeout_ms,
        attempt_timeout_ms=options.attempt_timeout_ms,
        emits=options.emits,
        touches=options.touches,
        effect_key=options.effect_key,
        on_second_cause=options.on_second_cause,
        event=event,
        outside=options.outside,
        private=options.private,
        function=function,
        input=_record(action.name, parameters),
    )


def _pair(service: str, spec: ActionSpec, actions: dict[str, ActionSpec]) -> None:
    """Tie a compensation to its action, in both directions."""
    where, name = f"{service}.{spec.name}", spec.compensates or ""
    undone = actions.get(name)
    if undone is None:
        raise DeclarationError(
            f"{where} compensates {name}, which is no action of {service}", remedy="Compensate an action of your own"
        )
    if undone.compensates is not None:
        raise DeclarationError(f"{where} compensates {name}, which is a compensation", remedy="Compensate an action")
    if undone.compensation is not None:
        raise DeclarationError(
            f"{service}.{name} has two compensations: {undone.compensation} and {spec.name}", remedy="Keep one"
        )
    if undone.pure:
        raise DeclarationError(
            f"{service}.{name} is pure, and {where} compensates it", remedy="Drop pure=True, or the compensation"
        )
    if not spec.parameters or not _takes(spec.parameters[0].type, undone.result):
        taken = name_of(spec.parameters[0].type) if spec.parameters else "nothing"
        raise DeclarationError(
            f"{where} takes {taken}, and {service}.{name} gives {name_of(undone.result)}",
            remedy=f"The first parameter of a compensation is what its action returns: {name_of(undone.result)}",
        )
    needed = [p.name for p in spec.parameters[1:] if p.required]
    if needed:
        raise DeclarationError(
            f"{where} needs {', '.join(needed)}, and is given nothing but the result of {service}.{name}",
            remedy=f"Return it from {name}; the arguments of {name} are in Context.input(…)",
        )
    actions[name] = replace(undone, compensation=spec.name)


def _reaction(service: str, reaction: Any, actions: dict[str, ActionSpec]) -> ReactionSpec:
    spec: ReactionSpec = reaction.spec
    where, function = f"{service}.{spec.name}", reaction.function
    parameters, injected = _parameters(where, function, _hints(where, function))
    if not parameters or any(p.required for p in parameters[1:]):
        raise DeclarationError(
            f"{where} takes {_listed(parameters)}", remedy=f"A reaction takes the event: {name_of(spec.event)}"
        )
    if parameters[0].type is not spec.event:
        raise DeclarationError(
            f"{where} takes {name_of(parameters[0].type)}, and is subscribed to {name_of(spec.event)}",
            remedy="Make them the same type",
        )
    is_async = inspect.iscoroutinefunction(function)
    if not is_async:
        raise DeclarationError(f"{where} is a plain def", remedy="A reaction is async def")
    _check_events(where, spec.emits)
    if spec.order_key is not None:
        _check_field(where, "order_key", spec.order_key, spec.event)
    if spec.on_compensated is not None and spec.on_compensated not in actions:
        raise DeclarationError(
            f"{where} has on_compensated={spec.on_compensated}, which is no action of {service}",
            remedy="Name an action of the same service",
        )
    if spec.on_compensated is not None:
        _check_takes_back(where, actions[spec.on_compensated], spec.event)
    return replace(spec, parameter=parameters[0].name, injected=injected, is_async=is_async, function=function)


def _check_takes_back(where: str, action: ActionSpec, event: type) -> None:
    taken = action.parameters
    if not taken or taken[0].type is not event or any(p.required for p in taken[1:]):
        raise DeclarationError(
            f"{where} has on_compensated={action.name}, which takes {_listed(taken)}",
            remedy=f"It is called with the event that is taken back, and nothing else: {name_of(event)}",
        )
    if action.effect_key is not None:
        raise DeclarationError(
            f"{where} has on_compensated={action.name}, which declares an effect_key",
            remedy="What is taken back is undone once as it is: name an action without one",
        )
    if not action.is_async:
        raise DeclarationError(
            f"{where} has on_compensated={action.name}, which is a plain def", remedy="Make it async def"
        )


def _hints(where: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise DeclarationError(
            f"an annotation of {where} cannot be read: {error}",
            remedy="Define or import the type at the top of the module",
        ) from error


def _parameters(
    where: str, function: Callable[..., Any], hints: dict[str, Any]
) -> tuple[tuple[Parameter, ...], dict[str, Any]]:
    """Give the parameters that a workflow passes, and those that are injected; `self` is neither."""
    passed, injected = list[Parameter](), dict[str, Any]()
    own = list(inspect.signature(function).parameters.values())
    if not own or own[0].kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        raise DeclarationError(f"{where} is no method", remedy="Its first parameter is self")
    for p in own[1:]:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY):
            raise DeclarationError(
                f'the parameter "{p}" of {where} has no name to pass it by', remedy="Name each parameter"
            )
        if p.name not in hints:
            raise DeclarationError(
                f'the parameter "{p.name}" of {where} has no annotation',
                remedy="Annotate it: its type is needed to carry it between services",
            )
        annotation = hints[p.name]
        if isinstance(p.default, Injected):
            injected[p.name] = annotation
        elif annotation is Transaction or annotation is Context:
            raise DeclarationError(
                f'the parameter "{p.name}: {annotation.__name__}" of {where} is not marked as injected',
                remedy=f"Write {p.name}: {annotation.__name__} = injected()",
            )
        elif p.default is p.empty:
            passed.append(Parameter(name=p.name, type=annotation))
        else:
            passed.append(Parameter(name=p.name, type=annotation, required=False, default=p.default))
    return tuple(passed), injected


def _travels(what: str, type_: Any) -> None:
    if type_ is Any:
        raise DeclarationError(f"{what} is Any, which says nothing", remedy="Name the type")
    try:
        codec_for(type_)
    except DeclarationError as error:
        raise DeclarationError(f"{what} cannot travel: {error.message}", remedy=error.remedy) from error


def _check_rejects(where: str, rejects: Iterable[Any]) -> None:
    seen: dict[str, type] = {}
    for rejection in rejects:
        if not (isinstance(rejection, type) and issubclass(rejection, Rejection)) or rejection is Rejection:
            raise DeclarationError(
                f"{where} rejects with {name_of(rejection)}, which is no declared rejection",
                remedy="Derive it: class CardDeclined(Rejection): …",
            )
        code = rejection.code
        if code in PLATFORM_CODES or code == CANCELLED:
            raise DeclarationError(
                f'{where} rejects with "{code}", which is the platform\'s own code', remedy="Give it another code="
            )
        if not _CODE.fullmatch(code):
            raise DeclarationError(f'{where} rejects with "{code}", which is no code', remedy="Use kebab case")
        if code in seen:
            raise DeclarationError(
                f'{where} rejects twice with "{code}": {name_of(seen[code])} and {name_of(rejection)}',
                remedy="Give one of them another code=",
            )
        seen[code] = rejection


def _check_events(where: str, events: Iterable[type]) -> None:
    for cls in events:
        if event_spec(cls) is None:
            raise DeclarationError(
                f"{where} emits {name_of(cls)}, which is no event", remedy="Declare it: @event(…) above the class"
            )


def _check_effect_key(where: str, options: ActionOptions, parameters: Sequence[Parameter]) -> None:
    if options.effect_key is None:
        if options.on_second_cause != "park":
            raise DeclarationError(
                f"{where} says on_second_cause, and has no effect_key to find one by",
                remedy='Declare it: effect_key="order_id"',
            )
        return
    name, *path = options.effect_key.split(".")
    found = next((p for p in parameters if p.name == name), None)
    if found is None:
        raise DeclarationError(
            f'{where} has effect_key="{options.effect_key}", which is none of its parameters',
            remedy=f"Name one of: {', '.join(p.name for p in parameters) or 'it has none'}",
        )
    schema = schema_of(found.type)
    defs = schema.get("$defs", {})
    for field in path:
        records = [s["properties"] for s in _variants(schema, defs) if "properties" in s]
        if not any(field in properties for properties in records):
            known = ", ".join(dict.fromkeys(f for properties in records for f in properties))
            raise DeclarationError(
                f'{where} has effect_key="{options.effect_key}", and {name} has no such field',
                remedy=f"Name one of: {known}" if known else f"Name {name} itself",
            )
        schema = next(properties[field] for properties in records if field in properties)
        name = f"{name}.{field}"
    if not any(s.get("type") not in ("object", "array", "null") for s in _variants(schema, defs)):
        raise DeclarationError(
            f'{where} has effect_key="{options.effect_key}", which is no single value',
            remedy=f'Name a part of it, as in "{options.effect_key}.id"',
        )


def _variants(schema: Schema, defs: Mapping[str, Schema]) -> list[Schema]:
    """Give what a value may be: the schema itself, what it refers to, or each of its alternatives."""
    if "$ref" in schema:
        return _variants(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return [v for s in schema["anyOf"] for v in _variants(s, defs)]
    return [schema]


def _check_private(where: str, audience: tuple[str, ...], result: Any) -> None:
    if result is None or result is type(None):
        raise DeclarationError(f"{where} is private, and returns nothing", remedy="Leave private= out")
    for name in audience:
        if not isinstance(name, str) or not _CODE.fullmatch(name):
            raise DeclarationError(
                f"{where} is private to {name!r}, which is no name of a service",
                remedy='Name services in kebab case, as in private=("card-billing",)',
            )


def _check_field(where: str, what: str, field: str, event: type) -> None:
    known = field_names(event) or ()
    if field not in known:
        raise DeclarationError(
            f'{where} has {what}="{field}", and {name_of(event)} has no such field',
            remedy=f"Name one of: {', '.join(known)}",
        )


def _takes(parameter: Any, result: Any) -> bool:
    if parameter == result:
        return True
    if isinstance(parameter, type) and isinstance(result, type) and issubclass(result, parameter):
        return True
    return shape_digest(parameter) == shape_digest(result)


def _record(name: str, parameters: Iterable[Parameter]) -> type:
    """Make the type of what a command carries: a field for each parameter."""
    fields = list[Any]()
    for p in parameters:
        if p.required:
            fields.append((p.name, p.type))
        elif isinstance(p.default, (list, dict, set, bytearray)):
            fields.append((p.name, p.type, msgspec.field(default_factory=functools.partial(copy.copy, p.default))))
        else:
            fields.append((p.name, p.type, p.default))
    return msgspec.defstruct(name, fields, kw_only=True)


def _listed(parameters: Iterable[Parameter]) -> str:
    return "(" + ", ".join(f"{p.name}: {name_of(p.type)}" for p in parameters) + ")"
