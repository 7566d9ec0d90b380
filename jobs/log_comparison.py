"""Compares what was read of the members' logs of one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Chains: TypeAlias = tuple[int, str, str | None]
"""An instance, the value chain after it, and the result chain; None where it is not known."""


@dataclass(frozen=True)
class LogScan:
    """What was read of one member's log.

    Attributes:
        first: The first instance in it; 0 for none.
        last: The last one read.
        chains: Of some of them, ascending.
        checkpoints: Of the member's checkpoints.
        problems: What is damaged.
    """

    first: int
    last: int
    chains: tuple[Chains, ...]
    checkpoints: tuple[Chains, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """Where two members' logs are seen to differ first.

    Attributes:
        of: `values` or `results`.
        after: The last instance at which they agree; 0 where none was compared.
        instance_id: The first one at which they do not, of those compared.
        chains: The chain there, by member.
    """

    of: str
    after: int
    instance_id: int
    chains: Mapping[str, str]

    def text(self) -> str:
        """For a person."""
        listed = ", ".join(f"{member} has {chain}" for member, chain in self.chains.items())
        since = f"agree through instance {self.after}" if self.after else "were never seen to agree"
        return f"the chains of {self.of} {since} and differ at {self.instance_id}: {listed}"


@dataclass
class Comparison:
    """What came of it.

    Attributes:
        points: Instances at which two members at least were compared.
        through: The last instance at which all of them were compared, and agree; 0 for none.
        difference: The first one; None where there is none.
        alone: Members that have no compared instance in common with any other.
    """

    points: int = 0
    through: int = 0
    difference: Difference | None = None
    alone: list[str] = field(default_factory=list)


def compare(scans: Mapping[str, LogScan]) -> Comparison:
    """Compare all members at all instances that two of them at least have.

    A chain covers all that comes before it: members that agree at one instance agree on every
    earlier one, whether it is still in their logs or not.
    """
    values: dict[int, dict[str, str]] = {}
    results: dict[int, dict[str, str]] = {}
    for member, scan in scans.items():
        for instance_id, chain, result_chain in (*scan.chains, *scan.checkpoints):
            seen = values.setdefault(instance_id, {}).setdefault(member, chain)
            if seen != chain:
                # Its own log and its own checkpoint.
                values[instance_id][f"{member}'s checkpoint"] = chain
            if result_chain is not None:
                results.setdefault(instance_id, {}).setdefault(member, result_chain)
    found = Comparison()
    compared: set[str] = set()
    agreed = {"values": 0, "results": 0}
    for instance_id in sorted(values):
        by_kind = {"values": values[instance_id], "results": results.get(instance_id, {})}
        for of, chains in by_kind.items():
            if len(chains) < 2:
                continue
            compared |= chains.keys()
            if len(set(chains.values())) > 1:
                found.difference = Difference(of, agreed[of], instance_id, chains)
                return found
            agreed[of] = instance_id
        if len(by_kind["values"]) >= 2:
            found.points += 1
        if by_kind["values"].keys() >= scans.keys():
            found.through = instance_id
    found.alone = [member for member in scans if len(scans) > 1 and member not in compared]
    return found


def first_difference(
    chains: Mapping[str, list[Chains]], of: str
) -> tuple[int, dict[str, str]] | None:
    """The very first instance at which members differ, of chains after every instance.

    Returns:
        The instance, and the chain of each member that has it; None where they do not differ.
    """
    position = 1 if of == "values" else 2
    by_instance: dict[int, dict[str, str]] = {}
    for member, rows in chains.items():
        for row in rows:
            chain = row[position]
            if chain is not None:
                by_instance.setdefault(row[0], {})[member] = str(chain)
    for instance_id in sorted(by_instance):
        if len(set(by_instance[instance_id].values())) > 1:
            return instance_id, by_instance[instance_id]
    return None
