"""What a handler wants done, as data.

The rule, enforced once, in the driver: `records` become durable, and only then do
`sends_after_sync` leave (R3); they also wait for every record the role emitted *before*, so that
the answer to a repeated request cannot overtake the record that the first one made. That list is
the safe default. `sends_now` is for what vouches for nothing on the role's own disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_paxos.core.events import Event
from ray_paxos.core.messages import Address, Message
from ray_paxos.core.records import Record
from ray_paxos.core.tasks import Task


@dataclass(frozen=True, slots=True)
class Send:
    """One message on its way: to whom, about which group.

    Attributes:
        to: To whom.
        group: About which group.
        message: It.
        config_id: The configuration that it counts under, where that is not the role's own.
    """

    to: Address
    group: int
    message: Message
    config_id: int | None = None


@dataclass(slots=True)
class Effects:
    """All that one handler call asks of the world; a handler fills it and returns it.

    Attributes:
        records: To make durable, in order.
        sends_after_sync: To leave once these and all earlier records are durable.
        sends_now: To leave at once.
        tasks: For the store, beside the records; answered through `on_outcome`.
        events: What happened, for observers.
    """

    records: list[Record] = field(default_factory=list)
    sends_after_sync: list[Send] = field(default_factory=list)
    sends_now: list[Send] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def extend(self, other: Effects) -> None:
        """Append another call's effects after this one's."""
        self.records += other.records
        self.sends_after_sync += other.sends_after_sync
        self.sends_now += other.sends_now
        self.tasks += other.tasks
        self.events += other.events
