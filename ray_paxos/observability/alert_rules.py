"""The alerts that Prometheus raises about clusters: a rule file, made from the catalogue.

Rules:

1. Nothing is told of who is silent by itself: a member that is gone exports nothing. So that it was
   there within the last `gone_window_s`, and is not now, is an alert of its own.
2. One member that is cut off sees no master anywhere, and knows of nothing that it has not got.
   That a group has no master is only told where more than half of the members that answer say so;
   and how far a member is behind is measured by the furthest one, not by what it knows itself.
3. Counts that must not rise (damage, checksums) are looked for in two ways: a counter that rose,
   and one that was not there before the window and is above 0 now. Prometheus sees no rise in a
   series that was born with what it counts.
4. Ray gives each life of a role a series of its own (`WorkerId`): all expressions aggregate over
   that.
5. Metrics of groups are named by `group`, or all together with `group="all"`: no expression adds
   the two up, and what is told of one group is asked of those that are named.
6. Each alert says what to do. `critical` is for what does not serve or must not be trusted;
   `warning` for what mends itself, or lasts as long as nothing else fails.

With no Prometheus nothing of this is there. `ray-paxos status` and `ray-paxos top` show the same
troubles to whoever looks, but for elections that come too often and slow fsyncs: `top` shows who
leads and how long fsyncs take now, and judges neither.
"""

from __future__ import annotations

from typing import Any

import yaml

from ray_paxos.observability.alerting import Alert, AlertLimits
from ray_paxos.observability.service_alerts import about_masters, about_members
from ray_paxos.observability.storage_alerts import about_disks, about_state

GROUP_OF_RULES = "ray_paxos"
HEADER = """# Alerts about clusters of ray_paxos, for `rule_files` of Prometheus' configuration.
# Made by `ray-paxos alerts`; `promtool check rules` checks it.
"""
DEFAULT_LIMITS = AlertLimits()


def alerts(limits: AlertLimits = DEFAULT_LIMITS) -> tuple[Alert, ...]:
    """All alerts, by subject.

    Args:
        limits: When they are raised.
    """
    return (
        *about_masters(limits),
        *about_members(limits),
        *about_state(limits),
        *about_disks(limits),
    )


def rule_file(limits: AlertLimits = DEFAULT_LIMITS) -> str:
    """A rule file for Prometheus, as YAML.

    Args:
        limits: When alerts are raised.
    """
    rules = [alert.rule(limits.hold_scale) for alert in alerts(limits)]
    document = {"groups": [{"name": GROUP_OF_RULES, "rules": rules}]}
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + text


class _Dumper(yaml.SafeDumper):
    """Writes what has several lines as it is read."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
