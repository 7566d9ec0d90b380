"""Opening a member's roles from its folder: the same for actors and for the simulator.

Each opening checks whose folder it is, holds the role's lock, raises its incarnation durably, and
only then reads what the role owns and builds the role on it. Nothing is made that is missing: an
opening that fails is tried again as it stands, and a folder that is damaged stays so.

A learner goes on from the newest whole checkpoint of its member and the log after it; of a log that
is damaged, from what comes before the damage. A group that cannot be opened at all stops alone
(R12): its learner is left out, with the reason, and the others are served.

Of each damage, what is still known, and in what the member may vote; "all" is every instance from
its vote floor on, which is what its journal is about. Segments and checkpoints hold no votes, so
that their damage bars it from none; only the journal does, and whatever says whose it is.

| file of a member | damage | what is still known | it votes |
|---|---|---|---|
| the folder | gone, or emptied | nothing | never again under its name |
| the file `place.json` | any, or a copy | perhaps not the latest votes | in nothing until adopted |
| the files `identity.json`, `activated.json` | any | not whose folder it is | in nothing |
| `acceptor/lock`, `incarnation`, `current` | any | not whether the votes are all | never again |
| `acceptor/journal`: end of the last file | torn by a crash | all that was answered | in all |
| `acceptor/journal`: anywhere else | any | not whether the votes are all | never again |
| `learner/lock`, `incarnation` | any | the votes | in all; it learns nothing |
| `proposer`, `checkpointer`: the same | any | votes and log | in all; it leads or keeps nothing |
| a segment, at a start | any | the log before it | in all; others give it the rest |
| a segment, while it runs | any | the chains at its ends | in all; others give it that segment |
| a segment that nobody else has | any | what is applied | in all; a checkpoint of it replaces it |
| a segment, at all members | any | what the checkpoints hold | in all; status tells |
| the newest checkpoint | any | the one before it, and the log | in all; makes another |
| all checkpoints | any | the log, where it begins at 1 | in all; else gets another's |
| a merged segment not yet published | any | its parts | in all |
| `_*`: what was being written | any | what it was made of | in all; removed at a start |
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.checkpointer import Checkpointer
from ray_paxos.core.driver import Driver
from ray_paxos.core.genesis import Genesis, GroupSpec
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.role import GroupRouter, Role
from ray_paxos.core.settings import (
    AcceptorSettings,
    CheckpointerSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.errors import CheckpointError, DamageError, PaxosError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoint_maker import CheckpointMaker
from ray_paxos.storage.checkpoints import (
    CheckpointPlace,
    NewestCheckpoint,
    newest_whole,
    settle,
)
from ray_paxos.storage.disk import Disk, storage_errors
from ray_paxos.storage.identity import (
    Identity,
    RoleFolder,
    check_member,
    checkpointer_folder,
    log_folder,
    open_role_folder,
)
from ray_paxos.storage.journal import JournalSettings, open_journal
from ray_paxos.storage.saved_state import drop_saved, saved_folder
from ray_paxos.storage.scrubber import Scrubber
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_format import SegmentCodec
from ray_paxos.storage.segment_merging import MergeFolder
from ray_paxos.storage.segments import SegmentPlace
from ray_paxos.storage.stores import (
    AcceptorStore,
    CheckpointerGroup,
    CheckpointerStore,
    LearnerGroup,
    LearnerStore,
    ProposerStore,
    RoleStore,
)
from ray_paxos.storage.table_format import TableCodec


@dataclass(frozen=True, slots=True)
class OpenedRole:
    """A role, ready to be driven.

    Attributes:
        driver: Runs it.
        store: Does its writing and reading; to be closed in the end.
        incarnation: Of this opening.
        role: The role itself: an `Acceptor`, or a `GroupRouter` over the groups' roles.
        stopped_groups: Why, of groups that could not be opened.
    """

    driver: Driver
    store: RoleStore
    incarnation: int
    role: Role
    stopped_groups: Mapping[int, str] = field(default_factory=dict)


def open_proposer(
    disk: Disk,
    genesis: Genesis,
    member_id: int,
    *,
    settings: ProposerSettings,
    random: Random,
    now_ns: int,
    priorities: Mapping[int, int] | None = None,
) -> OpenedRole:
    """Open a member's proposers, of all groups in which it votes.

    Args:
        disk: The member's folder.
        genesis: Of the cluster.
        member_id: Whose.
        settings: Limits and times.
        random: Seeds one source for each group.
        now_ns: This process's clock.
        priorities: Of the members that have another one than 1.

    Raises:
        FolderHeldError: Another process holds the folder.
        ForeignFolderError: It is another's.
        NotActivatedError: The member does not take part yet.
        DamageError: Something is missing or damaged.
        StorageError: The disk refuses.
    """
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.PROPOSER) as folder:
        roles: dict[int, Role] = {
            spec.group: Proposer(
                group=spec.group,
                member_id=member_id,
                incarnation=folder.incarnation,
                replica_id=_replica_id(spec, member_id),
                configuration=spec.configuration,
                members=_members(spec),
                machines=spec.machines,
                settings=settings,
                random=Random(random.getrandbits(64)),
                now_ns=now_ns,
                priorities=priorities,
            )
            for spec in _own_groups(identity)
        }
        store = ProposerStore(disk, folder)
        return _opened(identity, RoleName.PROPOSER, folder, GroupRouter(roles), store)


def open_acceptor(
    disk: Disk,
    genesis: Genesis,
    member_id: int,
    *,
    settings: AcceptorSettings,
    clock: Callable[[], int],
    journal_settings: JournalSettings | None = None,
) -> OpenedRole:
    """Open a member's acceptor; arguments and errors as `open_proposer`.

    The clock is read once the folder is held: until then an earlier life may go on granting.

    Guarantee: every vote and promise that it has is durable when this returns.
    """
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.ACCEPTOR) as folder:
        journal, state = open_journal(
            disk, folder.path, owner=identity.owner, settings=journal_settings
        )
        acceptor = Acceptor(state, member_id=member_id, settings=settings, now_ns=clock())
        store = AcceptorStore(disk, folder, journal)
        return _opened(identity, RoleName.ACCEPTOR, folder, acceptor, store)


def open_learner(
    disk: Disk,
    genesis: Genesis,
    member_id: int,
    *,
    settings: LearnerSettings,
    codec: SegmentCodec,
    tables: TableCodec,
    registry: MachineRegistry,
    random: Random,
    now_ns: int,
) -> OpenedRole:
    """Open a member's learners and apply all that is sealed.

    Args and errors as `open_proposer`; a DamageError only where no group at all can be opened.

    Args:
        disk: The member's folder.
        genesis: Of the cluster.
        member_id: Whose.
        settings: Limits and times.
        codec: The file format of the segments.
        tables: The file format of machines that are tables, in checkpoints.
        registry: Which machines can be mounted.
        random: Seeds one source for each group.
        now_ns: This process's clock.

    Guarantee: what the learners report durable is durable when this returns.
    """
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.LEARNER) as folder:
        roles: dict[int, Role] = {}
        groups: dict[int, LearnerGroup] = {}
        stopped: dict[int, PaxosError] = {}
        for spec in _own_groups(identity):
            source = Random(random.getrandbits(64))
            try:
                with storage_errors(f"cannot open {disk.where(log_folder(spec.group))}"):
                    checkpoints = _checkpoints(disk, tables, identity, spec.group)
                    newest = newest_whole(checkpoints, registry)
                    base, host = None, MachineHost(registry, group=spec.group)
                    if newest.checkpoint is not None:
                        base, host = newest.checkpoint.cut, newest.checkpoint.host
                        settle(checkpoints, base.instance_id)
                    segments = SegmentFolder.open(_place(disk, codec, identity, spec.group), base)
                    roles[spec.group] = Learner(
                        group=spec.group,
                        member_id=member_id,
                        replica_id=_replica_id(spec, member_id),
                        configuration=spec.configuration,
                        members=_members(spec),
                        host=host,
                        base=base,
                        settings=settings,
                        random=source,
                        now_ns=now_ns,
                        incarnation=folder.incarnation,
                        sealed=segments.replay(),
                        segments=segments.listed,
                        problems=partial(_found_wrong, newest, segments),
                    )
                saved = _saved(disk, tables, identity, spec.group)
                drop_saved(saved)
                groups[spec.group] = LearnerGroup(segments, checkpoints, saved)
            except (CheckpointError, DamageError) as error:
                stopped[spec.group] = error
        if stopped and not roles:
            raise next(iter(stopped.values()))
        store = LearnerStore(disk, folder, groups, registry)
        reasons = {group: str(error) for group, error in stopped.items()}
        return _opened(identity, RoleName.LEARNER, folder, GroupRouter(roles), store, reasons)


def open_checkpointer(
    disk: Disk,
    genesis: Genesis,
    member_id: int,
    *,
    settings: CheckpointerSettings,
    codec: SegmentCodec,
    tables: TableCodec,
    registry: MachineRegistry,
    now_ns: int,
) -> OpenedRole:
    """Open a member's checkpointers; arguments and errors as `open_learner`."""
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.CHECKPOINTER) as folder:
        groups: dict[int, CheckpointerGroup] = {}
        with storage_errors(f"cannot open {disk.where(folder.path)}"):
            for spec in _own_groups(identity):
                place = _place(disk, codec, identity, spec.group)
                merging = MergeFolder.open(place)
                checkpoints = CheckpointFolder.open(
                    _checkpoints(disk, tables, identity, spec.group)
                )
                maker = CheckpointMaker(place, checkpoints, registry, spec.configuration)
                scrubber = Scrubber(place, checkpoints.place)
                saved = _saved(disk, tables, identity, spec.group)
                groups[spec.group] = CheckpointerGroup(merging, checkpoints, maker, scrubber, saved)
        roles: dict[int, Role] = {
            group: Checkpointer(
                group=group,
                member_id=member_id,
                genesis=genesis.hash(),
                settings=settings,
                checkpoints=each.checkpoints.instances,
                now_ns=now_ns,
            )
            for group, each in groups.items()
        }
        store = CheckpointerStore(disk, folder, groups)
        return _opened(identity, RoleName.CHECKPOINTER, folder, GroupRouter(roles), store)


@contextlib.contextmanager
def _holding(disk: Disk, identity: Identity, role: RoleName) -> Iterator[RoleFolder]:
    """Hold a role's folder, and go on holding it unless the block raises."""
    folder = open_role_folder(disk, identity, role)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.release)
        yield folder
        stack.pop_all()


def _opened(
    identity: Identity,
    name: RoleName,
    folder: RoleFolder,
    role: Role,
    store: RoleStore,
    stopped_groups: Mapping[int, str] | None = None,
) -> OpenedRole:
    sender = Address(identity.member_id, name)
    incarnation = folder.incarnation
    genesis = identity.genesis.hash()
    driver = Driver(role, genesis=genesis, sender=sender, incarnation=incarnation)
    return OpenedRole(driver, store, incarnation, role, stopped_groups or {})


def _own_groups(identity: Identity) -> list[GroupSpec]:
    own = set(identity.groups)
    return [spec for spec in identity.genesis.groups if spec.group in own]


def _replica_id(spec: GroupSpec, member_id: int) -> int:
    voter = spec.configuration.voter(member_id)
    return voter.replica_id if voter is not None else 0


def _members(spec: GroupSpec) -> tuple[int, ...]:
    return tuple(voter.member_id for voter in spec.voters)


def _found_wrong(newest: NewestCheckpoint, segments: SegmentFolder) -> tuple[str, ...]:
    found = (*newest.problems, *segments.problems)
    if not segments.set_aside:
        return found
    return (*found, f"not served, and set aside: {', '.join(segments.set_aside)}")


def _checkpoints(disk: Disk, tables: TableCodec, identity: Identity, group: int) -> CheckpointPlace:
    genesis = identity.genesis.hash()
    return CheckpointPlace(disk, tables, genesis, group, checkpointer_folder(group))


def _saved(disk: Disk, tables: TableCodec, identity: Identity, group: int) -> CheckpointPlace:
    genesis = identity.genesis.hash()
    return CheckpointPlace(disk, tables, genesis, group, saved_folder(group))


def _place(disk: Disk, codec: SegmentCodec, identity: Identity, group: int) -> SegmentPlace:
    genesis = identity.genesis.hash()
    return SegmentPlace(disk, codec, genesis, group, log_folder(group), checkpointer_folder(group))
