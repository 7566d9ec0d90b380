"""Waits of a client against learners that are as they please: each ends once, and in time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.actors.role_line import CALL_TIMEOUT_S
from ray_paxos.core.client_calls import Call
from ray_paxos.core.client_messages import QueryProblem
from ray_paxos.core.client_waits import HOLD_MS
from ray_paxos.core.held_queries import WAIT_MS_MAX
from ray_paxos.core.learner_answers import OUT_OF_TOUCH_NS
from ray_paxos.core.messages import Message
from ray_paxos.errors import PaxosError, QueryError
from tests.unit.core_helpers import MS
from tests.unit.waits_bench import Client, Waiter, answered, failed, query_of


class Learners:
    """Hold what they are asked; each is well, or something is wrong with it, for a while.

    Attributes:
        happens_ns: When what each request waits for happens.
        on_their_way: Answers, and when they come.
        asked: How many queries have been sent.
    """

    def __init__(self, client: Client, moods: list[tuple[int, str, int]]) -> None:
        self.client = client
        self.began_ns = client.now_ns
        self.moods = moods
        self.happens_ns: dict[bytes, int] = {}
        self.on_their_way: list[tuple[int, int, Call, Message | str]] = []
        self.asked = 0

    def mood(self, member_id: int) -> str:
        """What holds of a member now; well, where nothing was said."""
        passed_ms = (self.client.now_ns - self.began_ns) // MS
        found = [m for of, m, from_ms in self.moods if of == member_id and from_ms <= passed_ms]
        return found[-1] if found else "well"

    def take(self, call: Call, latency_ms: int) -> None:
        self.asked += 1
        query, now_ns = query_of(call), self.client.now_ns
        comes_ns = now_ns + 2 * latency_ms * MS
        match self.mood(call.member_id):
            case "silent":
                # The line gives up on it.
                self._put(now_ns + int(CALL_TIMEOUT_S * 1e9), call, "it does not answer")
            case "gone":
                self._put(comes_ns, call, "it is gone")
            case "busy":
                self._put(comes_ns, call, failed(call, QueryProblem.OVERLOADED))
            case "cut off":
                given_up = failed(call, QueryProblem.STALE, master=call.member_id)
                self._put(comes_ns + OUT_OF_TOUCH_NS, call, given_up)
            case _:
                held_ns = min(query.wait_ms, WAIT_MS_MAX) * MS
                happens_ns = self.happens_ns[query.request]
                if happens_ns <= now_ns + held_ns:
                    self._put(max(comes_ns, happens_ns + latency_ms * MS), call, answered(call))
                else:
                    not_yet = failed(call, QueryProblem.NOT_YET, master=call.member_id % 3 + 1)
                    self._put(comes_ns + held_ns, call, not_yet)

    def _put(self, comes_ns: int, call: Call, what: Message | str) -> None:
        self.on_their_way.append((comes_ns, self.asked, call, what))

    def deliver(self) -> list[Call]:
        """What has come by now; gives what is asked then."""
        now_ns, calls = self.client.now_ns, []
        come = sorted((e for e in self.on_their_way if e[0] <= now_ns), key=lambda e: e[:2])
        self.on_their_way = [each for each in self.on_their_way if each[0] > now_ns]
        for _, _, call, what in come:
            if isinstance(what, str):
                calls += self.client.lose(call, what)
            else:
                calls += self.client.answer(call, what)
        return calls

    @property
    def next_ns(self) -> int | None:
        return min((each[0] for each in self.on_their_way), default=None)


MOODS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["well", "silent", "gone", "busy", "cut off"]),
        st.integers(0, 60_000),
    ),
    max_size=8,
).map(lambda moods: sorted(moods, key=lambda mood: mood[2]))
# How long each waits, when it happens, whether it gives up, and when.
WAITS = st.lists(
    st.tuples(
        st.integers(1, 150_000),
        st.integers(0, 200_000),
        st.one_of(st.none(), st.integers(0, 150_000)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(MOODS, WAITS, st.integers(0, 40), st.integers(0, 5))
def test_each_wait_ends_once_and_in_time(
    moods: list[tuple[int, str, int]],
    waits: list[tuple[int, int, int | None]],
    latency_ms: int,
    seed: int,
) -> None:
    client = Client(seed=seed)
    learners = Learners(client, moods)
    began_ns = client.now_ns
    waiters: list[Waiter] = []
    for number, (for_ms, happens_ms, _) in enumerate(waits):
        learners.happens_ns[b"w%d" % number] = began_ns + happens_ms * MS
        waiters.append(client.wait(b"w%d" % number, for_ms=for_ms))
    calls = client.send()
    gives_up = sorted(
        (began_ns + after_ms * MS, number)
        for number, (_, _, after_ms) in enumerate(waits)
        if after_ms is not None
    )
    while True:
        while calls:
            learners.take(calls.pop(0), latency_ms)
            calls += learners.deliver()
        times = [client.waits.due_ns, learners.next_ns, *(at for at, _ in gives_up[:1])]
        due = [each for each in times if each is not None]
        if not due:
            break
        client.now_ns = max(min(due), client.now_ns)
        while gives_up and gives_up[0][0] <= client.now_ns:
            _, number = gives_up.pop(0)
            # As of a future: what is done is not cancelled.
            waiters[number].is_cancelled = not waiters[number].told
        calls = learners.deliver() + client.time_passes(0)
    assert len(client.waits) == 0
    for number, waiter in enumerate(waiters):
        check_end(waiter, learners, b"w%d" % number, latency_ms)
    # Once a minute, or with pauses of half a second in the end.
    assert learners.asked <= sum(10 + for_ms // 500 for for_ms, _, _ in waits)
    if not moods:
        assert learners.asked <= sum(2 + for_ms // HOLD_MS for for_ms, _, _ in waits)


def check_end(waiter: Waiter, learners: Learners, request: bytes, latency_ms: int) -> None:
    if waiter.is_cancelled:
        assert waiter.told == []
        return
    (told,) = waiter.told
    assert waiter.ended_ns is not None
    happens_ns = learners.happens_ns[request]
    if isinstance(told, PaxosError):
        assert waiter.ended_ns == waiter.deadline_ns
        assert isinstance(told, QueryError)
        if not learners.moods:
            # A query that is on its way as it happens is asked again, and answered then.
            assert happens_ns > waiter.deadline_ns - 4 * max(latency_ms, 1) * MS
    else:
        assert told == (request.upper(), 50)
        assert waiter.ended_ns <= waiter.deadline_ns
        assert waiter.ended_ns >= happens_ns
        if not learners.moods:
            late_ns = waiter.ended_ns - max(happens_ns, learners.began_ns)
            assert late_ns <= 4 * max(latency_ms, 1) * MS, "answers are not waited for in vain"
