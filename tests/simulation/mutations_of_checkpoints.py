"""Seeded bugs of checkpoints, cleaning and repair; see `mutations`."""

from __future__ import annotations

import contextlib

import google_crc32c

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.checkpoint_install import CheckpointInstall
from ray_paxos.core.checkpoint_schedule import CheckpointSchedule
from ray_paxos.core.checkpointer import Checkpointer
from ray_paxos.core.chunk_check import ChunkCheck
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_checkpoints import LearnerCheckpoints
from ray_paxos.core.log_cleaning import LogCleaning
from ray_paxos.core.sealing import Sealing
from ray_paxos.core.segment_repair import SegmentRepair
from ray_paxos.core.tasks import CutLog, SavedByLearner
from ray_paxos.core.unconfirmed_chunks import UnconfirmedChunks
from ray_paxos.errors import DamageError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.log import LogMachine
from ray_paxos.storage import checkpoint_files, segment_folders, stores
from ray_paxos.storage.segments import SegmentPlace


def cut_beyond_the_checkpoint(patch):
    """All that is learned and not wanted by others any more goes, whatever a checkpoint covers."""

    def take_due(self, segments, learned_through, now_ns, lost_through=0):
        if self._is_cutting or len(segments) < 2:
            return None
        self._is_cutting = True
        return CutLog(self._group, segments[-1].first)

    patch.setattr(LogCleaning, "take_due", take_due)
    believe_what_was_told(patch)


def believe_what_was_told(patch):
    """The log is cut where a message said that a checkpoint covers it; the disk is not asked."""
    patch.setattr(stores, "published", lambda place: (1 << 60,))


def cut_machines_at_different_instances(patch):
    """The sessions are saved as of the cut, a machine as of one command before."""
    save = LogMachine.save

    def save_before(self, directory):
        lines = self._lines
        self._lines = lines[:-1]
        try:
            save(self, directory)
        finally:
            self._lines = lines

    patch.setattr(LogMachine, "save", save_before)


def restore_without_the_log_time(patch):
    """What a checkpoint restores begins with a log time of its own."""
    restore = MachineHost.restore

    def restore_early(registry, **parts):
        host = restore(registry, **parts)
        host.log_time_ns = 0
        return host

    patch.setattr(MachineHost, "restore", restore_early)


def publish_without_sync(patch):
    """A checkpoint gets its name, and nothing of it is made durable."""
    patch.setattr(checkpoint_files, "sync_tree", lambda *arguments: None)
    for module in ("checkpoint_folders", "checkpoint_transfers"):
        patch.setattr(f"ray_paxos.storage.{module}.sync_tree", lambda *arguments: None)


def name_without_sync(patch):
    """A checkpoint's name is not made durable, by whoever gives it or relies on it."""

    def publish(disk, folder):
        disk.rename(f"{folder}/_manifest.json", f"{folder}/manifest.json")

    patch.setattr("ray_paxos.storage.checkpoint_folders.publish_manifest", publish)
    rely_on_a_name_in_the_page_cache(patch)


def rely_on_a_name_in_the_page_cache(patch):
    """A learner goes on from a checkpoint that it can read, durable or not."""
    patch.setattr("ray_paxos.storage.opening.settle", lambda place, instance_id: None)
    patch.setattr("ray_paxos.storage.stores.settle", lambda place, instance_id: None)


def publish_before_verifying(patch):
    """What was received is a checkpoint, whatever it holds; and it is loaded so."""
    patch.setattr("ray_paxos.storage.checkpoint_transfers.verify_file", lambda *arguments: None)
    patch.setattr("ray_paxos.storage.checkpoints.verify_files", lambda *arguments: None)


def forget_promises_at_an_install(patch):
    """An install clears the acceptor's promise and votes with the log (the parent's S3)."""
    switch = LearnerCheckpoints.switch_if_loaded
    acceptors = _acceptors(patch)

    def switch_clearing(self, effects):
        cut = switch(self, effects)
        if cut is not None:
            votes = acceptors[self._state.member_id].groups[self._state.group]
            votes.promise = None
            votes.votes.clear()
        return cut

    patch.setattr(LearnerCheckpoints, "switch_if_loaded", switch_clearing)


def _acceptors(patch):
    """The state of each member's acceptor, by member, as it is opened."""
    from ray_paxos.core.acceptor import Acceptor

    found: dict[int, AcceptorState] = {}
    begin = Acceptor.__init__

    def note(self, state, *, member_id, **others):
        begin(self, state, member_id=member_id, **others)
        found[member_id] = state

    patch.setattr(Acceptor, "__init__", note)
    return found


def seal_while_installing(patch):
    """What is learned after the switch is sealed before the old log is cut off."""
    patch.setattr(CheckpointInstall, "bars_sealing", property(lambda self: False))


def switch_while_sealing(patch):
    """The switch does not wait for what is on its way to the disk."""
    patch.setattr(Sealing, "is_busy", property(lambda self: False))


def learn_without_a_second_word(patch):
    """A chunk is learned as it comes."""
    patch.setattr(ChunkCheck, "next_question", lambda self, now_ns: None)
    patch.setattr(UnconfirmedChunks, "note", lambda self, source, end, now_ns: None)

    def take(self):
        chunk = self._chunk
        self._end()
        return chunk

    patch.setattr(ChunkCheck, "take", take)


def serve_damaged_segments(patch):
    """A segment is read without comparing it with its checksums."""

    def open_unchecked(place, path):
        data = place.disk.read(path)
        try:
            return place.codec.open(data, path)
        except DamageError:
            body = data[:-4]
            return place.codec.open(body + google_crc32c.value(body).to_bytes(4, "big"), path)

    for module in ("segments", "segment_folders", "segment_merging", "scrubber"):
        patch.setattr(f"ray_paxos.storage.{module}.open_segment", open_unchecked)
    patch.setattr("ray_paxos.storage.segments.read_instances", _read_unchecked)


def _read_unchecked(content, first, where):
    for index in range(len(content.blocks)):
        for instance in content.read(index):
            if instance.chosen.instance_id >= first:
                yield instance


def keep_serving_a_damaged_checkpoint(patch):
    """A damaged checkpoint is reported, and stays what it is."""
    patch.setattr(Checkpointer, "_set_aside", lambda self, instance_id, why, effects: None)


def mend_nothing(patch):
    """A damaged segment is reported, and stays what it is."""
    patch.setattr(SegmentRepair, "take_question", lambda self, now_ns: None)


def mend_with_unverified_values(patch):
    """What another member gave is put in place of the damaged segment, unread."""
    replace = segment_folders.SegmentFolder.replace

    def replace_unverified(self, values):
        first = values[0]
        bad = type(first)(first.instance_id, first.ballot, first.value[:-1] + b"?")
        with patch.context() as inner:
            inner.setattr(segment_folders, "DamageError", _NeverError)
            with contextlib.suppress(_NeverError):
                replace(self, (bad, *values[1:]))

    patch.setattr(segment_folders.SegmentFolder, "replace", replace_unverified)


class _NeverError(Exception):
    def __init__(self, *arguments):
        super().__init__(*arguments)


def count_durable_beyond_the_hole(patch):
    """A log whose middle is damaged counts as durable to its end."""
    opened = Learner.__init__

    def open_boldly(self, *, segments, **others):
        opened(self, segments=segments, **others)
        place = segments.__self__._place
        names = [n for n in place.disk.list(place.log) if not n.startswith("_")]
        kept = f"learner/set_aside/group={place.group}"
        names += [n for n in _listed(place, kept) if not n.startswith("damaged")]
        ends = [place.parse(name)[1] for name in names]
        sealing = self._state.sealing
        sealing.durable_through = max([sealing.durable_through, *ends])

    patch.setattr(Learner, "__init__", open_boldly)


def _listed(place: SegmentPlace, folder: str):
    return place.disk.list(folder) if place.disk.exists(folder) else []


def cover_with_any_checkpoint(patch):
    """A checkpoint that does not reach to the log is taken for one that covers it."""
    never = property(lambda self: False, lambda self, value: None)
    patch.setattr(LearnerCheckpoints, "_is_uncovered", never, raising=False)


def wait_for_who_has_it(patch):
    """A damaged segment that everybody has cut off is asked for again and again."""
    for name in ("cut_off_through", "lost_through"):
        patch.setattr(SegmentRepair, name, property(lambda self: 0))


def give_up_on_one_members_word(patch):
    """A damaged segment that one other member has cut off is taken for lost."""
    patch.setattr(SegmentRepair, "lost_through", property(lambda self: self.cut_off_through))


def count_only_who_has_cut_off(patch):
    """A damaged segment that the others have not learned yet is waited for, as they wait for it."""

    def note(self, member_id, reply):
        current = self._ranges[0]
        if reply.log_floor > current[0]:
            self._cut_off.add(current)
            self._without.setdefault(current, set()).add(member_id)

    patch.setattr(SegmentRepair, "_note_without", note)


def leave_checkpoints_to_the_copy(patch):
    """Where the checkpointer's copy cannot go on over damage, no checkpoint is made."""

    patch.setattr(
        Checkpointer,
        "_is_for_the_learner",
        lambda self, outcome: isinstance(outcome, SavedByLearner),
    )


def want_no_checkpoint(patch):
    """After damage the next checkpoint is made when it would have been without."""
    patch.setattr(CheckpointSchedule, "want", lambda self, through: None)


def never_ask_for_a_late_word(patch):
    """What was learned on one member's word alone is never asked about again."""
    patch.setattr(UnconfirmedChunks, "_helpful", lambda self: [])


def ask_for_segments_once(patch):
    """A checkpointer that misses segments waits for the next one to be sealed."""
    patch.setattr(Checkpointer, "_ask_again_ns", property(lambda self: None))


def clean_nothing(patch):
    """The log keeps all that ever was."""
    patch.setattr(LogCleaning, "take_due", lambda self, *arguments: None)


def keep_all_checkpoints(patch):
    """Checkpoints stay, however many there are."""
    patch.setattr(CheckpointSchedule, "take_superfluous", lambda self, now_ns: [])
