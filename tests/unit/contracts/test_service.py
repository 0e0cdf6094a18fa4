from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from minuet import injected
from minuet.contracts.action import Outside, Rejection, RetryPolicy
from minuet.contracts.codec import codec_for
from minuet.contracts.handler import Context, Transaction
from minuet.contracts.message import event
from minuet.contracts.service import Service, action, compensation, on, outside, service_spec
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


class Payments(Service):
    @action(
        rejects=(CardDeclined,), retry=5, timeout=30, attempt_timeout=timedelta(seconds=10), emits=(Audited,),
        touches="account", effect_key="order",
    )  # fmt: skip
    async def charge(
        self,
        order: str,
        amount: Decimal,
        card: str = "none",
        *,
        tx: Transaction = injected(),
        context: Context = injected(),
        pool: Pool = injected(),
    ) -> Receipt:
        return Receipt(order)

    @compensation(charge, retry=RetryPolicy(first_ms=500))
    async def refund(self, receipt: Receipt, *, tx: Transaction = injected()) -> None: ...

    @action(pure=True)
    def limit(self) -> int:
        return 5

    @action
    async def announce(self, order: str) -> Charged:
        return Charged(order)

    @on(Charged, order_key="order", emits=(Audited,))
    async def audit(self, charged: Charged, tx: Transaction = injected()) -> None: ...


def refused(declare: Any) -> str:
    """Give the message with which a declaration is refused, now or when the class is read."""
    with pytest.raises(DeclarationError) as caught:
        service_spec(declare())
    assert caught.value.remedy
    return caught.value.message


def test_a_class_is_read_into_data() -> None:
    spec = service_spec(Payments)
    assert spec.name == "payments"
    assert list(spec.actions) == ["charge", "refund", "limit", "announce"]
    charge = spec.actions["charge"]
    assert [(p.name, p.type, p.required, p.default) for p in charge.parameters] == [
        ("order", str, True, None),
        ("amount", Decimal, True, None),
        ("card", str, False, "none"),
    ]
    assert charge.result is Receipt
    assert charge.rejects == (CardDeclined,)
    assert charge.injected == {"tx": Transaction, "context": Context, "pool": Pool}
    assert (charge.compensation, charge.compensates, charge.is_async, charge.pure) == ("refund", None, True, False)
    assert charge.retry == RetryPolicy(attempts=5)
    assert (charge.timeout_ms, charge.attempt_timeout_ms) == (30_000, 10_000)
    assert (charge.emits, charge.touches, charge.effect_key) == ((Audited,), ("account",), "order")


def test_a_compensation_knows_its_action() -> None:
    refund = service_spec(Payments).actions["refund"]
    assert (refund.compensates, refund.compensation, refund.retry) == ("charge", None, RetryPolicy(first_ms=500))


def test_a_plain_def_runs_in_a_thread() -> None:
    limit = service_spec(Payments).actions["limit"]
    assert (limit.is_async, limit.pure, limit.parameters) == (False, True, ())


def test_an_outcome_is_published_under_the_type_of_the_result() -> None:
    assert service_spec(Payments).actions["announce"].event is Charged
    assert service_spec(Payments).actions["charge"].event is None

    class Billing(Service):
        @action(event=Charged)
        async def charge(self, order: str) -> Receipt: ...  # type: ignore[empty-body]

    assert service_spec(Billing).actions["charge"].event is Charged


def test_a_service_knows_everything_that_it_may_publish() -> None:
    assert set(service_spec(Payments).emits) == {Audited, Charged}


def test_a_reaction_is_stored_with_its_policies() -> None:
    audit = service_spec(Payments).reactions["audit"]
    assert (audit.event, audit.parameter, audit.injected) == (Charged, "charged", {"tx": Transaction})
    assert (audit.order_key, audit.poison, audit.on_gap, audit.dedup_window_ms) == (
        "order",
        "block",
        "park",
        604_800_000,
    )
    assert audit.function is not None


def test_the_input_is_a_record_of_the_parameters() -> None:
    charge = service_spec(Payments).actions["charge"]
    codec = codec_for(charge.input)
    assert codec.encode(charge.input(order="o", amount=Decimal(5))) == b'{"order":"o","amount":"5","card":"none"}'
    record = codec.decode(b'{"order":"o","amount":"5.50"}')
    assert (record.order, record.amount, record.card) == ("o", Decimal("5.50"), "none")


def test_a_class_is_read_once() -> None:
    assert service_spec(Payments) is service_spec(Payments)


def test_names_are_in_kebab_case_or_given() -> None:
    class HTTPGate(Service): ...

    class Renamed(Service, name="card-billing"): ...

    assert service_spec(HTTPGate).name == "http-gate"
    assert service_spec(Renamed).name == "card-billing"


@pytest.mark.parametrize("name", ["Card", "card_billing", "-card", "card--billing", "1card", "card:billing"])
def test_a_name_that_is_not_in_kebab_case_is_refused(name: str) -> None:
    def declare() -> type[Service]:
        class Billing(Service, name=name): ...

        return Billing

    assert name in refused(declare)


def test_inherited_actions_count_and_may_be_replaced() -> None:
    class Longer(Payments):
        @action(rejects=(CardDeclined,))
        async def charge(self, order: str, amount: Decimal) -> Receipt:  # type: ignore[override]
            return Receipt(order)

        @action
        async def more(self) -> None: ...

    spec = service_spec(Longer)
    assert spec.name == "longer"
    assert set(spec.actions) == {"charge", "refund", "limit", "announce", "more"}
    assert len(spec.actions["charge"].parameters) == 2
    assert spec.actions["charge"].compensation == "refund"
    assert service_spec(Payments).actions["charge"].parameters[2].name == "card"


def test_hiding_an_action_with_something_else_is_refused() -> None:
    def declare() -> type[Service]:
        class Longer(Payments):
            async def charge(self) -> None: ...  # type: ignore[override]

        return Longer

    assert "hides an inherited action" in refused(declare)


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


def test_a_compensation_neither_rejects_nor_times_out() -> None:
    for wrong in ({"rejects": (CardDeclined,)}, {"timeout": 5}, {"pure": True}):
        with pytest.raises(DeclarationError, match="a compensation has no"):
            compensation(Payments.charge, **wrong)


def test_an_action_has_one_compensation_and_a_pure_one_none() -> None:
    def two() -> type[Service]:
        class Odd(Service):
            @action
            async def do(self) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(do)
            async def undo(self, receipt: Receipt) -> None: ...
            @compensation(do)
            async def undo_again(self, receipt: Receipt) -> None: ...

        return Odd

    def pure() -> type[Service]:
        class Odd(Service):
            @action(pure=True)
            async def do(self) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(do)
            async def undo(self, receipt: Receipt) -> None: ...

        return Odd

    def of_another() -> type[Service]:
        class Odd(Service):
            @compensation(Payments.charge)
            async def undo(self, receipt: Receipt) -> None: ...

        return Odd

    def of_a_compensation() -> type[Service]:
        class Odd(Service):
            @action
            async def do(self) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(do)
            async def undo(self, receipt: Receipt) -> Receipt: ...  # type: ignore[empty-body]
            @compensation(undo)
            async def redo(self, receipt: Receipt) -> None: ...

        return Odd

    assert "two compensations" in refused(two)
    assert "is pure" in refused(pure)
    assert "no action of odd" in refused(of_another)
    assert "which is a compensation" in refused(of_a_compensation)


def test_one_method_has_one_decorator() -> None:
    with pytest.raises(DeclarationError, match="declared twice"):
        action(action(lambda self: None))  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="no action"):
        compensation(len)  # type: ignore[arg-type]

    async def yields(self: Any) -> Any:
        yield 1

    with pytest.raises(DeclarationError, match="yields"):
        action(yields)


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


def test_a_call_outside_says_how_it_may_be_repeated() -> None:
    def find() -> None: ...

    assert outside(idempotency="key") == Outside(idempotency="key")
    assert outside(idempotency="lookup", find=find) == Outside(idempotency="lookup", find="find")
    with pytest.raises(DeclarationError, match="find="):
        outside(idempotency="lookup")
    with pytest.raises(DeclarationError, match="idempotency"):
        outside(idempotency="hope")  # type: ignore[arg-type]


def test_only_a_service_is_read() -> None:
    for wrong in (Service, Receipt, Payments()):
        with pytest.raises(DeclarationError, match="no service"):
            service_spec(wrong)  # type: ignore[arg-type]
