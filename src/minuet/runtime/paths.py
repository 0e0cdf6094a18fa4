"""How something came about, in words: from an event back to what caused it, and round the circle that it may be in.

Rows are read here, and only where something went wrong.
"""

from __future__ import annotations

from minuet.engine import bound
from minuet.engine.effect import circle, entry_of, step_of, step_path
from minuet.engine.row import EffectRow, EventRow
from minuet.errors import StoreError
from minuet.runtime.participant import Participant

CAUSES_TOLD = 8


class Paths:
    """Tells paths by what a participant's store has of them."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._store = participant.store

    async def of_effect(self, row: EffectRow) -> str:
        """Give the path by which an effect came about, back to its root as far as that is still known."""
        entry = entry_of(row.op_key)
        if entry is None:
            return row.causes
        found = await self._store.log_after(entry - 1, 1)
        return row.causes + (await self.before(found[0]) if found and found[0].entry == entry else "")

    async def before(self, event: EventRow) -> str:
        """Give what caused an event, the nearest first, to be added to how the event itself is told; may be empty."""
        told = []
        for _ in range(CAUSES_TOLD):
            cause = event.causes.partition(",")[0]
            if not cause:
                break
            found = await self._store.find_published(None, cause)
            if found is None:
                told.append(await self._step(cause) or f"{cause!r}")
                break
            told.append(f"{found.event}, key {found.key!r}")
            event = found
        return "".join(f", caused by {cause}" for cause in told)

    async def _step(self, cause: str) -> str | None:
        """Give the path to a step that has published something; None where nothing is known of it."""
        step = step_of(cause)
        if step is None:
            return None
        run, position, round_ = step
        k = self._participant.runs.get(run)
        if k is not None:
            return step_path(k.program.plan, position, round_, run, k.key)
        stored = await self._store.load_run(run)
        program = self._participant.programs.get(stored.run.digest) if stored is not None else None
        if stored is None or program is None:
            return None
        return step_path(program.plan, position, round_, run, stored.run.key)

    async def circle_of(self, event: EventRow) -> str:
        """Give the circle in which reactions have caused an event, as types and reactions: `a → s.on_a → b → … → a`."""
        way = [event.event]
        try:
            for _ in range(bound.HOPS + 1):
                cause = event.causes.partition(",")[0]
                found = await self._store.find_published(None, cause) if cause else None
                if found is None:
                    break
                reaction = event.message.partition(":")[0]
                event = found
                way += [reaction, event.event]
        except StoreError:
            pass  # as far as it could be read
        return " → ".join(circle(way[::-1]))
