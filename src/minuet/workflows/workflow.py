"""`@workflow`: a function that was read when its module was imported, and can still be called."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from minuet.contracts.service import Service
from minuet.contracts.step import call_site
from minuet.errors import WorkflowRefused
from minuet.finding import Finding
from minuet.workflows.reader import read_workflow
from minuet.workflows.words import Called

A = TypeVar("A")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
P = ParamSpec("P")


class Workflow(Generic[A, P, R_co]):
    """A process over several services, written once as an `async def` and read from its source.

    `tree` is what was read, `events` are the types of the events that it waits for, by name, and `notes` is what was
    found that does not forbid it. `A` is the type of its input.
    """

    is_workflow: ClassVar[bool] = True

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R_co]], name: str | None = None) -> None:
        reading = read_workflow(function, name)  # type: ignore[arg-type]  # anything else than a function is refused
        self.name = reading.tree.name
        self.function = function
        self.tree = reading.tree
        self.signature = reading.signature
        self.events = reading.events
        self.rejections = reading.rejections
        self.notes: tuple[Finding, ...] = reading.notes
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @property
    def input_type(self) -> Any:
        """The annotation of the input, or None where there is none."""
        return next(iter(self.signature.inputs.values()), None)

    @property
    def result_type(self) -> Any:
        """The annotation of the result."""
        return self.signature.result

    @property
    def services(self) -> dict[str, type[Service]]:
        """The class of each service, by the name of its parameter."""
        return self.signature.services

    def check_startable(self) -> None:
        """Refuse to start a workflow from outside that takes several inputs.

        Raises:
            WorkflowRefused: it takes several, and can only be called by other workflows.
        """
        if len(self.signature.inputs) <= 1:
            return
        place = self.tree.body.place
        finding = Finding(
            code="M017",
            file=self.tree.file,
            line=self.function.__code__.co_firstlineno,
            column=place.column,
            message=f"{self.name} takes {len(self.signature.inputs)} inputs, and start gives one",
            remedy="join them in one type",
        )
        raise WorkflowRefused([finding])

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Called[R_co]:
        """Call it inside another workflow, whose run its steps then belong to."""
        return Called(self, args, kwargs, call_site())

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


class _Decorator(Protocol):
    """What `@workflow(name=…)` gives."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /
    ) -> Workflow[A, Concatenate[A, P], R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[None, P, R]: ...


@overload
def workflow(function: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /) -> Workflow[A, Concatenate[A, P], R]: ...
@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[None, P, R]: ...
@overload
def workflow(*, name: str) -> _Decorator: ...
def workflow(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Read an `async def` as a workflow: `@workflow`, or `@workflow(name="place-order")`.

    Raises:
        WorkflowRefused: it says something that a plan cannot say; holds everything that was found.
    """
    if function is not None:
        return Workflow(function, name)
    return lambda decorated: Workflow(decorated, name)
