"""Whatever a client tells its callers is true, whatever happens to its calls (R7)."""

from __future__ import annotations

from random import Random

import pytest

from ray_paxos.core.client_calls import ClientSettings
from ray_paxos.core.results import NoteCode
from ray_paxos.core.settings import MILLISECOND_NS as MS
from ray_paxos.errors import (
    NotAppliedError,
    OutcomeUnknownError,
    OverloadedError,
    PaxosError,
    SessionExpiredError,
    WithdrawnError,
)
from ray_paxos.machines.sessions import SessionLimits
from tests.unit.client_world import Told, World

SEEDS = 100


def run(seed: int, limits: SessionLimits, *, others: float = 0.0) -> World:
    random = Random(seed)
    settings = ClientSettings(
        request_bytes_max=random.choice((1, 30, 200)),
        window_max=random.choice((1, 3, 8)),
        call_timeout_ns=1_000 * MS,
        owed_ns=5_000 * MS,
    )
    world = World(random, settings, limits)
    submitted = 0
    for _ in range(1_500):
        if random.random() < 0.06 and submitted < 120:
            count = random.randint(1, 5)
            commands = [b"%d" % n for n in range(submitted, submitted + count)]
            submitted += count
            world.submit(commands, random.choice((None, 300 * MS, 1_500 * MS)))
        if random.random() < 0.05:
            ask_about_something(world)
        if random.random() < others:
            world.steal_a_session()
        world.step()
    world.heal()
    # What a dead master's value brings after everything was told.
    while world.orphans:
        world.choose(world.orphans.pop(random.randrange(len(world.orphans))))
    return world


def unknown_numbers(world: World) -> dict[int, bytes]:
    return {
        error.number: told.commands[position]
        for told in world.told
        for position, error in told.errors.items()
        if isinstance(error, OutcomeUnknownError) and error.number is not None and told.commands
        for error in [error.for_number(error.number + position - first_position(told, error))]
        if error.number is not None
    }


def first_position(told: Told, error: PaxosError) -> int:
    return min(position for position, other in told.errors.items() if other is error)


def ask_about_something(world: World) -> None:
    numbers = unknown_numbers(world)
    if not numbers:
        return
    number = world.random.choice(sorted(numbers))
    told = Told()
    told.commands = (numbers[number],)
    world.told.append(told)
    world.ask(number, told, withdraw=world.random.random() < 0.3)


def check(world: World) -> dict[type[PaxosError] | None, int]:
    """Compare what was told with what the log holds; counts what was told."""
    applied = world.log.applied
    assert len(set(applied)) == len(applied), "applied twice"
    assert [int(command) for command in applied] == sorted(map(int, applied)), "out of order"
    counts: dict[type[PaxosError] | None, int] = {}
    for told in world.told:
        for position, (entry, offset) in told.results.items():
            command, note = told.commands[position], entry.notes.get(offset)
            if note is not None and note.code is NoteCode.WITHDRAWN:
                assert command not in applied
                counts[WithdrawnError] = counts.get(WithdrawnError, 0) + 1
                continue
            assert command in applied
            assert entry.results[offset] == command[::-1]
            counts[None] = counts.get(None, 0) + 1
        for position, error in told.errors.items():
            command = told.commands[position]
            counts[type(error)] = counts.get(type(error), 0) + 1
            if not error.may_have_applied:
                assert command not in applied, f"{command!r} was said not to be applied: {error}"
    return counts


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_told_is_true(seed: int) -> None:
    world = run(seed, SessionLimits(open_numbers_max=5))
    check(world)
    numbers = unknown_numbers(world)
    for number, command in numbers.items():
        told = Told()
        told.commands = (command,)
        world.ask(number, told, withdraw=False)
        assert told.results, "asking again with the same number tells"
        ((entry, offset),) = told.results.values()
        note = entry.notes.get(offset)
        is_withdrawn = note is not None and note.code is NoteCode.WITHDRAWN
        assert (command in world.log.applied) is not is_withdrawn


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_told_is_true_though_sessions_are_evicted(seed: int) -> None:
    limits = SessionLimits(sessions_max=3, sessions_spared=1, idle_ns=400 * MS)
    check(run(seed, limits, others=0.05))


def test_the_seeds_see_every_kind_of_outcome() -> None:
    counts: dict[type[PaxosError] | None, int] = {}
    limits = SessionLimits(sessions_max=3, sessions_spared=1, idle_ns=400 * MS)
    for seed in range(25):
        for world in (run(seed, SessionLimits()), run(seed, limits, others=0.05)):
            for kind, count in check(world).items():
                counts[kind] = counts.get(kind, 0) + count
    certain = sum(n for kind, n in counts.items() if kind and issubclass(kind, NotAppliedError))
    for kind in (None, OutcomeUnknownError, SessionExpiredError, WithdrawnError, OverloadedError):
        assert counts.get(kind, 0) >= 5, f"{kind}: {counts}"
    assert certain >= 50
