"""Seeded bugs of files, folders and bootstrap; see `mutations`."""

from __future__ import annotations

import contextlib

from ray_paxos.core import bootstrap
from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.bootstrap import StageMissing
from ray_paxos.core.messages import RoleName
from ray_paxos.core.records import JournalOpening
from ray_paxos.storage import journal_frames
from ray_paxos.storage.checked_files import read_fields, replace_fields
from ray_paxos.storage.identity import RoleFolder, open_role_folder
from ray_paxos.storage.journal import open_journal
from ray_paxos.storage.journal_files import begin_file
from ray_paxos.storage.opening import open_acceptor
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.testing.disk import SimulatedDisk, SimulatedFile


def reuse_a_ballot(patch):
    """A proposer's incarnation is not raised over a restart."""

    def open_unraised(disk, identity, role):
        folder = open_role_folder(disk, identity, role)
        if role is not RoleName.PROPOSER:
            return folder
        return RoleFolder(folder.path, 1, folder._lock)

    patch.setattr("ray_paxos.storage.opening.open_role_folder", open_unraised)


def share_one_incarnation(patch):
    """All roles of a member count in one file, and two of them read it before either writes."""
    read_before: dict[tuple[int, RoleName], int] = {}

    def open_shared(disk, identity, role):
        folder = open_role_folder(disk, identity, role)
        path = "acceptor/incarnation"
        fields = read_fields(disk, path)
        found = int(fields["incarnation"])
        number = found + 1
        if role is not RoleName.PROPOSER:
            # It read the number when it began to open, long ago, and now writes its own.
            number = read_before.get((identity.member_id, role), found) + 1
        read_before[identity.member_id, role] = found
        replace_fields(disk, path, {**fields, "incarnation": number})
        return RoleFolder(folder.path, number, folder._lock)

    patch.setattr("ray_paxos.storage.opening.open_role_folder", open_shared)


def derive_the_floor_from_segments(patch):
    """The floor is not kept: an acceptor that opens takes it from the segments beside it."""

    def open_deriving(disk, genesis, member_id, **settings):
        opened = open_acceptor(disk, genesis, member_id, **settings)
        assert isinstance(opened.role, Acceptor)
        for group, votes in opened.role.state.groups.items():
            names = [n for n in disk.list(f"learner/log/group={group}") if n[0] != "_"]
            last = max((int(name.split(".")[0].split("-")[1]) for name in names), default=0)
            votes.floor = last + 1
            votes.votes = {i: vote for i, vote in votes.votes.items() if i > last}
        return opened

    patch.setattr("ray_paxos.testing.opening.open_acceptor", open_deriving)


def speak_from_the_page_cache(patch):
    """A journal that opens makes nothing durable of what it found."""

    def open_unsynced(*arguments, **settings):
        with _without_syncs(patch):
            return open_journal(*arguments, **settings)

    patch.setattr("ray_paxos.storage.opening.open_journal", open_unsynced)


def speak_of_unsynced_segments(patch):
    """A chosen log that opens does not sync its folder."""
    open_folder = SegmentFolder.open

    def open_unsynced(place, base=None):
        with _without_syncs(patch):
            return open_folder(place, base)

    patch.setattr(SegmentFolder, "open", staticmethod(open_unsynced))


def name_before_it_is_durable(patch):
    """A new journal file is named before its opening record is durable."""

    def begin_unsynced(*arguments, **options):
        with _without_syncs(patch):
            return begin_file(*arguments, **options)

    patch.setattr("ray_paxos.storage.journal.begin_file", begin_unsynced)


@contextlib.contextmanager
def _without_syncs(patch):
    with patch.context() as inner:
        inner.setattr(SimulatedFile, "sync", lambda self: None)
        inner.setattr(SimulatedDisk, "sync_folder", lambda self, path: None)
        yield


def cut_a_whole_bad_frame(patch):
    """Whatever is wrong at the end of a journal file is taken for a torn append."""
    patch.setattr(journal_frames, "_is_unwritten", lambda data, position: True)


def forget_the_promise_in_a_new_file(patch):
    """A journal file opens without the promises, which are in the files before it."""
    state_opening = AcceptorState.opening

    def open_without(self):
        groups = tuple(
            type(g)(g.group, g.replica_id, g.configuration, None, g.floor, g.longest_lease_ms)
            for g in state_opening(self).groups
        )
        return JournalOpening(groups, tuple(sorted(self.tombstones.items())))

    patch.setattr(AcceptorState, "opening", open_without)


def lose_tombstones(patch):
    """A journal file opens without the tombstones, which are in the files before it."""
    state_opening = AcceptorState.opening
    patch.setattr(
        AcceptorState, "opening", lambda self: JournalOpening(state_opening(self).groups, ())
    )


def make_what_is_missing(patch):
    """A start makes the folders that it does not find, whatever state the others are in."""

    def decide_found(found, *_others):
        absent = tuple(m.name for m in found.genesis.members if m.name not in found.places)
        return StageMissing(found.genesis, absent, dict(found.places))

    patch.setattr(bootstrap, "_decide_found", decide_found)
