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
| a segment that nobody else has, at a start | any | the votes | in all; a master finds it in them |
| the same, while it runs | any | what is applied | in all; a checkpoint of it replaces it |
| a segment, at all members | any | what the checkpoints hold | in all; status tells |
| `learner/parts.json` | any | the votes | in all; it learns and leads nothing |
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
from ray_paxos.core.member_roles import PartsFollower, PartsKeeper
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.parts import Part, Parts
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.role import Role
from ray_paxos.core.settings import (
    AcceptorSettings,
    CheckpointerSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.errors import CheckpointError, DamageError, PaxosError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.checkpoint_files import remove_tree
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
from ray_paxos.storage.parts import PARTS, Introduce, OpenParts, PartsFile
from ray_paxos.storage.saved_state import drop_saved, saved_folder
from ray_paxos.storage.scrubber import Scrubber
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_format import SegmentCodec
from ray_paxos.storage.segment_merging import MergeFolder
from ray_paxos.storage.segments import SegmentPlace
from ray_paxos.storage.set_aside import aside_folder
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
    introduce: Introduce | None = None,
) -> OpenedRole:
    """Open a member's proposers, of all its groups.

    Args:
        disk: The member's folder.
        genesis: Of the cluster.
        member_id: Whose.
        settings: Limits and times.
        random: Seeds one source for each group.
        now_ns: This process's clock.
        priorities: Of the members that have another one than 1.
        introduce: Told, also later, which members outside the genesis this one has met.

    Raises:
        FolderHeldError: Another process holds the folder.
        ForeignFolderError: It is another's.
        NotActivatedError: The member does not take part yet.
        DamageError: Something is missing or damaged.
        StorageError: The disk refuses.
    """
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.PROPOSER) as folder:

        def open_part(part: Part) -> tuple[None, Callable[[int], Role]]:
            source = Random(random.getrandbits(64))

            def make(now_ns: int) -> Role:
                return Proposer(
                    spec=part.spec,
                    member_id=member_id,
                    incarnation=folder.incarnation,
                    settings=settings,
                    random=source,
                    now_ns=now_ns,
                    priorities=priorities,
                )

            return None, make

        parts = _parts(disk, identity, introduce)
        opened = OpenParts(parts, open_part, lambda group: None)
        roles = {g: opened.open(part)(now_ns) for g, part in parts.parts.parts.items()}
        router = PartsFollower(roles, member_id=member_id, version=parts.parts.version)
        store = ProposerStore(disk, folder, opened)
        return _opened(identity, RoleName.PROPOSER, folder, router, store)


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
    introduce: Introduce | None = None,
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
        introduce: As of `open_proposer`.

    Guarantee: what the learners report durable is durable when this returns.
    """
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.LEARNER) as folder:

        def open_part(part: Part) -> tuple[LearnerGroup, Callable[[int], Role]]:
            source = Random(random.getrandbits(64))
            spec, group = part.spec, part.group
            with storage_errors(f"cannot open {disk.where(log_folder(group))}"):
                checkpoints = _checkpoints(disk, tables, identity, group)
                newest = newest_whole(checkpoints, registry)
                base, host = None, _new_host(registry, spec)
                if newest.checkpoint is not None:
                    base, host = newest.checkpoint.cut, newest.checkpoint.host
                    settle(checkpoints, base.instance_id)
                segments = SegmentFolder.open(_place(disk, codec, identity, group), base)

            def make(now_ns: int) -> Role:
                with storage_errors(f"cannot open {disk.where(log_folder(group))}"):
                    return Learner(
                        group=group,
                        member_id=member_id,
                        configuration=spec.configuration,
                        ordered=part.configuration,
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

            saved = _saved(disk, tables, identity, group)
            drop_saved(saved)
            return LearnerGroup(segments, checkpoints, saved), make

        parts = _parts(disk, identity, introduce)
        opened = OpenParts(parts, open_part, lambda group: _remove_log(disk, group))
        roles: dict[int, Role] = {}
        stopped: dict[int, PaxosError] = {}
        for group, part in parts.parts.parts.items():
            try:
                roles[group] = opened.open(part)(now_ns)
            except (CheckpointError, DamageError) as error:
                stopped[group] = error
        if stopped and not roles:
            raise next(iter(stopped.values()))
        _remove_left(disk, "learner", _remove_log, parts.parts)
        store = LearnerStore(disk, folder, parts, opened, registry)
        reasons = {group: str(error) for group, error in stopped.items()}
        known = parts.parts.copy()
        keeper = PartsKeeper(roles, member_id=member_id, parts=known, now_ns=now_ns)
        return _opened(identity, RoleName.LEARNER, folder, keeper, store, reasons)


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
    introduce: Introduce | None = None,
) -> OpenedRole:
    """Open a member's checkpointers; arguments and errors as `open_learner`."""
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.CHECKPOINTER) as folder:

        def open_part(part: Part) -> tuple[CheckpointerGroup, Callable[[int], Role]]:
            spec, group = part.spec, part.group
            with storage_errors(f"cannot open {disk.where(checkpointer_folder(group))}"):
                disk.make_folder(checkpointer_folder(group))
                place = _place(disk, codec, identity, group)
                merging = MergeFolder.open(place)
                checkpoints = CheckpointFolder.open(_checkpoints(disk, tables, identity, group))
                maker = CheckpointMaker(place, checkpoints, registry, spec.configuration)
                scrubber = Scrubber(place, checkpoints.place)
                saved = _saved(disk, tables, identity, group)

            def make(now_ns: int) -> Role:
                return Checkpointer(
                    group=group,
                    member_id=member_id,
                    genesis=genesis.hash(),
                    settings=settings,
                    checkpoints=checkpoints.instances,
                    now_ns=now_ns,
                )

            return CheckpointerGroup(merging, checkpoints, maker, scrubber, saved), make

        parts = _parts(disk, identity, introduce)
        opened = OpenParts(parts, open_part, lambda group: _remove_work(disk, group))
        roles = {g: opened.open(part)(now_ns) for g, part in parts.parts.parts.items()}
        _remove_left(disk, "checkpointer", _remove_work, parts.parts)
        router = PartsFollower(roles, member_id=member_id, version=parts.parts.version)
        store = CheckpointerStore(disk, folder, opened)
        return _opened(identity, RoleName.CHECKPOINTER, folder, router, store)


def _parts(disk: Disk, identity: Identity, introduce: Introduce | None) -> PartsFile:
    with storage_errors(f"cannot read {disk.where(PARTS)}"):
        return PartsFile(disk, identity, introduce)


def _remove_left(disk: Disk, below: str, remove: Callable[[Disk, int], None], parts: Parts) -> None:
    """Remove what is left of groups that the member has left: its process ended before that."""
    with storage_errors(f"cannot remove from {disk.where(below)} what was left"):
        for group in parts.tombstones.keys() - parts.parts.keys():
            remove(disk, group)


# Durably: the group may come back, and what a loss of power brought back with it would be taken for
# its own.
def _remove_log(disk: Disk, group: int) -> None:
    for path in (log_folder(group), saved_folder(group), aside_folder(group)):
        remove_tree(disk, path)


def _remove_work(disk: Disk, group: int) -> None:
    remove_tree(disk, checkpointer_folder(group))


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


def _new_host(registry: MachineRegistry, spec: GroupSpec) -> MachineHost:
    return MachineHost(registry, group=spec.group, configuration=spec.configuration)


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
