"""Reading a service's class: what each method says of itself, and each way in which it cannot work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from minuet import injected
from minuet.contracts.action import Rejection
from minuet.contracts.handler import Transaction
from minuet.contracts.message import event
from minuet.contracts.service import Service, action, compensation, on, service_spec
from minuet.errors import DeclarationError


@dataclass(frozen=True)
class Receipt:
    id: str


@dataclass(frozen=True)
class Hold:
    id: str
    size: int


@event("payments.charged", version=1, key="order")
@dataclass(frozen=True)
class Charged:
    order: str


@event("payments.audited", version=1)
@dataclass(frozen=True)
class Audited:
    order: str


class CardDeclined(Rejection, code="card-declined"): ...


class Slip(msgspec.Struct):
    id: str


class Pool:
    """Something that an app provides."""


def refused(declare: Any) -> str:
    """Give the message with which a declaration is refused, now or when the class is read."""
    with pytest.raises(DeclarationError) as caught:
        service_spec(declare())
    assert caught.value.remedy
    return caught.value.message


class Contract(Service, name="billing"):
    @action(rejects=(CardDeclined,))
    async def charge(self, order: str) -> Receipt:
        raise NotImplementedError

    @compensation(charge)
    async def refund(self, receipt: Receipt) -> None: ...


def test_a_service_may_implement_a_contract_and_has_its_name() -> None:
    class Billing(Service, implements=Contract):
        @action(rejects=(CardDeclined,))
        async def charge(self, order: str, *, tx: Transaction = injected()) -> Receipt:
            return Receipt(order)

        @compensation(charge)
        async def refund(self, receipt: Receipt, *, tx: Transaction = injected()) -> None: ...

    spec = service_spec(Billing)
    assert (spec.name, spec.implements) == ("billing", Contract)


def test_a_service_that_does_not_do_what_its_contract_says_is_refused() -> None:
    class OutOfMoney(Rejection): ...

    def missing() -> type[Service]:
        class Billing(Service, implements=Contract): ...

        return Billing

    def other_parameters() -> type[Service]:
        class Billing(Service, implements=Contract):
            @action(rejects=(CardDeclined,))
            async def charge(self, order: int) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(charge)
            async def refund(self, receipt: Receipt) -> None: ...

        return Billing

    def other_result() -> type[Service]:
        class Billing(Service, implements=Contract):
            @action(rejects=(CardDeclined,))
            async def charge(self, order: str) -> Hold: ...  # type: ignore[empty-body]
            @compensation(charge)
            async def refund(self, hold: Hold) -> None: ...

        return Billing

    def more_codes() -> type[Service]:
        class Billing(Service, implements=Contract):
            @action(rejects=(CardDeclined, OutOfMoney))
            async def charge(self, order: str) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(charge)
            async def refund(self, receipt: Receipt) -> None: ...

        return Billing

    def other_compensation() -> type[Service]:
        class Billing(Service, implements=Contract):
            @action(rejects=(CardDeclined,))
            async def charge(self, order: str) -> Receipt: ...  # type: ignore[empty-body]
            @action
            async def refund(self, receipt: Receipt) -> None: ...

        return Billing

    assert "missing" in refused(missing)
    assert "takes (order: int)" in refused(other_parameters)
    assert "returns Hold" in refused(other_result)
    assert "codes that its contract does not know" in refused(more_codes)
    assert "compensates None" in refused(other_compensation)


def one(function: Any, **options: Any) -> Any:
    """Give a maker of a class with this one action."""
    return lambda: type("Odd", (Service,), {"do": action(**options)(function)})


def test_an_action_names_and_annotates_each_parameter_and_its_result() -> None:
    async def unannotated(self, order) -> None: ...  # type: ignore[no-untyped-def]
    async def without_result(self, order: str): ...  # type: ignore[no-untyped-def]
    async def with_args(self, *orders: str) -> None: ...  # type: ignore[no-untyped-def]
    async def with_kwargs(self, **orders: str) -> None: ...  # type: ignore[no-untyped-def]
    async def positional(self, order: str, /) -> None: ...  # type: ignore[no-untyped-def]
    async def unknown(self, order: Nowhere) -> None: ...  # type: ignore[no-untyped-def,name-defined] # noqa: F821
    async def anything(self, order: Any) -> None: ...  # type: ignore[no-untyped-def]
    async def no_json(self, order: Pool) -> None: ...  # type: ignore[no-untyped-def]
    async def no_json_back(self) -> Pool: ...  # type: ignore[no-untyped-def,empty-body]
    async def without_self() -> None: ...

    wrong: list[Any] = [
        unannotated, without_result, with_args, with_kwargs, positional, unknown, anything, no_json, no_json_back,
        without_self,
    ]  # fmt: skip
    for function in wrong:
        function.__name__ = "do"
        assert "odd.do" in refused(one(function))


def test_what_is_injected_is_marked() -> None:
    async def do(self, tx: Transaction) -> None: ...  # type: ignore[no-untyped-def]

    assert "not marked as injected" in refused(one(do))


def test_a_plain_def_does_not_take_the_transaction() -> None:
    def do(self, tx: Transaction = injected()) -> None: ...  # type: ignore[no-untyped-def]

    assert "plain def" in refused(one(do))


def test_a_code_of_the_platform_is_not_declared() -> None:
    async def do(self) -> None: ...  # type: ignore[no-untyped-def]

    for code in ("timeout", "deadline", "cancelled", "exhausted", "invalid-value", "too-many"):
        rejection = type("Own", (Rejection,), {}, code=code)
        assert "platform's own code" in refused(one(do, rejects=(rejection,)))


def test_rejections_are_declared_and_differ() -> None:
    async def do(self) -> None: ...  # type: ignore[no-untyped-def]

    class First(Rejection, code="same"): ...

    class Second(Rejection, code="same"): ...

    class Odd(Rejection, code="Not Kebab"): ...

    assert "no declared rejection" in refused(one(do, rejects=(ValueError,)))
    assert "no declared rejection" in refused(one(do, rejects=(Rejection,)))
    assert "twice" in refused(one(do, rejects=(First, Second)))
    assert "no code" in refused(one(do, rejects=(Odd,)))


def test_other_options_must_fit() -> None:
    async def do(self, order: str) -> None: ...  # type: ignore[no-untyped-def]

    assert "effect_key" in refused(one(do, effect_key="parcel"))
    assert "no event" in refused(one(do, emits=(Receipt,)))
    assert "no event" in refused(one(do, event=Receipt))
    assert "timeout" in refused(one(do, timeout=-1))
    assert "attempts" in refused(one(do, retry=-1))


@dataclass(frozen=True)
class Customer:
    id: int
    name: str | None = None


@dataclass(frozen=True)
class Basket:
    id: str
    customer: Customer
    lines: tuple[str, ...] = ()


def test_an_effect_key_is_a_single_value_of_the_parameters() -> None:
    async def do(self, basket: Basket, also: Basket | None = None) -> None: ...  # type: ignore[no-untyped-def]

    for fine in ("basket.id", "basket.customer.id", "basket.customer.name", "also.id"):
        spec = service_spec(one(do, effect_key=fine)()).actions["do"]
        assert (spec.effect_key, spec.on_second_cause) == (fine, "park")
    assert (
        service_spec(one(do, effect_key="basket.id", on_second_cause="same")()).actions["do"].on_second_cause == "same"
    )
    assert "basket has no such field" in refused(one(do, effect_key="basket.number"))
    assert "basket.customer has no such field" in refused(one(do, effect_key="basket.customer.number"))
    assert "basket.id has no such field" in refused(one(do, effect_key="basket.id.number"))
    for whole in ("basket", "basket.customer", "basket.lines"):
        assert "no single value" in refused(one(do, effect_key=whole))
    assert "no effect_key" in refused(one(do, on_second_cause="same"))
    assert "on_second_cause" in refused(one(do, effect_key="basket.id", on_second_cause="drop"))


def test_a_compensation_takes_what_its_action_returns_and_nothing_else() -> None:
    def wrong_type() -> type[Service]:
        class Odd(Service):
            @action
            async def do(self) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(do)  # type: ignore[arg-type]
            async def undo(self, hold: Hold) -> None: ...

        return Odd

    def too_much() -> type[Service]:
        class Odd(Service):
            @action
            async def do(self) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(do)
            async def undo(self, receipt: Receipt, reason: str) -> None: ...

        return Odd

    def nothing() -> type[Service]:
        class Odd(Service):
            @action
            async def do(self) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(do)  # type: ignore[arg-type]
            async def undo(self) -> None: ...

        return Odd

    assert "takes Hold, and odd.do gives Receipt" in refused(wrong_type)
    assert "needs reason" in refused(too_much)
    assert "takes nothing" in refused(nothing)


def test_a_compensation_may_take_a_type_of_the_same_shape() -> None:
    class Fine(Service):
        @action
        async def do(self) -> Receipt: ...  # type: ignore[empty-body]
        @compensation(do)  # type: ignore[arg-type]
        async def undo(self, slip: Slip) -> None: ...

    assert service_spec(Fine).actions["do"].compensation == "undo"


def test_a_reaction_takes_its_event() -> None:
    def other_event() -> type[Service]:
        class Odd(Service):
            @on(Charged)  # type: ignore[arg-type]
            async def hear(self, audited: Audited) -> None: ...

        return Odd

    def unknown_field() -> type[Service]:
        class Odd(Service):
            @on(Charged, order_key="parcel")
            async def hear(self, charged: Charged) -> None: ...

        return Odd

    assert "takes Audited, and is subscribed to Charged" in refused(other_event)
    assert 'order_key="parcel"' in refused(unknown_field)
    with pytest.raises(DeclarationError, match="no event"):
        on(Receipt)
    with pytest.raises(DeclarationError, match="7 days"):
        on(Charged, dedup_window=60)
    with pytest.raises(DeclarationError, match="on_gap"):
        on(Charged, on_gap="shrug")  # type: ignore[arg-type]
