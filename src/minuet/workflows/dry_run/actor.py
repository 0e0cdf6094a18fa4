"""Running actions in a dry run: with the arguments as they would arrive, and with what they want injected."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minuet.contracts.action import ActionSpec, InvalidValue, Rejection
from minuet.contracts.codec import codec_for
from minuet.contracts.handler import Context, Row, Transaction, collecting
from minuet.contracts.service import Service, service_spec
from minuet.contracts.step import performing
from minuet.errors import DeclarationError, InvalidPayload, MisplacedCall
from minuet.workflows.dry_run.trace import Round


class Actor:
    """Runs actions, and keeps what they sent and wrote: `published` events, and `statements` with their arguments."""

    def __init__(self, workflow: str, key: str, provide: Mapping[type, Any]) -> None:
        self.published: list[Any] = []
        self.statements: list[tuple[str, tuple[Any, ...]]] = []
        self._workflow = workflow
        self._key = key
        self._provide = {Transaction: _Recorder(self.statements), **provide}

    async def run(self, service: Service, spec: ActionSpec, position: str, round_: Round, arguments: bytes) -> Any:
        """Run the action of a step.

        Raises:
            InvalidValue: what JSON has made of the arguments does not fit the action.
            DeclarationError: the action rejected with a code that it does not declare.
        """
        try:
            record = codec_for(spec.input).decode(arguments)
        except InvalidPayload as error:
            raise InvalidValue(str(error)) from error
        given = {p.name: getattr(record, p.name) for p in spec.parameters}
        try:
            return await self._call(service, spec, given, self._context(position, round_, arguments, "forward"))
        except Rejection as rejection:
            if rejection.code not in {r.code for r in spec.rejects}:
                raise DeclarationError(
                    f'{_where(service, spec)} rejected with "{rejection.code}", which it does not declare',
                    remedy=f"Declare it: @action(rejects=({type(rejection).__name__},))",
                ) from rejection
            raise

    async def compensate(
        self, service: Service, spec: ActionSpec, position: str, round_: Round, arguments: bytes, result: bytes
    ) -> None:
        """Run a compensation with the result of the step that it undoes, whose arguments its context gives."""
        parameter = spec.parameters[0]
        given = {parameter.name: codec_for(parameter.type).decode(result)}
        await self._call(service, spec, given, self._context(position, round_, arguments, "compensation"))

    async def _call(self, service: Service, spec: ActionSpec, given: dict[str, Any], context: Context) -> Any:
        """Call an action's function; it is not part of the workflow's text."""
        assert spec.function is not None
        where = _where(service, spec)
        injected = {name: self._injected(where, wanted, context) for name, wanted in spec.injected.items()}
        with performing(None), collecting(where, spec.emits) as published:
            value = spec.function(service, **given, **injected)
            value = await value if inspect.isawaitable(value) else value
        self.published.extend(published)
        return value

    def _injected(self, where: str, wanted: Any, context: Context) -> Any:
        if wanted is Context:
            return context
        if wanted in self._provide:
            return self._provide[wanted]
        name = getattr(wanted, "__name__", str(wanted))
        raise MisplacedCall(
            f"{where} wants a {name} injected, and there is none", remedy=f"Give it: provide={{{name}: …}}"
        )

    def _context(self, position: str, round_: Round, arguments: bytes, direction: str) -> Context:
        counted = ".".join(map(str, round_)) or "0"
        return Context(
            run="dry-run",
            key=self._key,
            workflow=self._workflow,
            position=position,
            round=round_,
            op_key=f"dry-run:{position}:{counted}:{direction}:0",
            input_bytes=arguments,
        )


def _where(service: Service, spec: ActionSpec) -> str:
    return f"{service_spec(type(service)).name}.{spec.name}"


class _Recorder:
    """A transaction that keeps statements, and has nothing to be queried."""

    def __init__(self, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        self.statements = statements

    async def execute(self, sql: str, *args: Any) -> int:
        """Keep a statement, as if it had changed one row."""
        self.statements.append((sql, args))
        return 1

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Keep a statement for each row of arguments."""
        every = [tuple(row) for row in rows]
        self.statements.extend((sql, row) for row in every)
        return len(every)

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Refuse to answer."""
        raise _no_answer(sql)

    async def fetch_one(self, sql: str, *args: Any) -> Row | None:
        """Refuse to answer."""
        raise _no_answer(sql)


def _no_answer(sql: str) -> MisplacedCall:
    return MisplacedCall(
        f"a dry run has no store that could answer: {sql}",
        remedy="Give a transaction that can: dry_run(…, provide={Transaction: …})",
    )
