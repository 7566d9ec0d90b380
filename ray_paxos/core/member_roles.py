"""The roles of one member in all its groups, as groups come and go.

`PartsKeeper` is the learner's: it alone takes orders, and writes down what came of them.
`PartsFollower` is the proposer's and the checkpointer's: they do as the learner has written.

```
 TakePart ─▶ PartsKeeper ── PartTaken ── durable ── FollowParts (task) ─▶ its learner is there
 log says: gone ─┘   └────── PartLeft ──┘               └── PartsChanged ─▶ PartsFollower
                                                                            FollowParts (task)
                                                             PartsFollowed ◀──┘
```

One that is to vote in a group from its beginning has its acceptor's part made first, so that there
is never a voter here that has forgotten what it voted: later ones vote by what their log says
(`voting_part`). A group that was left is taken again only once all roles have let go of it: what
one of them still had, or was removing, would be taken for the new part's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import GroupNotOpened, MessageRefused
from ray_paxos.core.genesis import SYSTEM_GROUP, MemberSpec
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import CatchUp, LearnRequest, who_has
from ray_paxos.core.messages import (
    Address,
    CreateGroup,
    Envelope,
    Message,
    OrderDone,
    RemoveGroup,
    RoleName,
)
from ray_paxos.core.parts import MembersMet, Part, PartLeft, PartRecord, Parts, PartTaken
from ray_paxos.core.parts_messages import (
    DROPPED,
    DropPart,
    PartsChanged,
    PartsFollowed,
    TakePart,
)
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.records import Record
from ray_paxos.core.role import GroupRouter, Role
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.tasks import FollowParts, Outcome, PartsOpened, Task, TaskFailed
from ray_paxos.errors import CheckpointError, StorageError

TELL_AGAIN_NS = 300 * MILLISECOND_NS
FOLLOW_AGAIN_NS = 1_000 * MILLISECOND_NS
FOLLOWING = (RoleName.PROPOSER, RoleName.CHECKPOINTER)


class _MemberRoles(GroupRouter):
    """Roles by group, opened and closed as the member's parts say.

    Invariants: what a role has ordered of its store is told to that role alone, never to one that
    was made after it for the same group.
    """

    def __init__(self, roles: dict[int, Role], member_id: int, version: int) -> None:
        super().__init__(roles)
        self._member_id = member_id
        # What is opened here, what there is to be opened, and when to try again what failed.
        self._opened_version = version
        self._wanted_version = version
        self._is_following = False
        self._follow_ns: int | None = None
        # Groups that were left, and of which something is still on the disk.
        self._unremoved: Set[int] = frozenset()
        # Of tasks and records on their way, by identity: what was ordered, and by whom.
        self._ordered: dict[int, tuple[Task | Record, Role]] = {}
        self._rounds: dict[int, int] = {}

    @property
    def deadline_ns(self) -> int | None:
        """The earliest deadline of all groups, and of what is to be opened."""
        due = [each for each in (self._own_deadline_ns, super().deadline_ns) if each is not None]
        return min(due, default=None)

    @property
    def _own_deadline_ns(self) -> int | None:
        return self._follow_ns

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Hand the message to its group's role."""
        return self._noted(super().handle(envelope, now_ns))

    def on_deadline(self, now_ns: int) -> Effects:
        """Call each role whose deadline has come."""
        effects = self._noted(super().on_deadline(now_ns))
        self._follow(now_ns, effects)
        return effects

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """Tell each role of its own records, in their order."""
        own = [record for record in records if self._take_back(record.group, record)]
        return self._noted(super().on_durable(own, now_ns))

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """Tell its group's role; or take in those that were opened."""
        if not isinstance(task, FollowParts):
            is_own = self._take_back(task.group, task)
            return self._noted(super().on_outcome(task, outcome, now_ns)) if is_own else Effects()
        effects = Effects()
        self._is_following = False
        if isinstance(outcome, PartsOpened):
            self._take_in(outcome, now_ns, effects)
        else:
            assert isinstance(outcome, TaskFailed), "it comes to nothing else"
            self._follow_ns = now_ns + FOLLOW_AGAIN_NS
        self._follow(now_ns, effects)
        return effects

    def _noted(self, effects: Effects) -> Effects:
        """Remember who ordered what."""
        for ordered in (*effects.tasks, *effects.records):
            role = self._roles.get(ordered.group)
            if role is not None:
                self._ordered[id(ordered)] = ordered, role
        return effects

    def _take_back(self, group: int, ordered: Task | Record) -> bool:
        """Whether the role that ordered this is the one that the group has now."""
        _, role = self._ordered.pop(id(ordered), (ordered, None))
        return role is not None and role is self._roles.get(group)

    def _take_in(self, opened: PartsOpened, now_ns: int, effects: Effects) -> None:
        failed = dict(opened.failed)
        for group in [g for g in self._roles if g not in opened.groups]:
            self._forget(group)
        for group, make in opened.made.items():
            self._forget(group)
            try:
                role = make(now_ns)
            except (CheckpointError, StorageError) as error:
                failed[group] = str(error)
                continue
            if isinstance(role, Proposer):
                role.go_on_from(self._rounds.get(group, 0))
            self._roles[group] = role
            self._touched.add(group)
        effects.events += [GroupNotOpened(group, why) for group, why in failed.items()]
        if failed:
            self._follow_ns = now_ns + FOLLOW_AGAIN_NS
        self._opened_version = opened.version
        self._unremoved = failed.keys() - opened.groups
        self._on_followed(failed, now_ns, effects)

    def _follow(self, now_ns: int, effects: Effects) -> None:
        """Have opened, and closed, what has changed, or failed the last time."""
        if self._is_following:
            return
        if self._follow_ns is None:
            if self._opened_version >= self._wanted_version:
                return
        elif now_ns < self._follow_ns:
            return
        self._follow_ns = None
        self._is_following = True
        effects.tasks.append(FollowParts(SYSTEM_GROUP))

    def _on_followed(self, failed: dict[int, str], now_ns: int, effects: Effects) -> None:
        """What is opened is as of `_opened_version`; but those that failed, and why."""
        raise NotImplementedError

    def _forget(self, group: int) -> None:
        role = self._roles.pop(group, None)
        if isinstance(role, Proposer):
            # A ballot belongs to one life of this process, whichever proposer used it.
            self._rounds[group] = max(self._rounds.get(group, 0), role.round_seen)
        self._touched.discard(group)
        self._deadlines.pop(group, None)

    def _send(self, to: Address, group: int, message: Message, effects: Effects) -> None:
        effects.sends_now.append(Send(to, group, message))


class PartsFollower(_MemberRoles):
    """A proposer's or a checkpointer's roles: those of the groups that the learner has written."""

    def __init__(self, roles: dict[int, Role], *, member_id: int, version: int) -> None:
        """Begin with what was opened.

        Args:
            roles: By group.
            member_id: Of this member.
            version: Of the parts that were opened.
        """
        super().__init__(roles, member_id, version)
        self._keeper = Address(member_id, RoleName.LEARNER)

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Hand the message to its group's role, or see what the member has by now."""
        message = envelope.message
        if not isinstance(message, PartsChanged):
            return super().handle(envelope, now_ns)
        effects = Effects()
        if envelope.sender != self._keeper:
            refused = MessageRefused(envelope.group, "parts from another than our learner")
            effects.events.append(refused)
            return effects
        self._wanted_version = max(self._wanted_version, message.version)
        if self._opened_version >= message.version:
            self._on_followed({}, now_ns, effects)
        self._follow(now_ns, effects)
        return effects

    def _on_followed(self, failed: dict[int, str], now_ns: int, effects: Effects) -> None:
        # What could not be removed is not let go of: it is not followed yet.
        if not self._unremoved:
            self._send(self._keeper, SYSTEM_GROUP, PartsFollowed(self._opened_version), effects)


class PartsKeeper(_MemberRoles):
    """A member's learners, and its parts.

    Invariants: a part counts once its record is durable; a learner that has left handles nothing
    from the moment at which its record is emitted.
    """

    def __init__(
        self, roles: dict[int, Role], *, member_id: int, parts: Parts, now_ns: int
    ) -> None:
        """Begin with what was opened; the other roles are told of it, once.

        Args:
            roles: By group.
            member_id: Of this member.
            parts: As they are on the disk.
            now_ns: This process's clock.
        """
        super().__init__(roles, member_id, parts.version)
        self._parts = parts
        self._acceptor = Address(member_id, RoleName.ACCEPTOR)
        self._followed = dict.fromkeys(FOLLOWING, -1)
        self._tell_ns: int | None = now_ns
        # By group, the version from which on it is gone; of those left before this life, the first.
        self._left_at = dict.fromkeys(parts.tombstones, parts.version)
        # Orders on their way: who gave them; and groups whose order is written down.
        self._orders: dict[int, tuple[Address, Part]] = {}
        self._written: set[int] = set()
        # Groups whose votes are being dropped: who ordered it.
        self._drops: dict[int, Address] = {}

    @property
    def parts(self) -> Parts:
        """All parts of this member, with those on their way to the disk."""
        return self._parts

    @property
    def _own_deadline_ns(self) -> int | None:
        due = [each for each in (self._tell_ns, self._follow_ns) if each is not None]
        return min(due, default=None)

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        """Hand the message to its group's learner, or follow an order."""
        message, sender = envelope.message, envelope.sender
        match message:
            case TakePart(part=part) if part.group == envelope.group:
                effects = Effects()
                self._on_take_part(sender, part, effects)
            case DropPart():
                effects = Effects()
                self._on_drop_part(sender, envelope.group, effects)
            case OrderDone(replica_id=replica_id) if (
                sender == self._acceptor and replica_id == DROPPED
            ):
                effects = Effects()
                self._on_votes_dropped(envelope.group, message, effects)
            case OrderDone() if sender == self._acceptor and self._waits_for(envelope.group):
                effects = Effects()
                self._on_acceptor_made(envelope.group, message, effects)
            case PartsFollowed(version=version) if sender.role in self._followed:
                effects = Effects()
                if sender.member_id == self._member_id:
                    self._followed[sender.role] = max(self._followed[sender.role], version)
            case CatchUp(through=0) | LearnRequest() if self._has_left(envelope.group):
                effects = Effects()
                self._tell_who_has(sender, envelope.group, effects)
            case CatchUp(joined=joined) if envelope.group in self._roles:
                effects = super().handle(envelope, now_ns)
                self._meet(joined, effects)
            case _:
                effects = super().handle(envelope, now_ns)
        self._look_at_configurations(effects)
        return effects

    def on_deadline(self, now_ns: int) -> Effects:
        """Call each learner whose deadline has come; tell the other roles what they missed."""
        effects = super().on_deadline(now_ns)
        if self._tell_ns is not None and now_ns >= self._tell_ns:
            self._tell(now_ns, effects)
        self._look_at_configurations(effects)
        return effects

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        """Parts are written, or segments sealed."""
        effects = super().on_durable(records, now_ns)
        if any(isinstance(record, PartRecord) for record in records):
            self._wanted_version = self._parts.version
            self._follow(now_ns, effects)
        self._look_at_configurations(effects)
        return effects

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        """A task has come to this."""
        effects = super().on_outcome(task, outcome, now_ns)
        self._look_at_configurations(effects)
        return effects

    # Taking.

    def _on_take_part(self, sender: Address, part: Part, effects: Effects) -> None:
        group, pending = part.group, self._orders.get(part.group)
        refused = self._parts.refusal(self._member_id, part)
        if group in self._drops:
            refused = refused or f"group {group} is being dropped here"
        if pending is not None and pending[1].replica_id != part.replica_id:
            refused = refused or f"replica {pending[1].replica_id} is being made here"
        if refused or group in self._roles:
            self._send(sender, group, OrderDone(part.replica_id, refused), effects)
        elif pending is not None:
            # It is on its way; whoever asks again is told then.
            self._orders[group] = sender, pending[1]
            if group not in self._written:
                self._have_acceptor_made(pending[1], effects)
        elif group in self._parts.parts:
            refused = "it is here, and cannot be opened; see this member's status"
            self._send(sender, group, OrderDone(part.replica_id, refused), effects)
        elif self._is_let_go(group):
            self._orders[group] = sender, part
            if part.configuration.voter(self._member_id) is None:
                self._write(part, effects)
            else:
                self._have_acceptor_made(part, effects)

    def _is_let_go(self, group: int) -> bool:
        """Whether no role has anything of an earlier part; whoever ordered this orders it again."""
        if group in self._unremoved:
            return False
        left_at = self._left_at.get(group)
        return left_at is None or left_at <= min(self._opened_version, *self._followed.values())

    def _have_acceptor_made(self, part: Part, effects: Effects) -> None:
        floor = max(part.configuration.config_id, part.spec.begins_after) + 1
        order = CreateGroup(part.replica_id, part.configuration, floor)
        self._send(self._acceptor, part.group, order, effects)

    def _waits_for(self, group: int) -> bool:
        return group in self._orders and group not in self._written

    def _on_acceptor_made(self, group: int, done: OrderDone, effects: Effects) -> None:
        sender, part = self._orders[group]
        if done.replica_id != part.replica_id:
            return
        if done.refused:
            del self._orders[group]
            self._send(sender, group, OrderDone(part.replica_id, done.refused), effects)
        else:
            self._write(part, effects)

    def _write(self, part: Part, effects: Effects) -> None:
        self._written.add(part.group)
        self._emit(PartTaken(part.group, part), effects)

    def _emit(self, record: PartRecord, effects: Effects) -> None:
        self._parts.apply(record)
        effects.records.append(record)

    # Dropping.

    def _on_drop_part(self, sender: Address, group: int, effects: Effects) -> None:
        if group in self._written:
            # It is being made: whoever drops it says so again.
            return
        # Of one whose acceptor is still to be made nobody may ever say again that it is to be.
        self._orders.pop(group, None)
        if self._parts.tombstones.get(group) == DROPPED:
            self._send(sender, group, OrderDone(DROPPED, ""), effects)
            return
        self._drops[group] = sender
        # The votes go first: without them nothing else of the group is needed.
        self._send(self._acceptor, group, RemoveGroup(DROPPED, DROPPED), effects)

    def _on_votes_dropped(self, group: int, done: OrderDone, effects: Effects) -> None:
        sender = self._drops.pop(group, None)
        if sender is None:
            return
        if not done.refused:
            self._emit(PartLeft(group, DROPPED), effects)
            self._left_at[group] = self._parts.version
            self._forget(group)
        effects.sends_after_sync.append(Send(sender, group, OrderDone(DROPPED, done.refused)))

    # What the logs say.

    def _look_at_configurations(self, effects: Effects) -> None:
        """Meet those whom a log names, and leave each group whose log names this member no more."""
        for group in list(self._touched):
            learner = self._roles.get(group)
            if not isinstance(learner, Learner):
                continue
            configuration = learner.configuration
            self._meet(configuration.joined, effects)
            if learner.has_left:
                replica_id = configuration.replicas_given
                self._emit(PartLeft(group, replica_id, configuration), effects)
                self._left_at[group] = self._parts.version
                self._forget(group)

    def _meet(self, joined: Iterable[MemberSpec], effects: Effects) -> None:
        unknown = tuple(each for each in joined if each.member_id not in self._parts.joined)
        if unknown:
            self._emit(MembersMet(SYSTEM_GROUP, unknown), effects)

    # Telling.

    def _has_left(self, group: int) -> bool:
        return group in self._parts.left and group not in self._roles

    def _tell_who_has(self, to: Address, group: int, effects: Effects) -> None:
        """A member asks for a group that was left here; it has not heard that it has gone on."""
        if to.role is not RoleName.LEARNER or to.member_id == self._member_id:
            return
        configuration = self._parts.left[group]
        # Followers, too: one of them may have taken over since.
        self._send(to, group, who_has(configuration, configuration.member_ids), effects)

    def _on_followed(self, failed: dict[int, str], now_ns: int, effects: Effects) -> None:
        for group in [g for g in self._written if g in self._roles or g in failed]:
            sender, part = self._orders.pop(group)
            self._written.discard(group)
            done = OrderDone(part.replica_id, failed.get(group, ""))
            self._send(sender, group, done, effects)
        self._tell(now_ns, effects)

    def _tell(self, now_ns: int, effects: Effects) -> None:
        """Tell those roles that have not opened what there is."""
        self._tell_ns = None
        for role, followed in self._followed.items():
            if followed < self._opened_version:
                self._tell_ns = now_ns + TELL_AGAIN_NS
                to = Address(self._member_id, role)
                self._send(to, SYSTEM_GROUP, PartsChanged(self._opened_version), effects)
