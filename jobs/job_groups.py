"""Which group of a cluster a job works on, and which of its machines."""

from __future__ import annotations

from ray_paxos.config import ClusterConfiguration, GroupConfiguration
from ray_paxos.errors import ConfigurationError


def choose_group(configuration: ClusterConfiguration, wanted: int | None) -> GroupConfiguration:
    """The group that `--group` names; the lowest where it names none.

    Raises:
        ConfigurationError: There is no such group.
    """
    if wanted is None:
        return min(configuration.groups, key=lambda group: group.group)
    for group in configuration.groups:
        if group.group == wanted:
            return group
    known = ", ".join(str(group.group) for group in configuration.groups)
    raise ConfigurationError(f"--group: found {wanted}; allowed: {known}")


def machine_of_kind(group: GroupConfiguration, kind: str, needed_by: str) -> str:
    """The name of a machine of that kind; where there are several, the one called like its kind.

    Args:
        group: Whose.
        kind: Which.
        needed_by: What messages say needs it.

    Raises:
        ConfigurationError: The group has none.
    """
    names = sorted(name for name, its_kind in group.machines.items() if its_kind == kind)
    if not names:
        raise ConfigurationError(
            f"{needed_by} needs a machine of kind {kind}, and group {group.group} has none"
        )
    return kind if kind in names else names[0]
