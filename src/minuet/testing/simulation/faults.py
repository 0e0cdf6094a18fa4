"""What may go wrong in a world, and how often."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

from minuet.errors import SettingsError
from minuet.testing.simulation.chance import Chance


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Rates: of what befalls a process, how often a simulated second; of what befalls an operation, a share, 0 to 1."""

    # Of some process, a second
    crash: float = 0.0
    pause: float = 0.0
    zombie: float = (
        0.0  # of those that share a store: it stands still in the midst of a commit, for longer than a lease
    )
    clock_jump: float = 0.0
    partition: float = 0.0  # from the broker, and from the database of others
    # Of the database and the broker themselves, a second
    database_restart: float = 0.0
    broker_crash: float = 0.0
    # Of commits and reads
    unknown_applied: float = 0.0  # the answer to a commit is lost, and it was done
    unknown_lost: float = 0.0  # … and it was not
    busy: float = 0.0
    full: float = 0.0
    read_error: float = 0.0
    # Of messages
    publish_lost: float = 0.0  # lost before it was confirmed
    confirm_lost: float = 0.0  # taken, and the confirm is lost
    acknowledgement_lost: float = 0.0  # handled, and delivered again
    duplicate: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    # Of calls to the world outside
    call_lost: float = 0.0  # the call fails, and had no effect
    reply_lost: float = 0.0  # the call fails, and had its effect
    # Of attempts of actions
    failure: float = 0.0  # an exception, before it begins

    @classmethod
    def all(cls) -> Self:
        """Give the rates at which everything happens often enough to be seen, and runs still get on."""
        return cls(
            crash=1.0, pause=0.2, zombie=0.2, clock_jump=0.2, partition=0.2, database_restart=0.03, broker_crash=0.05,
            unknown_applied=0.03, unknown_lost=0.03, busy=0.01, full=0.005, read_error=0.02,
            publish_lost=0.03, confirm_lost=0.05, acknowledgement_lost=0.1, duplicate=0.1, delay=0.15, reorder=0.2,
            call_lost=0.03, reply_lost=0.03, failure=0.03,
        )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `all`, `none`, or names with commas: `crash,duplicate`, each as often as in `all`; `crash=1.5`.

        Raises:
            SettingsError: there is no such fault, or its rate is no number from 0 on, or no share.
        """
        if text in ("all", "none"):
            return cls.all() if text == "all" else cls()
        every, chosen = cls.all(), dict[str, float]()
        for part in text.split(","):
            name, _, rate = part.strip().partition("=")
            if name not in FAULTS:
                raise SettingsError(f"there is no fault {name!r}", remedy=f"Known: all, none, {', '.join(FAULTS)}")
            try:
                chosen[name] = float(rate) if rate else getattr(every, name)
            except ValueError:
                chosen[name] = -1.0
            if name in _A_SECOND:
                if not 0 <= chosen[name] < float("inf"):
                    raise SettingsError(f"{rate!r} is no rate", remedy=f"Give a number from 0 on, as in {name}=0.5")
            elif not 0 <= chosen[name] <= 1:
                raise SettingsError(f"{rate!r} is no share", remedy=f"Give a number from 0 to 1, as in {name}=0.1")
        return cls(**chosen)

    def drawn(self, chance: Chance) -> Self:
        """Give some of these faults, each at a rate of its own: worlds differ in what goes wrong in them."""
        r = chance.stream("faults")
        rates = {name: getattr(self, name) * (0.0 if r.random() < 0.3 else 2 * r.random()) for name in FAULTS}
        return replace(
            self, **{name: min(rate, 0.5) if name not in _A_SECOND else rate for name, rate in rates.items()}
        )

    @property
    def none(self) -> bool:
        """Whether nothing goes wrong."""
        return not any(getattr(self, name) for name in FAULTS)


FAULTS = tuple(f.name for f in fields(Faults))
_A_SECOND = frozenset({"crash", "pause", "zombie", "clock_jump", "partition", "database_restart", "broker_crash"})
