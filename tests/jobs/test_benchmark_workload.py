"""Workloads of the benchmark: which operations, and to which keys."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

import benchmark_workload
from benchmark_keys import (
    SCRAMBLED_ITEMS,
    SCRAMBLED_ZETA,
    THETA,
    Keys,
    Zipfian,
    fnv_hash,
    key_name,
    zeta,
)
from benchmark_workload import NAMES, Kind, load_workload
from ray_paxos.errors import ConfigurationError

DRAWS = 50_000


def share(found: Counter[int], *keys: int) -> float:
    return sum(found[key] for key in keys) / found.total()


def draw(keys: Keys, draws: int = DRAWS) -> Counter[int]:
    return Counter(keys.choose() for _ in range(draws))


def test_zipfian_frequencies_are_those_of_the_theory() -> None:
    """The share of the item of rank i is 1 / i ** 0.99, divided by the sum over all items."""
    count = 1_000
    chooser = Zipfian(count, random.Random(7))
    found = Counter(chooser.choose() for _ in range(DRAWS))
    total = zeta(count)
    assert min(found) == 0
    assert max(found) < count
    # The first two are exact.
    assert share(found, 0) == pytest.approx(1 / total, rel=0.05)
    assert share(found, 1) == pytest.approx(0.5**THETA / total, rel=0.05)
    for ranks in (10, 100, 500):
        assert share(found, *range(ranks)) == pytest.approx(zeta(ranks) / total, rel=0.05)


def test_a_zipfian_that_grew_chooses_like_one_that_was_as_large() -> None:
    grown, large = Zipfian(10, random.Random(3)), Zipfian(200, random.Random(3))
    grown.grow(200)
    assert [grown.choose() for _ in range(500)] == [large.choose() for _ in range(500)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_items_are_all_chosen_and_no_others(count: int) -> None:
    chooser = Zipfian(count, random.Random(1))
    assert {chooser.choose() for _ in range(500)} == set(range(count))


def test_the_constant_for_scrambling_is_the_sum() -> None:
    """Of 10 ** 10 terms: a thousand of them, and the integral of the rest."""
    first = 1_000
    rest = ((SCRAMBLED_ITEMS + 0.5) ** (1 - THETA) - (first + 0.5) ** (1 - THETA)) / (1 - THETA)
    assert zeta(first) + rest == pytest.approx(SCRAMBLED_ZETA, rel=1e-6)


def test_a_hash_is_ycsbs() -> None:
    """Keys of YCSB's own runs: user6284781860667377211 is its number 0."""
    assert key_name(0) == "user6284781860667377211"
    assert key_name(1) == "user8517097267634966620"
    assert len({fnv_hash(number) for number in range(10_000)}) == 10_000


def test_scrambled_keys_are_skewed_but_not_in_order() -> None:
    found = draw(Keys(1_000, "zipfian", random.Random(5)))
    popular = [key for key, _ in found.most_common(3)]
    assert popular[0] == fnv_hash(0) % 1_000
    assert share(found, popular[0]) == pytest.approx(1 / SCRAMBLED_ZETA, rel=0.1)
    assert popular != sorted(popular)[:3] or popular[0] > 10
    assert set(found) <= set(range(1_000))


def test_scrambled_keys_that_are_inserted_are_chosen_only_then() -> None:
    keys = Keys(100, "zipfian", random.Random(5))
    assert max(draw(keys, 5_000)) < 100
    for _ in range(50):
        keys.insert()
    found = draw(keys, 20_000)
    assert max(found) < 150
    assert any(key >= 100 for key in found)


def test_latest_prefers_the_keys_that_were_inserted_last() -> None:
    keys = Keys(1_000, "latest", random.Random(9))
    assert draw(keys).most_common(1)[0][0] == 999
    for _ in range(500):
        keys.insert()
    found = draw(keys)
    assert [key for key, _ in found.most_common(2)] == [1_499, 1_498]
    assert share(found, 1_499) == pytest.approx(1 / zeta(1_500), rel=0.05)
    assert share(found, *range(1_000, 1_500)) > 0.8


def test_uniform_prefers_nothing() -> None:
    found = draw(Keys(100, "uniform", random.Random(2)))
    assert len(found) == 100
    assert max(found.values()) < 1.3 * min(found.values())


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("put", {Kind.UPDATE: 1}),
        ("get", {Kind.READ: 1}),
        ("mixed", {Kind.READ: 0.5, Kind.UPDATE: 0.5}),
        ("ycsb-a", {Kind.READ: 0.5, Kind.UPDATE: 0.5}),
        ("ycsb-b", {Kind.READ: 0.95, Kind.UPDATE: 0.05}),
        ("ycsb-c", {Kind.READ: 1}),
        ("ycsb-d", {Kind.READ: 0.95, Kind.INSERT: 0.05}),
        ("ycsb-e", {Kind.SCAN: 0.95, Kind.INSERT: 0.05}),
        ("ycsb-f", {Kind.READ: 0.5, Kind.READ_MODIFY_WRITE: 0.5}),
    ],
)
def test_operations_have_their_shares(name: str, shares: dict[Kind, float]) -> None:
    workload = load_workload(name, 100)
    operations = list(itertools.islice(workload.operations(100, random.Random(1)), 10_000))
    found = Counter(operation.kind for operation in operations)
    assert set(found) == set(shares)
    for kind, wanted in shares.items():
        assert found[kind] / 10_000 == pytest.approx(wanted, abs=0.02)
    for operation in operations:
        writes = operation.kind in (Kind.UPDATE, Kind.INSERT, Kind.READ_MODIFY_WRITE)
        assert len(operation.value) == (100 if writes else 0)
        assert (1 <= operation.length <= 100) == (operation.kind is Kind.SCAN)


def test_distributions_are_ycsbs_own() -> None:
    found = {name: load_workload(name, 100).distribution for name in NAMES}
    assert found["ycsb-d"] == "latest"
    assert {found[f"ycsb-{letter}"] for letter in "abcef"} == {"zipfian"}


def test_the_same_seed_gives_the_same_operations() -> None:
    def first(seed: int) -> list[object]:
        operations = load_workload("ycsb-a", 10).operations(10, random.Random(seed))
        return list(itertools.islice(operations, 100))

    assert first(4) == first(4)
    assert first(4) != first(5)


def test_keys_that_are_read_are_written_before() -> None:
    workload = load_workload("ycsb-b", 10)
    written = {operation.key for operation in workload.initial(10, random.Random(1))}
    read = itertools.islice(workload.operations(10, random.Random(1)), 1_000)
    assert {operation.key for operation in read} <= written
    assert workload.reads
    assert not load_workload("put", 10).reads
    assert not load_workload("get", 10).writes


def test_of_large_values_there_are_fewer() -> None:
    assert load_workload("put", 100_000).records == 500
    assert load_workload("put", 100).records == 10_000
    assert load_workload("ycsb-a", 100, records=77).records == 77


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("readproportion", "0.7", "1 together"),
        ("requestdistribution", "hotspot", "requestdistribution"),
        ("recordcount", "0", "1 or more"),
        ("raedproportion", "1", "raedproportion"),
        ("scanlengthdistribution", "zipfian", "scanlengthdistribution"),
    ],
)
def test_a_wrong_file_is_refused(
    field: str, value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (benchmark_workload.FOLDER / "ycsb-a.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(f"{field}:")]
    (tmp_path / "ycsb-a.yaml").write_text("\n".join([*lines, f"{field}: {value}"]))
    monkeypatch.setattr(benchmark_workload, "FOLDER", tmp_path)
    with pytest.raises(ConfigurationError, match=told):
        load_workload("ycsb-a", 100)
