from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

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


@event("payments.charged", version=1, key="order")
@dataclass(frozen=True)
class Charged:
    order: str


@event("payments.audited", version=1)
@dataclass(frozen=True)
class Audited:
    order: str


class CardDeclined(Rejection, code="card-declined"): ...


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
