"""When what ends: against a plain dictionary, and how much is kept of what does not count."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.machines.times_to_live import STALE_MIN, TimesToLive

KEYS = st.sampled_from("abcde")
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("forget"), KEYS, st.just(0)),
        st.tuples(st.just("take"), st.just(""), st.integers(0, 20)),
    ),
    max_size=50,
)


@settings(max_examples=300, deadline=None)
@given(CALLS)
def test_it_does_what_a_dictionary_does(calls: list[tuple[str, str, int]]) -> None:
    ends, plain = TimesToLive[str](), dict[str, int]()
    for call, key, at in calls:
        match call:
            case "note":
                ends.note(key, at)
                plain[key] = at
            case "forget":
                ends.forget(key)
                plain.pop(key, None)
            case _:
                due = sorted((time, key) for key, time in plain.items() if time <= at)[:2]
                assert ends.take(at, 2) == [key for _, key in due]
                for _, taken in due:
                    del plain[taken]
        assert ends.by_key == plain
        assert ends.first_ns == min(plain.values(), default=None)


def test_what_is_noted_again_and_again_takes_no_more_room() -> None:
    ends = TimesToLive[str]()
    ends.note("first", 0)
    for at in range(10 * STALE_MIN):
        ends.note("again", 1 + at)
        assert len(ends._heap) <= 2 * len(ends.by_key) + STALE_MIN + 1
    assert ends.take(10 * STALE_MIN, 5) == ["first", "again"]
    assert ends.first_ns is None
