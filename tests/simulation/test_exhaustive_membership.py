"""The exhaustive walk over changes of members: models exhausted, what they reach, bugs they find.

Which schedule of `test_membership_schedules.py` each model is the walk around:

```
           states  seconds  what the schedules are about
 replaced   46,200     6.1  an established master goes on after a voter is replaced
 stale       8,800     1.8  counting under the wrong configuration
 removal     8,400     2.6  a removed voter that is asked, and one that has forgotten
 unsealed   22,700     4.5  a configuration that outlives its entry
 cut short  15,100     4.8  an entry that only a damaged log had
 taught      1,300     0.6  taught, not applied
 late        8,800     1.5  a late accept of an old configuration; requests during a change
 outlived    2,800     2.1  a lease notice of an old configuration
 orders     53,800     6.5  a late order after a new journal file; a member that votes again
 parts      14,800     2.6  the same, of a member that takes part and leaves
 rivals     35,500     7.6  two changes of one configuration
```

Seconds are of one core.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.messages import Accepted, Prepare, RoleName, TakeOver
from ray_paxos.core.records import GroupCreated
from ray_paxos.testing.exhaustive import judge, ledger, situations
from ray_paxos.testing.exhaustive.actions import Packet
from ray_paxos.testing.exhaustive.explore import Result, Search
from ray_paxos.testing.exhaustive.membership_lease_models import OUTLIVED, WIDE_OUTLIVED
from ray_paxos.testing.exhaustive.membership_models import (
    CUT_SHORT,
    LATE,
    REMOVAL,
    REPLACED,
    RIVALS,
    STALE,
    TAUGHT,
    UNSEALED,
    WIDE_MEMBERSHIP,
)
from ray_paxos.testing.exhaustive.membership_order_models import (
    ORDERS,
    PARTS,
    REJOINED,
    WIDE_ORDERS,
)
from ray_paxos.testing.exhaustive.model import CRASH, Model
from ray_paxos.testing.exhaustive.models import MODELS
from ray_paxos.testing.exhaustive.parts import CONFIGURATION, A, accepts_above, any_of, proposer
from ray_paxos.testing.exhaustive.replicas import Replicas
from ray_paxos.testing.exhaustive.stage import Stage
from tests.simulation import mutations, mutations_of_masters, mutations_of_storage
from tests.simulation import mutations_of_membership as bugs

STATES_MAX = 60_000
NIGHTLY_STATES_MAX = 1_000_000

REACHED: list[tuple[Model, tuple[str, ...]]] = [
    (
        REMOVAL,
        (
            situations.OWN_REMOVAL_TOLD,
            situations.ENTRY_ADOPTED,
            situations.FORGOT,
            situations.ASKED_TOO_LATE,
            situations.NEW_PREPARE,
            situations.LED_ON,
        ),
    ),
    (
        STALE,
        (
            situations.OLD_PREPARE,
            situations.OLD_ACCEPT,
            situations.OWN_REMOVAL_TOLD,
            situations.ENTRY_ADOPTED,
            situations.LED_ON,
        ),
    ),
    (
        REPLACED,
        (
            situations.VOTES,
            situations.OWN_REMOVAL_TOLD,
            situations.OLD_PREPARE,
            situations.LED_ON,
        ),
    ),
    (
        LATE,
        (
            situations.OLD_ACCEPT,
            situations.VOTES,
            situations.NEW_PREPARE,
            situations.LED_ON,
        ),
    ),
    (
        TAUGHT,
        (
            situations.OLD_PREPARE,
            situations.TAUGHT,
            situations.BELOW_ENTRY,
            situations.FORGOT,
            situations.ASKED_TOO_LATE,
            situations.LED_ON,
        ),
    ),
    (
        UNSEALED,
        (
            situations.LOST_UNSEALED,
            situations.ENTRY_TOLD,
            situations.ENTRY_ADOPTED,
            situations.VOTES,
            situations.LED_ON,
        ),
    ),
    (
        CUT_SHORT,
        (
            situations.WENT_BACK,
            situations.OLD_VOTE,
            situations.OLD_PREPARE,
            situations.OLD_ACCEPT,
            situations.ENTRY_ADOPTED,
            situations.LED_ON,
        ),
    ),
    (
        OUTLIVED,
        (
            situations.OLD_NOTICE,
            situations.LED_ON,
            situations.OLD_PREPARE,
        ),
    ),
    (
        ORDERS,
        (
            situations.FORGOT,
            situations.VOTES_AGAIN,
            situations.FOLLOW_TOO_LATE,
            situations.REMOVE_TOO_LATE,
            situations.ASKED_TOO_LATE,
            situations.LED_ON,
        ),
    ),
    (
        RIVALS,
        (
            situations.ENTRY_ADOPTED,
            situations.OLD_PREPARE,
            situations.OLD_ACCEPT,
            situations.OWN_REMOVAL_TOLD,
            situations.LED_ON,
        ),
    ),
    (
        PARTS,
        (
            situations.VOTES,
            situations.FORGOT,
            situations.FOLLOW_TOO_LATE,
            situations.PART_LEFT,
            situations.PART_TOO_LATE,
        ),
    ),
]
"""Every model, and what it must get to."""

FOUND = [
    (bugs.skip_the_prepare_after_a_change, REMOVAL),
    (bugs.skip_the_prepare_after_a_change, REPLACED),
    (bugs.skip_the_prepare_after_a_change, LATE),
    (bugs.skip_the_prepare_after_a_change, RIVALS),
    (bugs.count_by_the_old_voters, REPLACED),
    (bugs.count_by_the_old_voters, STALE),
    (bugs.answer_who_is_late, STALE),
    (bugs.answer_who_is_late, LATE),
    (bugs.answer_who_is_ahead, LATE),
    (bugs.propose_above_an_adopted_entry, STALE),
    (bugs.propose_above_an_adopted_entry, REMOVAL),
    (bugs.propose_beside_an_entry, LATE),
    (bugs.propose_above_an_adopted_entry, CUT_SHORT),
    (bugs.stamp_what_it_follows, CUT_SHORT),
    (bugs.forget_at_once, REMOVAL),
    (bugs.create_a_group_on_a_message, REMOVAL),
    (bugs.take_a_configuration_before_it_is_sealed, UNSEALED),
    (bugs.tell_of_what_is_not_sealed, UNSEALED),
    (bugs.take_a_configuration_from_a_nack, TAUGHT),
    (bugs.answer_below_the_entry, TAUGHT),
    (bugs.begin_with_the_first_instance, LATE),
    (mutations_of_masters.take_a_notice_of_an_old_configuration, OUTLIVED),
    (bugs.forget_the_tombstone_of_a_vote, ORDERS),
    (mutations_of_storage.lose_tombstones, ORDERS),
    (bugs.remove_whatever_is_there, ORDERS),
    (bugs.follow_as_whoever_it_was, ORDERS),
    (bugs.change_what_is_there, ORDERS),
    (bugs.forget_the_tombstone_of_a_part, PARTS),
    (bugs.forget_the_tombstone_of_a_vote, PARTS),
    (mutations_of_storage.lose_tombstones, PARTS),
    (bugs.reuse_a_replica_id, REJOINED),
]


def search(model: Model, states_max: int = STATES_MAX) -> Result:
    return Search(model, states_max=states_max, depth_max=1_000).run()


# The core holds.


@pytest.mark.parametrize(("model", "expected"), REACHED, ids=[m.name for m, _ in REACHED])
def test_no_rule_is_broken(model, expected):
    result = search(model)
    assert (result.violation, result.path) == ("", [])
    assert result.exhausted
    assert [what for what in expected if what not in result.seen] == []


def test_every_model_is_walked():
    assert {model.name for model, _ in REACHED} == {m.name for m in MODELS["membership"]}


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    "model",
    [*WIDE_MEMBERSHIP, *WIDE_ORDERS, WIDE_OUTLIVED],
    ids=lambda model: model.name.replace(" ", "_"),
)
def test_no_rule_is_broken_far_off(model):
    result = search(model, NIGHTLY_STATES_MAX)
    assert (result.violation, result.path) == ("", [])


# Seeded bugs are found.


@pytest.mark.parametrize(
    ("mutation", "model"),
    FOUND,
    ids=[f"{m.__name__}-{model.name.replace(' ', '_')}" for m, model in FOUND],
)
def test_a_seeded_bug_is_found(mutation, model, monkeypatch):
    mutation(monkeypatch)
    result = search(model)
    assert result.violation, f"{model.name} does not find: {mutation.__doc__}"
    assert not result.violation.startswith("exception"), result.violation
    assert result.path, "it begins sound, and has to be led astray"


# States.


def unchallenged(model: Model) -> Model:
    """The same, where nobody is asked to take over."""

    def prelude(stage: Stage) -> None:
        assert model.prelude is not None
        model.prelude(stage)
        stage.mail = [p for p in stage.mail if not isinstance(p.envelope.message, TakeOver)]

    return replace(model, prelude=prelude)


@pytest.mark.parametrize(
    "model",
    [unchallenged(REMOVAL), unchallenged(UNSEALED), replace(PARTS, budgets={CRASH: 0})],
    ids=lambda model: model.name,
)
def test_reductions_lose_no_local_states(model):
    """As in `test_exhaustive`; here acceptors and learners of one member order each other, too."""
    found = {}
    for reduced in (True, False):
        walk = Search(model, states_max=STATES_MAX, depth_max=1_000, reduced=reduced)
        assert walk.run().exhausted
        found[reduced] = {walk.system.digests(state) for state in walk.seen}, len(walk.seen)
    assert found[True][0] == found[False][0]
    assert found[True][1] < found[False][1]


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_a_search_is_the_same_under_another_hash_seed(hash_seed, repository):
    program = (
        "from tests.simulation.test_exhaustive_membership import TAUGHT, search;"
        "r = search(TAUGHT); print(r.states, r.transitions, r.depth)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(repository)}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout
    result = search(TAUGHT)
    assert output.split() == [str(n) for n in (result.states, result.transitions, result.depth)]


# What the rules are for: with those off that watch the deed, the harm is found.


def be_lenient(monkeypatch) -> None:
    """Nobody watches under which configuration somebody promises, votes or proposes, or by what."""
    for name in ("judge_vote", "judge_above", "judge_governed", "judge_one_configuration"):
        monkeypatch.setattr(ledger, name, lambda *_: None)
    monkeypatch.setattr(judge, "judge_governed_from", lambda *_: None)
    monkeypatch.setattr(ledger.Ledger, "_judge_proposal", lambda *_: None)


def has_to_do_with_what_is_below(packet: Packet) -> bool:
    """Lose what A proposes below the last instance, and what becomes of that."""
    message = packet.envelope.message
    if packet.envelope.sender == proposer(A):
        return not accepts_above(4)(packet) and not isinstance(message, Prepare)
    return packet.to == proposer(A) and isinstance(message, Accepted)


def test_counting_under_the_wrong_configuration_chooses_two_values(monkeypatch):
    """Schedule: A counts {A, B}, of which B is removed, where {C, D} have chosen.

    It takes three mistakes: B answers a proposer that is late, A counts what was answered under
    another configuration, and goes on above the entries that it finds. Each is found by itself,
    where it is watched (`FOUND`); here nobody watches.
    """
    be_lenient(monkeypatch)
    bugs.answer_who_is_late(monkeypatch)
    mutations.count_any_configuration(monkeypatch)
    bugs.propose_above_an_adopted_entry(monkeypatch)
    narrow = replace(STALE, is_lost=any_of(STALE.is_lost, has_to_do_with_what_is_below))
    assert search(narrow).violation.startswith("R1: ")


def make_what_is_asked(patch) -> None:
    """An acceptor that hears of a group that it has not makes it, as it was at the genesis."""
    handle = Acceptor.handle

    def handle_creating(self, envelope, now_ns):
        voter = CONFIGURATION.voter(self._member_id)
        is_asked = envelope.sender.role is RoleName.PROPOSER
        if voter is None or not is_asked or envelope.group in self.state.groups:
            return handle(self, envelope, now_ns)
        created = GroupCreated(envelope.group, voter.replica_id, CONFIGURATION, 1)
        self.state.apply(created)
        effects = handle(self, envelope, now_ns)
        effects.records.insert(0, created)
        return effects

    patch.setattr(Acceptor, "handle", handle_creating)


def test_a_voter_that_is_made_afresh_is_found(monkeypatch):
    """It has forgotten rightly, and must not be there again."""
    make_what_is_asked(monkeypatch)
    assert search(REMOVAL).violation.startswith("groups: B, replica 12, is made again")


def test_a_voter_that_forgets_and_is_made_afresh_lets_two_values_be_chosen(monkeypatch):
    """Schedule: B, which removed itself with C, tells A that it has no vote of that."""
    monkeypatch.setattr(Replicas, "_judge_forgetting", lambda *_: None)
    monkeypatch.setattr(Replicas, "_judge_creation", lambda *_: None)
    bugs.forget_at_once(monkeypatch)
    make_what_is_asked(monkeypatch)
    assert search(REMOVAL).violation.startswith(("R1", "P2c"))
