"""What a learner answers its clients: at once, or once there is an answer.

How fresh a read has to be is looked at by `learner_reads`, what waits is held by `held_queries`.

Who waits here relies on it that the learner hears of what happens. So it gives up all that it holds
where it has left the group, or its state may be older than `OUT_OF_TOUCH_NS`: then they wait
elsewhere. A member that is in touch holds them without another word.
"""

from __future__ import annotations

from ray_paxos.core.client_messages import (
    Query,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryProblem,
    QueryResult,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.held_queries import HeldQueries, Topic
from ray_paxos.core.learner_state import LearnerState
from ray_paxos.core.messages import Address
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import NotYetError

OUT_OF_TOUCH_NS = 5_000 * MILLISECOND_NS
"""An election takes less."""


class LearnerAnswers:
    """The reads of one learner.

    Invariants: while queries are held, the topics that machines notify are kept for them.
    """

    def __init__(self, state: LearnerState) -> None:
        """Hold none.

        Args:
            state: What is answered from.
        """
        self._state = state
        self._held = HeldQueries()
        # Since when something is held, or since it was known to be in touch last.
        self._in_touch_ns = 0

    @property
    def due_ns(self) -> int | None:
        """When `go_on` has something to do by itself."""
        due_ns = self._held.deadline_ns
        return None if due_ns is None else min(due_ns, self._in_touch_ns + OUT_OF_TOUCH_NS)

    def on_query(
        self, sender: Address, query: Query | QueryMany, now_ns: int, effects: Effects
    ) -> None:
        """Answer a read, or hold it."""
        reply, topic = self._answer(query, now_ns)
        if reply is None:
            assert isinstance(query, Query), "others are not held"
            if not self._held:
                self._in_touch_ns = now_ns
            if self._held.hold(sender, query, topic, now_ns):
                self._state.applying.keeps_topics = True
                return
            reply = self._failed(query, "too many queries wait here", QueryProblem.OVERLOADED)
        self._state.send(sender, reply, effects)

    def state_replaced(self) -> None:
        """By a checkpoint's: what has happened meanwhile nobody says."""
        self._held.notify_all()

    def go_on(self, now_ns: int, effects: Effects) -> None:
        """Ask again what waits for what has happened, and give up what has waited long enough."""
        held, applying = self._held, self._state.applying
        if not held:
            return
        if applying.stopped:
            held.notify_all()
        else:
            held.notify(applying.topics)
            held.applied(applying.applied_through)
        applying.topics.clear()
        for ticket, each in held.take_due(now_ns):
            reply, topic = self._answer(each.query, now_ns)
            if reply is None:
                held.hold_on(ticket, topic)
            else:
                held.answered(ticket)
                self._state.send(each.sender, reply, effects)
        for each in held.take_over(now_ns):
            failed = self._failed(each.query, "there is no answer yet", QueryProblem.NOT_YET)
            self._state.send(each.sender, failed, effects)
        self._give_up_where_out_of_touch(now_ns, effects)
        applying.keeps_topics = len(held) > 0

    def _give_up_where_out_of_touch(self, now_ns: int, effects: Effects) -> None:
        state = self._state
        if state.is_own and state.member_id not in state.configuration.member_ids:
            why, problem = "this member has left the group", QueryProblem.NO_GROUP
        elif now_ns < self._in_touch_ns + OUT_OF_TOUCH_NS:
            return
        else:
            age_ns = state.reads.staleness_ns(state.applying.applied_through, now_ns)
            if age_ns is not None and age_ns < OUT_OF_TOUCH_NS:
                self._in_touch_ns = now_ns - age_ns
                return
            why, problem = "this member hears nothing of its group", QueryProblem.STALE
        for each in self._held.take_all():
            state.send(each.sender, self._failed(each.query, why, problem), effects)

    def _answer(
        self, query: Query | QueryMany, now_ns: int
    ) -> tuple[QueryResult | QueryAnswers | QueryFailed | None, Topic | None]:
        """What to answer; None where it is to be held, with what it waits for, as `HeldQuery`."""
        state = self._state
        try:
            reply = state.reads.answer(
                query,
                state.host,
                stopped=state.applying.stopped,
                applied_through=state.applying.applied_through,
                now_ns=now_ns,
                config_id=state.lease_config_id,
                learned=state.ballot,
            )
        except NotYetError as error:
            return None, (query.machine, error.topic)
        may_wait = isinstance(query, Query) and query.wait_ms > 0
        if may_wait and isinstance(reply, QueryFailed) and reply.problem is QueryProblem.BEHIND:
            return None, None
        return reply, None

    def _failed(self, query: Query, why: str, problem: QueryProblem) -> QueryFailed:
        state = self._state
        return QueryFailed(
            query.request_id, state.applying.applied_through, why, problem, state.master
        )
