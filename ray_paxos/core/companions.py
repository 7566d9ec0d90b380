"""What a master knows of the other members, to choose whom it hands over to, and who may vote."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Companions:
    """The other members, by what their learners tell.

    Attributes:
        priorities: By member; 1 where there is none.
        heard_ns: By member, when its learner last told how far it is,
        learned: and how far that was.
        arrived: Members whose log has come, durably, to the group's configuration.
        settled_ns: By member, since when it keeps up.
    """

    priorities: dict[int, int]
    heard_ns: dict[int, int] = field(default_factory=dict)
    learned: dict[int, int] = field(default_factory=dict)
    arrived: set[int] = field(default_factory=set)
    settled_ns: dict[int, int] = field(default_factory=dict)

    def priority(self, member_id: int) -> int:
        """A member's priority."""
        return self.priorities.get(member_id, 1)

    def note(
        self,
        member_id: int,
        learned_through: int,
        *,
        has_arrived: bool,
        wanted: int,
        now_ns: int,
        silence_ns: int,
    ) -> None:
        """A member's learner told how far it is.

        Args:
            member_id: Whose.
            learned_through: What it told.
            has_arrived: Whether the group's configuration is durable in its log.
            wanted: What it would have to have to keep up.
            now_ns: The clock.
            silence_ns: A longer silence means that it did not keep up meanwhile.
        """
        last_ns = self.heard_ns.get(member_id)
        self.heard_ns[member_id] = now_ns
        self.learned[member_id] = max(self.learned.get(member_id, 0), learned_through)
        if has_arrived:
            self.arrived.add(member_id)
        if learned_through < wanted or last_ns is None or now_ns - last_ns > silence_ns:
            self.settled_ns.pop(member_id, None)
        if learned_through >= wanted:
            self.settled_ns.setdefault(member_id, now_ns)

    def forget(self, member_id: int) -> None:
        """A voter's learner told that it applies no more (R12): its member will not lead."""
        self.heard_ns.pop(member_id, None)
        self.settled_ns.pop(member_id, None)

    def is_heard(self, member_id: int, now_ns: int, silence_ns: int) -> bool:
        """Whether a member was heard of lately."""
        heard_ns = self.heard_ns.get(member_id)
        return heard_ns is not None and now_ns - heard_ns <= silence_ns

    def best(self, members: list[int], now_ns: int, silence_ns: int) -> int:
        """Of these members the one to lead next; 0 where none was heard of lately."""
        heard = [m for m in members if self.is_heard(m, now_ns, silence_ns)]
        return max(heard, key=lambda m: (self.priority(m), self.learned.get(m, 0), -m), default=0)

    def preferred(
        self, members: list[int], own: int, now_ns: int, silence_ns: int, settled_ns: int
    ) -> int:
        """The member of the highest priority above our own that has long kept up; 0 for none."""
        settled = [
            m
            for m in members
            if self.priority(m) > self.priority(own)
            and self.is_heard(m, now_ns, silence_ns)
            and now_ns - self.settled_ns.get(m, now_ns) >= settled_ns
        ]
        return self.best(settled, now_ns, silence_ns)
