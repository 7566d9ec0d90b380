"""Seeded bugs of sessions, at the client and in the group; see `mutations`."""

from __future__ import annotations

from ray_paxos.core.proposer import Proposer
from ray_paxos.core.results import NoteCode
from ray_paxos.core.session import ClientSession
from ray_paxos.core.values import SessionId
from ray_paxos.errors import PaxosError
from ray_paxos.machines.sessions import Session, SessionTable


def tell_a_gap_as_not_applied(patch):
    """A client takes a refusal for a gap for the outcome: that command was not applied."""
    on_submitted = ClientSession.on_submitted

    def on_submitted_hastily(self, request_id, results):
        request = self._numbered.get(request_id)
        answered = on_submitted(self, request_id, results)
        codes = {note.code for result in results for note in result.notes.values()}
        if request is not None and NoteCode.GAP in codes:
            for batch in request.batches:
                for receiver, start, count in batch.receivers:
                    receiver.fail(start, PaxosError("not applied"), count)
            self._replace(request, [])
        return answered

    patch.setattr(ClientSession, "on_submitted", on_submitted_hastily)


def reuse_a_refused_number(patch):
    """A client that was refused as overload takes the number for the next command it has."""
    on_not_taken = ClientSession.on_not_taken

    def on_not_taken_at_all(self, request_id):
        on_not_taken(self, request_id)
        request = self._numbered.get(request_id)
        if request is not None:
            self._numbered.next_number = request.batches[0].first_number
            self._replace(request, [])

    patch.setattr(ClientSession, "on_not_taken", on_not_taken_at_all)


def open_an_evicted_session_anew(patch):
    """A session that is not in the table is one that has not applied anything yet."""
    use = SessionTable.use

    def use_any(self, session: SessionId, log_time_ns: int):
        if session not in self._sessions:
            self._sessions[session] = Session("", log_time_ns, self.limits)
        return use(self, session, log_time_ns)

    patch.setattr(SessionTable, "use", use_any)


def drop_kept_results_at_a_checkpoint(patch):
    """A checkpoint carries how far each session is, and not its results."""
    restore = SessionTable.restore

    def restore_without(cls, state, sessions):
        table = restore(state, sessions)
        for session in table._sessions.values():
            session.kept.clear()
            session.lowest_open, session.kept_bytes = session.next_number, 0
        return table

    patch.setattr(SessionTable, "restore", classmethod(restore_without))


def drop_sessions_at_a_checkpoint(patch):
    """A checkpoint carries the machines, and no session."""
    restore = SessionTable.restore
    patch.setattr(
        SessionTable, "restore", classmethod(lambda cls, state, sessions: restore(state, []))
    )


def forget_copies_that_are_about(patch):
    """A client whose command's time is over takes what got no answer for what never arrived."""
    on_time = ClientSession.on_time

    def on_time_forgetting(self, now_ns):
        counted = [(request, request.uncertain) for request in self._numbered]
        for request, _ in counted:
            request.uncertain = 0
        overdue = on_time(self, now_ns)
        for request, uncertain in counted:
            request.uncertain = uncertain
        return overdue

    patch.setattr(ClientSession, "on_time", on_time_forgetting)


def call_what_was_proposed_untouched(patch):
    """A master that steps down says of its open instances, too, that they will not be chosen."""
    redirect_all = Proposer._redirect_all

    def redirect_all_as_untouched(self, requests, effects, *, untouched=False):
        redirect_all(self, requests, effects, untouched=True)

    patch.setattr(Proposer, "_redirect_all", redirect_all_as_untouched)
