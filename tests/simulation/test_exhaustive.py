"""The exhaustive walk: small models whose states are all visited, and seeded bugs that it finds."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.messages import Accept
from ray_paxos.testing.exhaustive import site
from ray_paxos.testing.exhaustive.__main__ import main
from ray_paxos.testing.exhaustive.actions import Deliver
from ray_paxos.testing.exhaustive.canonical import Canon
from ray_paxos.testing.exhaustive.explore import Result, Search
from ray_paxos.testing.exhaustive.lease_models import AGAIN, FORGETFUL, GRANTS, LEASE, NOTICES
from ray_paxos.testing.exhaustive.model import CRASH, Model
from ray_paxos.testing.exhaustive.parts import A, B, acceptor, mail, proposer, take_over
from ray_paxos.testing.exhaustive.prepare_models import (
    BALLOTS,
    COMMANDS,
    ELECTIONS,
    FLOORS,
    POWER,
    PREPARE,
    RECIPE,
    RESTART,
    SECOND,
    WIDE,
)
from ray_paxos.testing.exhaustive.site import Site
from ray_paxos.testing.exhaustive.word import Word
from tests.simulation import mutations, mutations_of_leases

STATES_MAX = 31_000
GLIMPSE_STATES_MAX = 12_000
NIGHTLY_STATES_MAX = 3_000_000
SMALL = [BALLOTS, FLOORS, POWER, RESTART, ELECTIONS, GRANTS]
"""Exhausted each time; of the others there is a glimpse here, and all of them at night."""

FOUND = [
    (mutations.forget_to_adopt, BALLOTS),
    (mutations.forget_to_adopt, FLOORS),
    (mutations.adopt_the_lowest, SECOND),
    (mutations.count_a_duplicate_twice, BALLOTS),
    (mutations.learn_by_inference, COMMANDS),
    (mutations.lower_the_promise_when_learning, FLOORS),
    (mutations.skip_sync_before_promise, POWER),
    (mutations.skip_sync_before_accepted, POWER),
    (mutations.reply_ahead_of_an_earlier_record, POWER),
    (mutations_of_leases.say_no_vote_below_the_floor, FLOORS),
    (mutations_of_leases.propose_without_learning, FLOORS),
    (mutations_of_leases.promise_below_the_promise, BALLOTS),
    (mutations_of_leases.raise_no_incarnation, RESTART),
    (mutations_of_leases.count_the_lease_from_the_reply, GRANTS),
    (mutations_of_leases.forget_the_drift, GRANTS),
    (mutations_of_leases.forget_grants_over_a_restart, FORGETFUL),
    (mutations_of_leases.grant_without_barring, GRANTS),
    (mutations_of_leases.release_whatever_is_granted, AGAIN),
    (mutations_of_leases.forget_revocations, NOTICES),
]


def search(model: Model, states_max: int = STATES_MAX, *, reduced: bool = True) -> Result:
    return Search(model, states_max=states_max, depth_max=1_000, reduced=reduced).run()


def name_of(model: Model) -> str:
    return model.name.replace(" ", "_")


# The core holds.


@pytest.mark.parametrize("model", [*PREPARE, *LEASE], ids=name_of)
def test_no_rule_is_broken(model):
    states_max = STATES_MAX if model in SMALL else GLIMPSE_STATES_MAX
    result = search(model, states_max)
    assert (result.violation, result.path) == ("", [])
    assert result.exhausted == (model in SMALL)
    assert result.exhausted or result.states >= states_max


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("model", [*PREPARE, *LEASE, *WIDE], ids=name_of)
def test_no_rule_is_broken_at_all(model):
    result = search(model, NIGHTLY_STATES_MAX)
    assert (result.violation, result.path) == ("", [])
    assert result.exhausted or model in WIDE


# Seeded bugs are found.


@pytest.mark.parametrize(
    ("mutation", "model"), FOUND, ids=[f"{m.__name__}-{model.name}" for m, model in FOUND]
)
def test_a_seeded_bug_is_found(mutation, model, monkeypatch):
    mutation(monkeypatch)
    result = search(model)
    assert result.violation, f"{model.name} does not find: {mutation.__doc__}"
    assert result.states <= STATES_MAX
    assert result.path, "it begins sound, and has to be led astray"


def test_a_lost_promise_is_seen_by_what_comes_of_it(monkeypatch):
    """Nobody watches whether answers wait for the sync: two values are chosen in the end."""
    mutations.skip_sync_before_accepted(monkeypatch)
    monkeypatch.setattr(site, "judge_message", lambda *_: None)
    result = search(POWER)
    assert result.violation.startswith(("R1", "R2", "P2c")), result.violation


def test_an_unkept_grant_is_seen_by_what_comes_of_it(monkeypatch):
    """Nobody watches what acceptors promise: two believe that they lead in the end."""
    mutations_of_leases.forget_the_drift(monkeypatch)
    monkeypatch.setattr(Word, "judge", lambda *_: None)
    assert search(GRANTS).violation.startswith("lease: A.proposer goes by its lease")


# States.


def votes_in_order(*instances: int) -> Site:
    """An acceptor that voted for these instances, one after the other."""
    voter = Site("voter", (acceptor(A),), RECIPE, syncs_at_once=True)
    for instance_id in instances:
        accept = Accept(Ballot(1, B, 1), instance_id, b"value")
        voter.step(Deliver(mail(proposer(B), acceptor(A), accept)), RECIPE)
    return voter


def test_one_text_for_one_state():
    texts = [Canon().text(votes_in_order(*order)) for order in ((1, 2, 3), (3, 1, 2), (2, 2, 3, 1))]
    assert texts[0] == texts[1] == texts[2]
    assert Canon().text(votes_in_order(1, 2)) != texts[0]
    copied = pickle.loads(pickle.dumps(votes_in_order(1, 2, 3)))
    assert Canon().text(copied) == texts[0]


def test_order_counts_where_it_may_matter():
    one, other = OrderedDict([(1, "a"), (2, "b")]), OrderedDict([(2, "b"), (1, "a")])
    assert Canon().text(one) != Canon().text(other)
    assert Canon().text(dict(one)) == Canon().text(dict(other))
    assert Canon().text([1, 2]) != Canon().text([2, 1])
    assert Canon().text({1, 2}) == Canon().text({2, 1})


def test_ways_that_differ_in_order_only_lead_to_one_state():
    system = Search(BALLOTS, states_max=1, depth_max=1).system
    state, joined = system.first(), 0
    for _ in range(12):
        moves = list(system.moves(state))
        for first in moves:
            for second in moves:
                if first[0] != second[0]:
                    one = system.after(system.after(state, first), second)
                    other = system.after(system.after(state, second), first)
                    assert one == other
                    joined += 1
        state = system.after(state, moves[-1])
    assert joined > 50


@pytest.mark.parametrize(
    "model",
    [
        replace(BALLOTS, name="alone", mail=(take_over(A, 1),)),
        replace(ELECTIONS, name="one election", budgets={"A": 1, "B": 0}),
        replace(RESTART, name="restart alone", mail=(take_over(A, 1),)),
        replace(
            RESTART, name="rivals", budgets={CRASH: 0}, mail=(take_over(A, 1), take_over(B, 1))
        ),
    ],
    ids=name_of,
)
def test_reductions_lose_no_local_states(model):
    """Every combination of local states that the whole search meets, the reduced one meets."""
    found = {}
    for reduced in (True, False):
        walk = Search(model, states_max=200_000, depth_max=1_000, reduced=reduced)
        assert walk.run().exhausted
        found[reduced] = {walk.system.digests(state) for state in walk.seen}, len(walk.seen)
    assert found[True][0] == found[False][0]
    assert found[True][1] < found[False][1]


def test_a_bug_is_found_without_reductions_too(monkeypatch):
    mutations.skip_sync_before_accepted(monkeypatch)
    monkeypatch.setattr(site, "judge_message", lambda *_: None)
    whole = search(replace(POWER, mail=POWER.mail), 400_000, reduced=False)
    assert whole.violation


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_a_search_is_the_same_under_another_hash_seed(hash_seed, repository):
    program = (
        "from tests.simulation.test_exhaustive import RESTART, search;"
        "r = search(RESTART); print(r.states, r.transitions, r.depth)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(repository)}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout
    result = search(RESTART)
    assert output.split() == [str(n) for n in (result.states, result.transitions, result.depth)]


# The command line.


def test_says_what_it_visited(tmp_path, capsys):
    path = tmp_path / "visited.json"
    assert main(["--model", "prepare", "--only", "restart", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    document = json.loads(path.read_text())
    (visited,) = document["visited"]
    assert f"{visited['states']} states, {visited['transitions']} transitions" in printed
    assert "exhausted" in printed
    assert "violations: 0" in printed
    assert visited["exhausted"] is True
    assert visited["depth"] > 10
    assert document["violations"] == 0


def test_a_bound_ends_it(capsys):
    assert main(["--model", "lease", "--only", "grants", "--states", "500", "-v"]) == 0
    printed = capsys.readouterr().out
    assert "not exhausted" in printed
    assert "depth 1: " in printed
    assert main(["--model", "prepare", "--only", "power", "--depth", "3"]) == 0
    assert "depth 3, " in capsys.readouterr().out


def test_a_violation_is_told_step_by_step(monkeypatch, capsys, tmp_path):
    mutations.forget_to_adopt(monkeypatch)
    path = tmp_path / "visited.json"
    assert main(["--model", "prepare", "--json", str(path)]) == 1
    captured = capsys.readouterr()
    assert "violation in ballots: P2c" in captured.err
    assert "1. " in captured.err
    assert "Prepare(" in captured.err
    assert "violations: 1" in captured.out
    assert json.loads(path.read_text())["violations"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model"),
        (["--model", "raft"], "'raft'"),
        (["--model", "lease", "--only", "floors"], "--model lease has grants"),
        (["--model", "lease", "--states", "0"], "'0' is no number"),
        (["--model", "lease", "--depth", "deep"], "'deep' is no number"),
        (["--model", "lease", "--json", "/nowhere/at/all/x.json"], "its folder does not exist"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_runs_as_a_module(repository):
    command = [sys.executable, "-m", "ray_paxos.testing.exhaustive", "--model", "prepare"]
    ended = subprocess.run(
        [*command, "--only", "elections"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "violations: 0" in ended.stdout
