"""Seeded bugs of the machines of recipes, and of waits; see `mutations`.

Each is the same on all members, so no chain differs: what clients are told has to show it. But one.
"""

from __future__ import annotations

import itertools

import msgspec

from ray_paxos.core.client_waits import ClientWaits
from ray_paxos.core.held_queries import HeldQueries
from ray_paxos.core.learner_answers import LearnerAnswers
from ray_paxos.machines import ledgers, permits
from ray_paxos.machines.barriers import BarriersMachine
from ray_paxos.machines.counters import CountersMachine, Taken
from ray_paxos.machines.kv import PutFor
from ray_paxos.machines.kv_history import History
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.ledgers import LedgersMachine
from ray_paxos.machines.permits import PermitsMachine
from ray_paxos.machines.queue_messages import Acknowledged
from ray_paxos.machines.queues import QueuesMachine


def grant_while_held(patch):
    """There is always room for one more."""
    patch.setattr(permits, "_room", lambda resource: resource.capacity)


def give_the_same_token(patch):
    """Each second grant has the token of the one before."""
    grant = PermitsMachine._grant

    def grant_again(self, *arguments):
        if self._last_token % 2:
            self._last_token -= 1
            token = grant(self, *arguments)
            self._last_token += 1
            return token
        return grant(self, *arguments)

    patch.setattr(PermitsMachine, "_grant", grant_again)


def let_tokens_fall(patch):
    """The tokens of grants fall."""
    grant = PermitsMachine._grant

    def grant_lower(self, *arguments):
        if not self._last_token:
            self._last_token = 1_000_000
        token = grant(self, *arguments)
        self._last_token -= 2
        return token

    patch.setattr(PermitsMachine, "_grant", grant_lower)


def _grant_for(patch, share):
    grant = PermitsMachine._grant

    def grant_for_less(self, name, holder, units, ttl_ms, context):
        return grant(self, name, holder, units, max(int(ttl_ms * share(self)), 1), context)

    patch.setattr(PermitsMachine, "_grant", grant_for_less)


def end_leases_early(patch):
    """A lease of a permit ends after half of its time."""
    _grant_for(patch, lambda machine: 0.5)


def end_leases_early_on_one_replica(patch):
    """The same, on some members only."""
    init, numbers = PermitsMachine.__init__, itertools.count()

    def init_numbered(self):
        init(self)
        self.number = next(numbers)

    patch.setattr(PermitsMachine, "__init__", init_numbered)
    _grant_for(patch, lambda machine: 0.5 if machine.number % 3 == 2 else 1)


def _forget_to_notify(patch, machine, method):
    """A method of a machine names no topic."""
    original = getattr(machine, method)

    def silent(self, *arguments):
        context = arguments[-1]
        before = set(context.topics)
        result = original(self, *arguments)
        context.topics.intersection_update(before)
        return result

    patch.setattr(machine, method, silent)


def forget_who_waits(patch):
    """A place in line ends after a tenth of its time."""
    wait = PermitsMachine._wait

    def wait_for_less(self, acquire, place, context):
        short = msgspec.structs.replace(acquire, wait_ms=max(acquire.wait_ms // 10, 1))
        wait(self, short, place, context)

    patch.setattr(PermitsMachine, "_wait", wait_for_less)


def grant_at_the_end_of_a_lease_in_silence(patch):
    """`on_due` of the permits machine notifies nobody."""
    _forget_to_notify(patch, PermitsMachine, "on_due")


def _hand_out_for(patch, lease_ms_of):
    hand_out = QueuesMachine._hand_out

    def hand_out_for_less(self, queue, place, ticket, log_time_ns):
        short = msgspec.structs.replace(place, lease_ms=lease_ms_of(place.lease_ms))
        return hand_out(self, queue, short, ticket, log_time_ns)

    patch.setattr(QueuesMachine, "_hand_out", hand_out_for_less)


def forget_a_lease(patch):
    """What a queue hands out is ready again in the next instance."""
    _hand_out_for(patch, lambda lease_ms: 1)


def end_leases_of_items_early(patch):
    """A lease of an item ends after half of its time."""
    _hand_out_for(patch, lambda lease_ms: lease_ms // 2)


def lose_an_item_that_comes_back(patch):
    """An item whose lease has ended is nowhere."""
    come_back = QueuesMachine._come_back

    def come_back_or_not(self, queue, item_id, receipt, ends_ns):
        if receipt % 4:
            come_back(self, queue, item_id, receipt, ends_ns)
        else:
            queue.forget(item_id)

    patch.setattr(QueuesMachine, "_come_back", come_back_or_not)


def acknowledge_nothing(patch):
    """A queue says that items are done, and goes on to hand them out."""

    def acknowledge(self, command):
        _, receipts, lost = self._current(command.queue, command.receipts)
        return Acknowledged(len(receipts), lost)

    patch.setattr(QueuesMachine, "_acknowledge", acknowledge)


def hand_out_in_silence(patch):
    """Who leaves the line of a queue is not told."""
    _forget_to_notify(patch, QueuesMachine, "_end_place")


def let_two_commits_win(patch):
    """A ledger takes each commit, by whatever token."""
    commit = LedgersMachine._commit

    def commit_anyway(self, command, context):
        entry = self._find(command.ledger, command.key)
        if entry is not None:
            entry.token, entry.outcome = command.token, None
        return commit(self, command, context)

    patch.setattr(LedgersMachine, "_commit", commit_anyway)


def take_a_token_for_good(patch):
    """A ledger takes the token of an earlier owner."""
    patch.setattr(ledgers, "_is_good", lambda token, entry: token > 0)


def begin_while_another_is_at_it(patch):
    """A ledger lets two be at one key."""
    begin = LedgersMachine._begin

    def begin_anyway(self, command, log_time_ns):
        entry = self._find(command.ledger, command.key)
        if entry is not None and entry.outcome is None:
            entry.is_running = False
        return begin(self, command, log_time_ns)

    patch.setattr(LedgersMachine, "_begin", begin_anyway)


def commit_in_silence(patch):
    """Who waits for an outcome is not told of a commit."""
    _forget_to_notify(patch, LedgersMachine, "_commit")


def overlap_a_take(patch):
    """A block of ids begins with the last one of the block before."""
    take = CountersMachine._take

    def take_one_more(self, command, context):
        taken = take(self, command, context)
        assert isinstance(taken, Taken)
        first = taken.first
        return Taken(first - 1 if first > 1 else first)

    patch.setattr(CountersMachine, "_take", take_one_more)


def lose_an_add(patch):
    """Some adds change nothing, and nobody is told."""
    put = CountersMachine._put

    def put_or_not(self, name, value, context):
        if context.instance_id % 7:
            put(self, name, value, context)

    patch.setattr(CountersMachine, "_put", put_or_not)


def reach_in_silence(patch):
    """Who waits for a value is not told that it is reached."""
    _forget_to_notify(patch, CountersMachine, "_put")


def pass_one_short(patch):
    """A round is passed with one party too few."""
    arrive = BarriersMachine._arrive

    def arrive_early(self, command, context):
        fewer = msgspec.structs.replace(command, parties=max(command.parties - 1, 1))
        return arrive(self, fewer, context)

    patch.setattr(BarriersMachine, "_arrive", arrive_early)


def pass_in_silence(patch):
    """Who waits for a round is not told that it is passed."""
    _forget_to_notify(patch, BarriersMachine, "_arrive")


def hold_any_condition(patch):
    """A transaction is executed whatever its conditions say."""
    patch.setattr(KeyValueMachine, "_holds", lambda self, condition: True)


def forget_a_change(patch):
    """Some changes are told to nobody."""
    add = History.add

    def add_or_not(self, instance_id, key, value, version):
        if version % 5:
            add(self, instance_id, key, value, version)

    patch.setattr(History, "add", add_or_not)


def change_in_silence(patch):
    """Who watches is not asked again when something changes."""
    _forget_to_notify(patch, KeyValueMachine, "_write")


def end_values_early(patch):
    """A value ends after half of its time to live."""
    execute = KeyValueMachine._execute_one

    def execute_for_less(self, command, context):
        if isinstance(command, PutFor):
            command = msgspec.structs.replace(command, ttl_ms=command.ttl_ms // 2)
        return execute(self, command, context)

    patch.setattr(KeyValueMachine, "_execute_one", execute_for_less)


def never_ask_again(patch):
    """A learner asks no held query again when its topic is named."""
    patch.setattr(HeldQueries, "notify", lambda self, topics: None)


def never_ask_again_after_an_install(patch):
    """A learner whose state was replaced asks no held query again for that."""
    patch.setattr(LearnerAnswers, "state_replaced", lambda self: None)


def never_ask_again_who_was_ahead(patch):
    """A learner that has come to what a query is to hold does not ask it again for that."""
    patch.setattr(HeldQueries, "applied", lambda self, applied_through: None)


def take_a_lost_wait_for_held(patch):
    """A client whose learner is gone waits on."""
    patch.setattr(ClientWaits, "on_lost", lambda self, call, what, now_ns: None)
