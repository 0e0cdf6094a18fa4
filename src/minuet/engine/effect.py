"""The effect ledger: an action with an `effect_key` takes effect once for a key, whoever causes it, and by which path.

The row of an effect is recorded in one decision with the fact that the action is done (or, in a reaction, that the
event is applied), so it is there exactly if the effect is. Its `op_key` names what did it: the same again is a
repetition, and is answered with what is recorded; another one is a second cause, which is not performed. Its `causes`
tell the path in words: rows of runs and events are forgotten one day, and an effect stands as long as nobody takes it
back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from minuet.engine import bound
from minuet.engine.answer import Failed
from minuet.engine.row import Decision, EffectKey, EffectRow, EventRow
from minuet.errors import InvalidPayload
from minuet.ids import parse_round, parse_run, round_text, run_text
from minuet.plans.plan import Plan

SECOND_CAUSE: Final = "second-cause"
STEP_PARTS: Final = 5  # run, position, round, direction, generation


def key_of(arguments: bytes, path: Sequence[str]) -> str:
    """Give the business key that arguments (JSON of the action's record) have, by the path to it; numbers as text.

    Raises:
        InvalidPayload: there is none: null, no single value, or too long.
    """
    value = msgspec.json.decode(arguments)
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if value is None or isinstance(value, dict | list) or not 0 < len(text.encode(errors="replace")) <= bound.KEY_BYTES:
        raise InvalidPayload(
            f"{'.'.join(path)} is {text[:40]}, which is no business key",
            remedy=f"An effect_key is a single value of 1 to {bound.KEY_BYTES} bytes",
        )
    return text


def is_settled_by(row: EffectRow, op_key: str, arguments: bytes, *, same: bool) -> bool:
    """Say whether the result of an effect that is recorded answers this cause too.

    It does where the cause is the same, and with `on_second_cause="same"` (`same`) where the arguments are.
    """
    if row.op_key == op_key:
        return True
    return same and msgspec.json.decode(row.arguments) == msgspec.json.decode(arguments)


def second_cause(action: str, key: str, first: str, second: str) -> str:
    """Say that an effect is caused again by another path; `first` and `second` are those paths."""
    return f"{action} took effect for {key!r} already, by {first}; it is caused again by {second}"


def parked(text: str) -> Failed:
    """Give the answer of a second cause: it was not performed, and is parked whatever the policy says."""
    return Failed(f"{SECOND_CAUSE}: {text}", final=True, reason=SECOND_CAUSE)


def was_second(error: str | None) -> bool:
    """Say whether something was parked as a second cause, by the error that is kept of it."""
    return error is not None and error.startswith(f"{SECOND_CAUSE}: ")


def record_effects(decision: Decision, effects: Iterable[EffectRow | EffectKey]) -> None:
    """Record what took effect, and what was taken back, with everything else that a decision says."""
    messages = decision.ensure_messages()
    for effect in effects:
        if isinstance(effect, EffectRow):
            messages.effects = [*messages.effects, effect]
        else:
            messages.effects_done = [*messages.effects_done, effect]


# Paths, in words. What differs from case to case is quoted, so that dead letters of one cause have one fingerprint.


def step_path(plan: Plan, position: str, round_: tuple[int, ...], run: int, key: str | None) -> str:
    """Give the path by which a plan has caused something: step, plan, place in the source, run, key."""
    again = f" round {round_text(round_)!r}" if round_ else ""
    place = plan.places.get(position)
    where = f" ({place[0]}:{place[1]})" if place is not None else ""
    named = f", key {key!r}" if key is not None else ""
    return f"step {position}{again} of {plan.name}{where}, run {run_text(run)!r}{named}"


def reaction_path(subscription: str, place: str, event: EventRow) -> str:
    """Give the path by which an event has caused something: reaction, place in the source (`file:line`), event."""
    return f"the reaction {subscription} ({place}) to {event.event}, key {event.key!r}, event {event.message!r}"


def step_of(op_key: str) -> tuple[int, str, tuple[int, ...]] | None:
    """Give run, position and round of an `op_key` of a step; None where it is no step's."""
    parts = op_key.split(":")
    if len(parts) < STEP_PARTS or (run := parse_run(parts[0])) is None:
        return None
    try:
        round_ = parse_round(parts[2]) if parts[2] != "0" else ()
    except ValueError:
        return None
    return run, parts[1], round_


def entry_of(op_key: str) -> int | None:
    """Give the entry of the event that a reaction heard, from the `op_key` of what it has done; None for any other."""
    parts = op_key.split(":")
    is_reaction = len(parts) < STEP_PARTS and len(parts) > 1 and parts[1].isascii() and parts[1].isdigit()
    return int(parts[1]) if is_reaction else None


def circle(way: Sequence[str]) -> list[str]:
    """Give the shortest circle that a way ends in, with its first member once more; if there is none, the way's end.

    `way`: types of events and the reactions between them, the earliest first.
    """
    for length in range(1, len(way) // 2 + 1):
        if way[-length:] == way[-2 * length : -length]:
            return [way[-1], *way[-length:]]
    return list(way[-8:])
