"""Events that come too fast are left out, counted, told of later, and hide no others."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.observability.event_limit import SECOND_NS, EventLimit

MS = 1_000_000


def test_a_burst_passes_and_then_one_for_each_token() -> None:
    limit = EventLimit(burst=3, per_second=2)
    assert [limit.take("A", 1, 0) for _ in range(5)] == [0, 0, 0, None, None]
    assert limit.take("A", 1, 499 * MS) is None
    assert limit.take("A", 1, 500 * MS) == 3
    assert limit.take("A", 1, 500 * MS) is None
    assert limit.take("A", 1, 1_000 * MS) == 1


def test_a_bucket_fills_again_but_never_over_its_burst() -> None:
    limit = EventLimit(burst=3, per_second=2)
    for _ in range(3):
        limit.take("A", 1, 0)
    passed = [limit.take("A", 1, 3_600 * SECOND_NS) for _ in range(5)]
    assert passed == [0, 0, 0, None, None]


def test_ten_thousand_a_second_for_an_hour_pass_once_a_second() -> None:
    limit = EventLimit(burst=20, per_second=1)
    found = [limit.take("A", 1, n * 10 * MS) for n in range(100 * 60)]
    passed = [each for each in found if each is not None]
    assert len(passed) == 20 + 59
    assert sum(passed) + limit.untold + len(passed) == len(found)


def test_kinds_and_groups_are_limited_each_by_itself() -> None:
    limit = EventLimit(burst=1, per_second=1)
    assert limit.take("A", 1, 0) == 0
    assert limit.take("A", 1, 0) is None
    assert limit.take("A", 2, 0) == 0
    assert limit.take("A", None, 0) == 0
    assert limit.take("B", 1, 0) == 0


def test_new_groups_without_end_are_held_by_the_bucket_of_their_kind() -> None:
    limit = EventLimit(burst=20, kind_burst=50, kind_per_second=5, keys_max=100)
    found = [limit.take("MessageRefused", group, group * MS // 10) for group in range(100_000)]
    passed = [each for each in found if each is not None]
    assert len(passed) == 50 + 49
    assert limit.remembered == 100
    assert limit.take("InvariantBroken", 1, 10 * SECOND_NS) == 0, "it hides no other kind"


def test_what_a_forgotten_bucket_left_out_is_told_with_the_next_of_its_kind() -> None:
    limit = EventLimit(burst=1, per_second=1, keys_max=2)
    assert [limit.take("A", 1, 0) for _ in range(8)] == [0, *[None] * 7]
    limit.take("B", 1, 0)
    limit.take("B", 2, 0)
    assert limit.remembered == 2
    assert limit.untold == 7
    assert limit.take("B", 2, SECOND_NS) == 0
    assert limit.take("A", 3, SECOND_NS) == 7
    assert limit.untold == 0


def test_the_bucket_that_was_not_used_for_longest_goes_first() -> None:
    limit = EventLimit(burst=1, per_second=1, keys_max=2)
    limit.take("A", 1, 0)
    limit.take("A", 2, 0)
    limit.take("A", 1, 0)
    limit.take("A", 3, 0)
    assert limit.take("A", 1, 0) is None, "it was used last, and is remembered as empty"


def test_a_clock_that_falls_gives_no_tokens() -> None:
    limit = EventLimit(burst=2, per_second=1)
    assert [limit.take("A", 1, 10 * SECOND_NS) for _ in range(2)] == [0, 0]
    assert limit.take("A", 1, 0) is None


arrivals = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 5), st.integers(0, SECOND_NS)), max_size=200
)


class Model:
    """The same with tokens that are counted, and nothing that is forgotten."""

    def __init__(self, burst: int, per_second: int, kind_burst: int, kind_per_second: int) -> None:
        self.sizes = ((burst, per_second), (kind_burst, kind_per_second))
        self.tokens: dict[object, tuple[int, int]] = {}
        self.left_out: Counter[object] = Counter()

    def have(self, key: object, size: tuple[int, int], now_ns: int) -> int:
        burst, per_second = size
        tokens, at_ns = self.tokens.get(key, (burst * SECOND_NS, now_ns))
        return min(burst * SECOND_NS, tokens + (now_ns - at_ns) * per_second)

    def take(self, kind: str, group: int, now_ns: int) -> int | None:
        keys = ((kind, group), kind)
        have = [self.have(key, size, now_ns) for key, size in zip(keys, self.sizes, strict=True)]
        if min(have) < SECOND_NS:
            self.left_out[kind, group] += 1
            return None
        for key, tokens in zip(keys, have, strict=True):
            self.tokens[key] = (tokens - SECOND_NS, now_ns)
        return self.left_out.pop((kind, group), 0)


@given(arrivals)
def test_it_is_as_buckets_of_tokens_are(arrivals: list[tuple[str, int, int]]) -> None:
    limit = EventLimit(burst=2, per_second=2, kind_burst=4, kind_per_second=5)
    model = Model(2, 2, 4, 5)
    now_ns = 0
    for kind, group, after_ns in arrivals:
        now_ns += after_ns
        assert limit.take(kind, group, now_ns) == model.take(kind, group, now_ns)


@given(arrivals)
def test_nothing_is_forgotten_with_its_bucket(arrivals: list[tuple[str, int, int]]) -> None:
    limit = EventLimit(burst=1, per_second=1, kind_burst=3, kind_per_second=2, keys_max=2)
    now_ns, passed, told = 0, 0, 0
    for kind, group, after_ns in arrivals:
        now_ns += after_ns
        left_out = limit.take(kind, group, now_ns)
        if left_out is not None:
            passed, told = passed + 1, told + left_out
        assert limit.remembered <= 2
    assert passed + told + limit.untold == len(arrivals)
