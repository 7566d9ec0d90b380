"""Finds what is wrong with the machines of an in-process cluster, and says how to mend it.

In this order, since what comes first explains what comes later:

1. No member has stopped applying, and all of them came to the same results.
2. The log, executed anew in this process, gives the results that members had.
3. A query changes nothing: what was asked of members is asked of that execution, between two
   digests.
4. The machines of each member have the digests that the log gives.
5. The log gives the same in other processes (`other_process`): with another order of sets, other
   clocks, another process id.
6. What is saved and loaded, here and there, has the digest that it had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.values import CommandBatch, decode_value
from ray_paxos.errors import ConfigurationError, NotYetError, PaxosError, QueryError
from ray_paxos.machines.batches import exception_text
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.testing.other_process import (
    Answer,
    OtherProcessError,
    Request,
    ask_others,
    import_path,
)
from ray_paxos.testing.replay import (
    Digests,
    Replay,
    Saved,
    load_machine,
    machine_digests,
    replay,
    save_machine,
)
from ray_paxos.testing.trace import name_member

COMMANDS_SHOWN = 3
CHARACTERS_SHOWN = 120

BE_DETERMINISTIC = (
    "`apply` and `on_due` may use the command, the machine's own state and the context, and "
    "nothing else: context.log_time_ns in place of a clock; random.Random(f'{context.instance_id}/"
    "{context.index}') in place of other randomness; sorted(...) around each set that is gone "
    "through; no hash() of text, no id(), no process id, environment, files or network, and no "
    "state in the class or its module"
)

_NOT_THERE = "machines cannot be sent to another process to be compared there"
_MEND_THAT = "Mend that, or leave this comparison out with check(in_other_processes=False)"


class FaultyMachineError(PaxosError, AssertionError):
    """A state machine breaks one of its promises; says which, where, and how to mend it."""


class MachineCheck:
    """One check of a group's machines.

    Invariants: changes nothing of any member.
    """

    def __init__(
        self,
        *,
        group: int,
        registry: MachineRegistry,
        log: Sequence[bytes],
        result_chains: Sequence[bytes],
        classes: bytes | ConfigurationError,
    ) -> None:
        """Check what a group has applied.

        Args:
            group: Which.
            registry: Its classes.
            log: What instance 1, 2, ... chose.
            result_chains: After each of them, as members had them.
            classes: Those of the registry beside the built-in ones, as of `shipped`; or why they
                cannot be sent to other processes.
        """
        self._group = group
        self._registry = registry
        self._log = tuple(log)
        self._result_chains = list(result_chains)
        self._classes = classes

    def run(
        self,
        hosts: Mapping[int, MachineHost],
        queries: Sequence[tuple[str, bytes]],
        *,
        in_other_processes: bool,
    ) -> None:
        """Check all of it.

        Args:
            hosts: Of members that apply, by member.
            queries: What was asked, (machine, request).
            in_other_processes: Whether the log is executed in others, too.

        Raises:
            FaultyMachineError: Something is wrong.
        """
        last = len(self._log)
        at = frozenset({last, *(host.applied_through for host in hosts.values())})
        try:
            replayed, host = replay(self._log, self._registry, self._group, at)
        except (Exception, SystemExit) as error:
            raise self._no_digest(error) from error
        self._check_chains(replayed, "executed anew in this process")
        self._check_queries(queries, host)
        self._check_members(hosts, replayed)
        saved = self._check_saving(host)
        if in_other_processes:
            self._check_others(replayed, frozenset({last}), saved)

    # Results and states.

    def _check_chains(self, found: Replay, how: str) -> None:
        for place, chain in enumerate(self._result_chains):
            if place >= len(found.chains):
                assert found.stopped is not None, "it goes on to the end, or stops"
                machine, _, cause = found.stopped
                raise FaultyMachineError(
                    f"machine {machine!r} is not deterministic: {how}, it failed at "
                    f"{self.place(place + 1)}: {cause}; on members it had not. {BE_DETERMINISTIC}"
                )
            if found.chains[place] != chain:
                raise FaultyMachineError(
                    f"not deterministic: {how}, {self.place(place + 1)} gave another result than "
                    f"on members. {BE_DETERMINISTIC}"
                )

    def _check_members(self, hosts: Mapping[int, MachineHost], replayed: Replay) -> None:
        for member_id, host in hosts.items():
            at = host.applied_through
            wanted = replayed.digests.get(at)
            if wanted is None:
                continue
            machine = _first_difference(machine_digests(host), wanted)
            if machine is not None:
                raise self._other_state(machine, member_id, at)

    def _other_state(self, machine: str, member_id: int, at: int) -> FaultyMachineError:
        """A member's state is not what the log gives: is that the log's fault, or a query's?"""
        every = range(1, at + 1)
        one, _ = replay(self._log[:at], self._registry, self._group, every)
        other, _ = replay(self._log[:at], self._registry, self._group, every)
        for instance_id in every:
            if _first_difference(one.digests[instance_id], other.digests[instance_id]):
                return FaultyMachineError(
                    f"machine {machine!r} is not deterministic: executed twice, "
                    f"{self.place(instance_id)} left two different states, though its result was "
                    f"the same. {BE_DETERMINISTIC}"
                )
        return FaultyMachineError(
            f"machine {machine!r} has another state on member {name_member(member_id)} than its "
            f"log gives, which was the same each time that it was executed anew: something beside "
            "`apply` and `on_due` has changed it there. A `query` must change nothing (what is to "
            "change the state is a command), and nothing that was handed to or returned by the "
            "machine may be kept and changed from outside"
        )

    def _check_queries(self, queries: Sequence[tuple[str, bytes]], host: MachineHost) -> None:
        if not queries or host.applied_through < len(self._log):
            return
        # Not the host that others are compared with: a query may change it.
        _, host = replay(self._log, self._registry, self._group, ())
        before = machine_digests(host)
        for machine, request in queries:
            _ask(host, machine, request)
        if _first_difference(before, machine_digests(host)) is None:
            return
        _, host = replay(self._log, self._registry, self._group, ())
        before = machine_digests(host)
        for machine, request in queries:
            _ask(host, machine, request)
            if _first_difference(before, machine_digests(host)) is not None:
                raise FaultyMachineError(
                    f"`query` of machine {machine!r} has changed the state, asked "
                    f"{_shown(request)}: it runs on one member only, so that this one would differ "
                    "from the others. Let it return an answer and change nothing; what is to "
                    "change the state is a command, for `apply`"
                )

    # Other processes.

    def _check_others(self, replayed: Replay, at: frozenset[int], saved: Sequence[Saved]) -> None:
        how = "executed in another process (other order of sets, other time, other process id)"
        for answer in self._ask(at, saved):
            if answer.problem:
                raise FaultyMachineError(
                    f"{how}, a machine has no digest: {answer.problem}. Let `digest` depend on the "
                    "state alone"
                )
            self._check_chains(answer.replay, how)
            for instance_id in at & answer.replay.digests.keys():
                wanted = replayed.digests[instance_id]
                machine = _first_difference(answer.replay.digests[instance_id], wanted)
                if machine is not None:
                    raise self._other_state_elsewhere(machine, how)
            for name, loaded in answer.loaded.items():
                if isinstance(loaded, str):
                    raise FaultyMachineError(
                        f"machine {name!r} cannot be loaded in another process: {loaded}. "
                        "Its `load` may use what `save` wrote, and nothing else"
                    )
                if loaded != replayed.digests[len(self._log)][name]:
                    raise FaultyMachineError(
                        f"machine {name!r} has another digest in another process once it is saved "
                        "and loaded: let `digest` depend on the state alone, not on hash() of "
                        "text, the order of sets, id() or the process"
                    )

    def _other_state_elsewhere(self, machine: str, how: str) -> FaultyMachineError:
        every = frozenset(range(1, len(self._log) + 1))
        here, _ = replay(self._log, self._registry, self._group, every)
        where = "it left"
        for answer in self._ask(every, ()):
            for instance_id in sorted(every & answer.replay.digests.keys()):
                found = answer.replay.digests[instance_id]
                if _first_difference(found, here.digests[instance_id]) is not None:
                    where = f"{self.place(instance_id)} left"
                    break
        return FaultyMachineError(
            f"machine {machine!r} is not deterministic: {how}, {where} another state, though its "
            f"result was the same. {BE_DETERMINISTIC}"
        )

    def _ask(self, at: frozenset[int], saved: Sequence[Saved]) -> list[Answer]:
        classes = self._classes
        if isinstance(classes, ConfigurationError):
            raise FaultyMachineError(f"{_NOT_THERE}: {classes}. {_MEND_THAT}") from classes
        request = Request(classes, import_path(), self._group, self._log, at, tuple(saved))
        try:
            answers = ask_others(request)
        except OtherProcessError as error:
            raise FaultyMachineError(
                f"the log could not be executed in another process: {error}. {_MEND_THAT}"
            ) from error
        for answer in answers:
            if answer.not_loaded:
                raise FaultyMachineError(f"{_NOT_THERE}: {answer.not_loaded}. {_MEND_THAT}")
        return answers

    # Saving.

    def _check_saving(self, host: MachineHost) -> list[Saved]:
        all_saved = []
        for spec, machine in host.machines:
            before = machine.digest()
            try:
                saved = save_machine(spec, machine)
            except (Exception, SystemExit) as error:
                raise FaultyMachineError(
                    f"machine {spec.name!r} cannot be saved: {exception_text(error)}"
                ) from error
            if machine.digest() != before:
                raise FaultyMachineError(
                    f"`save` of machine {spec.name!r} has changed its state: let it write, and "
                    "change nothing"
                )
            self._check_loading(spec, saved, before)
            all_saved.append(saved)
        return all_saved

    def _check_loading(self, spec: MachineSpec, saved: Saved, digest: bytes) -> None:
        try:
            loaded = load_machine(saved, self._registry).digest()
        except (Exception, SystemExit) as error:
            raise FaultyMachineError(
                f"machine {spec.name!r} cannot be loaded from what it saved: "
                f"{exception_text(error)}"
            ) from error
        if loaded != digest:
            raise FaultyMachineError(
                f"machine {spec.name!r} has another digest once it is saved and loaded: let `save` "
                "write the whole state, let `load` replace the whole state by it, and keep what "
                "is no state, such as a cache, out of `digest`"
            )

    # Texts.

    def place(self, instance_id: int) -> str:
        """What stands at an instance, for a person."""
        if instance_id > len(self._log):
            return f"instance {instance_id}"
        entries = decode_value(self._log[instance_id - 1]).entries
        shown = [
            f"{_shown(command)} for machine {entry.machine!r}"
            for entry in entries
            if isinstance(entry, CommandBatch)
            for command in entry.commands
        ]
        more = f" and {len(shown) - COMMANDS_SHOWN} more" if len(shown) > COMMANDS_SHOWN else ""
        what = ", ".join(shown[:COMMANDS_SHOWN]) + more
        return f"instance {instance_id} ({what or 'what is due, or none of a client'})"

    def _no_digest(self, error: BaseException) -> FaultyMachineError:
        return FaultyMachineError(
            f"a machine has no digest: {exception_text(error)}. Keep plain data in its attributes, "
            "or define `digest`"
        )


def _first_difference(one: Digests, other: Digests) -> str | None:
    """A machine whose digests differ; None for none."""
    return next((name for name in other if one.get(name) != other[name]), None)


def _ask(host: MachineHost, machine: str, request: bytes) -> None:
    try:
        host.query(machine, request)
    except (QueryError, NotYetError):
        return


def _shown(data: bytes) -> str:
    text = repr(data)
    return text if len(text) <= CHARACTERS_SHOWN else text[: CHARACTERS_SHOWN - 3] + "..."
