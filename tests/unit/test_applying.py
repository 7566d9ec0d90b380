"""Applying: in order, from a checkpoint or the beginning, and stopped for good where it differs."""

from __future__ import annotations

import pytest

from ray_paxos.core.applying import POINTS_MAX, Applying
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.chosen_log import ChosenLog
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import ApplyingStopped, CommandRefused, InstanceApplied
from ray_paxos.core.learner_messages import (
    ChainPoint,
    ChosenValue,
)
from ray_paxos.core.results import EntryResult, Note, NoteCode, encode_results
from ray_paxos.core.values import EMPTY_CHAIN, Value, extend_chain
from tests.unit.core_helpers import GROUP, ballot, chosen, happened, noop
from tests.unit.learner_bench import ScriptedHost, chain_through, cut_at


class Bench:
    """What is learned is put into the log by the test."""

    def __init__(self, host: ScriptedHost | None = None, base: Cut | None = None) -> None:
        at = base.instance_id if base is not None else 0
        self.log = ChosenLog(10**6, at, base.chain if base is not None else EMPTY_CHAIN)
        host = host or ScriptedHost(applied_through=at)
        self.applying = Applying(GROUP, self.log, host, base)

    def applies(self, *values: ChosenValue) -> Effects:
        effects = Effects()
        for value in values:
            self.log.add(value)
        while self.applying.apply_next(effects) is not None:
            pass
        return effects

    def compare(self, point: ChainPoint) -> str:
        self.applying.compare(point, Effects())
        return self.applying.stopped


def upto(last: int, first: int = 1) -> list[ChosenValue]:
    return [chosen(i) for i in range(first, last + 1)]


def test_it_applies_what_is_learned_and_chains_the_results() -> None:
    bench = Bench()
    effects = bench.applies(*upto(3))
    results = EMPTY_CHAIN
    for applied in happened(effects, InstanceApplied):
        own = bench.applying.results(applied.instance_id)
        assert own is not None
        results = extend_chain(results, encode_results(own))
        assert applied.result_chain == results
        assert bench.applying.result_chains[applied.instance_id] == results
    assert bench.applying.point == ChainPoint(3, chain_through(3), results)
    assert bench.applying.result_bytes == len(encode_results(bench.applying.results(3) or ()))
    assert bench.applying.apply_next(Effects()) is None, "nothing more is learned"


def test_from_a_checkpoint_it_goes_on_with_its_chains() -> None:
    base = cut_at(40)
    bench = Bench(base=base)
    assert bench.applying.applied_through == 40
    assert bench.applying.point == ChainPoint(40, base.chain, base.result_chain)
    bench.applies(chosen(41))
    own = bench.applying.results(41)
    assert own is not None
    results = extend_chain(base.result_chain, encode_results(own))
    assert bench.applying.point == ChainPoint(41, chain_through(41), results)


def test_a_checkpoints_own_chains_are_compared_too() -> None:
    for chain, results, differs in (
        (chain_through(40), cut_at(40).result_chain, ""),
        (b"another", cut_at(40).result_chain, "values differ"),
        (chain_through(40), b"another", "results differ"),
    ):
        assert differs in Bench(base=cut_at(40)).compare(ChainPoint(40, chain, results))


def test_an_install_forgets_what_was_before() -> None:
    bench = Bench()
    bench.applies(*upto(3))
    stale = bench.applying.point
    host = ScriptedHost(applied_through=40)
    bench.log.rebase(40, chain_through(40))
    bench.applying.install(host, cut_at(40))
    assert bench.applying.host is host
    assert bench.applying.applied_through == 40
    assert bench.applying.results(3) is None
    assert bench.applying.result_chains == {}
    assert not bench.compare(ChainPoint(3, b"another", stale.result_chain)), "not known any more"
    bench.applies(chosen(41))
    assert host.through == 41


def test_what_is_sealed_is_forgotten_but_its_point_stays_to_be_compared() -> None:
    bench = Bench()
    bench.applies(*upto(4))
    bench.applying.forget(1, 2)
    assert [bench.applying.results(i) is None for i in (1, 2, 3, 4)] == [True, True, False, False]
    assert sorted(bench.applying.result_chains) == [3, 4]
    bench.applying.forget_all()
    assert bench.applying.results(4) is None
    assert bench.applying.result_chains == {}
    assert "values differ at or before 2" in bench.compare(ChainPoint(2, b"another", None))


def test_how_many_points_are_kept_is_bounded() -> None:
    bench = Bench()
    bench.applies(*(ChosenValue(i, ballot(1), noop(i)) for i in range(1, POINTS_MAX + 3)))
    assert len(bench.applying._points) == POINTS_MAX
    assert not bench.compare(ChainPoint(2, b"another", None))
    assert bench.compare(ChainPoint(3, b"another", None))


def test_a_point_that_is_not_reached_or_has_no_results_is_no_difference() -> None:
    bench = Bench()
    bench.applies(*upto(2))
    assert not bench.compare(ChainPoint(3, b"another", b"another"))
    assert not bench.compare(ChainPoint(2, chain_through(2), None))


@pytest.mark.parametrize("fails_at", [2, 0])
def test_once_stopped_it_stays_so_and_says_what_is_learned(fails_at: int) -> None:
    bench = Bench(ScriptedHost(fails_at=fails_at))
    bench.applies(*upto(3))
    effects = Effects()
    bench.applying.stop("for another reason", effects)
    stopped = bench.applying.stopped
    assert ("out of paper" if fails_at else "for another reason") in stopped
    assert len(happened(effects, ApplyingStopped)) == (0 if fails_at else 1), "said once"
    applied = bench.applying.applied_through
    bench.applies(chosen(4))
    assert bench.applying.applied_through == applied
    assert bench.applying.point == ChainPoint(4, chain_through(4), None)
    assert bench.compare(ChainPoint(1, b"another", None)) == stopped


class RefusingHost(ScriptedHost):
    def apply(self, instance_id: int, value: Value) -> tuple[EntryResult, ...]:
        super().apply(instance_id, value)
        notes = {7: Note(NoteCode.GAP, "", 0, 0), 8: Note(NoteCode.SESSION_EXPIRED, "", 0, 0)}
        return (EntryResult(instance_id, 0, (), notes),)


def test_what_was_refused_is_told() -> None:
    effects = Bench(RefusingHost()).applies(chosen(1))
    assert [event.code for event in happened(effects, CommandRefused)] == [
        int(NoteCode.GAP),
        int(NoteCode.SESSION_EXPIRED),
    ]
