"""What a subscription does, when it begins, about what the last process left under way."""

from __future__ import annotations

import logging

from minuet.engine import inbox
from minuet.engine.dead_letter import Reason
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.port import LetterFilter
from minuet.engine.row import DeliveryKey
from minuet.runtime.participant import Participant

log = logging.getLogger("minuet")

BATCH = 256


async def take_over(participant: Participant, policy: Policy) -> None:
    """Count as failed what was running when the process ended, and take up what this release knows at last."""
    while running := await participant.store.deliveries_running(policy.subscription, BATCH):
        for row, event, _ in running:
            delivery = Delivery(event, row.entry, row.key, row)
            await participant.record(inbox.crashed(policy, delivery, participant.clock.now_ms()))
    await _revive(participant, policy)


async def begin_anew(participant: Participant, policy: Policy) -> None:
    """Drop what a former process was still to apply: it was for that process alone. Dead letters stay."""
    store, subscription, dropped = participant.store, policy.subscription, 0
    while True:
        rows = await store.deliveries_open(subscription)
        left = {entry for _, entry, state in rows if state in ("waiting", "running")}
        for key in {key for key, _, state in rows if state == "held"}:
            left.update(x.delivery.entry for x in await store.deliveries_held(subscription, key, BATCH))
        left.update(d.entry for d in await store.deliveries_streamed(subscription) if d.state in ("early", "held"))
        if not left:
            break
        decision = policy.decision()
        decision.ensure_messages().deliveries_done = [DeliveryKey(subscription, entry) for entry in left]
        await participant.record(decision)
        dropped += len(left)
    if dropped:
        log.info("%s: %s events were for a process that is gone", policy.name, dropped)


async def _revive(participant: Participant, policy: Policy) -> None:
    """Take up what was too new for the last release, and is not for this one."""
    which = LetterFilter(subscription=policy.name, reason=Reason.NEWER_VERSION, limit=BATCH)
    while letters := await participant.store.dead_letters(which):
        now = participant.clock.now_ms()
        known = [x for x in letters if x.event.version <= policy.version]
        if known:
            decision = policy.decision()
            decision.ensure_messages().deliveries = [inbox.make_due(x.delivery, now) for x in known]
            await participant.record(decision)
        last = letters[-1].delivery
        which = LetterFilter(
            subscription=which.subscription,
            reason=which.reason,
            limit=which.limit,
            after=(last.last_at_ms, last.subscription, last.entry),
        )
