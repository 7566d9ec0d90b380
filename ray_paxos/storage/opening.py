"""Opening a member's roles from its folder: the same for actors and for the simulator.

Each opening checks whose folder it is, holds the role's lock, raises its incarnation durably, and
only then reads what the role owns and builds the role on it. Nothing is made that is missing: an
opening that fails is tried again as it stands, and a folder that is damaged stays so.

A group whose log is damaged stops alone (R12): its learner is left out, with the reason, and the
others are served.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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
from ray_paxos.errors import DamageError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
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
from ray_paxos.storage.segment_folders import MergeFolder, SegmentFolder
from ray_paxos.storage.segment_format import SegmentCodec
from ray_paxos.storage.segments import SegmentPlace
from ray_paxos.storage.stores import (
    AcceptorStore,
    CheckpointerStore,
    LearnerStore,
    ProposerStore,
    RoleStore,
)


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
        registry: Which machines can be mounted.
        random: Seeds one source for each group.
        now_ns: This process's clock.

    Guarantee: what the learners report durable is durable when this returns.
    """
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.LEARNER) as folder:
        roles: dict[int, Role] = {}
        folders: dict[int, SegmentFolder] = {}
        stopped: dict[int, DamageError] = {}
        for spec in _own_groups(identity):
            source = Random(random.getrandbits(64))
            try:
                with storage_errors(f"cannot open {disk.where(log_folder(spec.group))}"):
                    segments = SegmentFolder.open(_place(disk, codec, identity, spec.group))
                    roles[spec.group] = Learner(
                        group=spec.group,
                        member_id=member_id,
                        replica_id=_replica_id(spec, member_id),
                        configuration=spec.configuration,
                        members=_members(spec),
                        host=MachineHost(registry, group=spec.group),
                        settings=settings,
                        random=source,
                        now_ns=now_ns,
                        incarnation=folder.incarnation,
                        sealed=segments.replay(),
                        segments=segments.segments,
                    )
                folders[spec.group] = segments
            except DamageError as error:
                stopped[spec.group] = error
        if stopped and not roles:
            raise next(iter(stopped.values()))
        store = LearnerStore(disk, folder, folders)
        reasons = {group: str(error) for group, error in stopped.items()}
        return _opened(identity, RoleName.LEARNER, folder, GroupRouter(roles), store, reasons)


def open_checkpointer(
    disk: Disk,
    genesis: Genesis,
    member_id: int,
    *,
    settings: CheckpointerSettings,
    codec: SegmentCodec,
) -> OpenedRole:
    """Open a member's checkpointers; arguments and errors as `open_learner`."""
    identity = check_member(disk, genesis, member_id)
    with _holding(disk, identity, RoleName.CHECKPOINTER) as folder:
        with storage_errors(f"cannot open {disk.where(folder.path)}"):
            folders = {
                group: MergeFolder.open(_place(disk, codec, identity, group))
                for group in identity.groups
            }
        roles: dict[int, Role] = {
            group: Checkpointer(group=group, member_id=member_id, settings=settings)
            for group in identity.groups
        }
        store = CheckpointerStore(disk, folder, folders)
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


def _place(disk: Disk, codec: SegmentCodec, identity: Identity, group: int) -> SegmentPlace:
    genesis = identity.genesis.hash()
    return SegmentPlace(disk, codec, genesis, group, log_folder(group), checkpointer_folder(group))
