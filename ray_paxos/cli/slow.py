"""`ray-paxos slow`: the last commands that took long, with the time of each hop.

It asks each role of a running cluster once, and changes nothing there.
"""

from __future__ import annotations

import json
import re

import click

from ray_paxos.cli import running_cluster
from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.running_cluster import address_option, json_option
from ray_paxos.cli.statuses import Damage, WrongUse, statuses
from ray_paxos.observability.report import Answers
from ray_paxos.observability.settings import ObservingSettings
from ray_paxos.observability.slow_report import slow_report
from ray_paxos.observability.slow_view import LooseStep, SlowCommand, SlowReport, SlowVote
from ray_paxos.observability.slow_words import instances_text
from ray_paxos.observability.text import (
    bytes_text,
    clock_text,
    count_text,
    milliseconds_text,
    names,
    numbers,
    printable,
)
from ray_paxos.observability.wall_time import wall_ms

COUNT_MAX = 10_000
_UNITS_MS = {"ms": 1.0, "s": 1_000.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)", re.ASCII)


def _milliseconds(
    context: click.Context, option: click.Parameter, given: str | None
) -> float | None:
    """A length of time with its unit."""
    if given is None:
        return None
    found = _DURATION.fullmatch(given)
    if found is None:
        raise click.BadParameter(
            f"{given!r} is no length of time; write it with its unit: 50ms, 0.2s or 1s",
            ctx=context,
            param=option,
        )
    return float(found[1]) * _UNITS_MS[found[2]]


@click.command(
    epilog=epilog(
        "slow demo",
        "slow demo --over 200ms --group 1",
        "slow demo --count 100 --json",
        failed="no such cluster runs, or nobody of it answered",
    )
)
@click.argument("cluster")
@click.option(
    "--over",
    "over_ms",
    metavar="TIME",
    callback=_milliseconds,
    help="Only what took as long, or longer: 50ms, 0.2s, 1s. By default all that is remembered.",
)
@click.option("--group", type=int, help="Only commands of this group.")
@click.option(
    "--count",
    type=click.IntRange(1, COUNT_MAX),
    default=20,
    show_default=True,
    help="At most so many.",
)
@json_option
@address_option
def slow(
    cluster: str,
    over_ms: float | None,
    group: int | None,
    count: int,
    as_json: bool,
    address: str | None,
) -> None:
    """Show the last slow commands of a running cluster: each hop's time, and what held it up.

    Masters remember commands that took `observability.slow_ms` or longer; acceptors and learners
    remember slow writes and applies. Here they are put together.
    """
    with statuses():
        running = running_cluster.open_to_watch(cluster, address)
        observing = running.spec.observing
        answers = running.reports(with_slow=True)
        _check_group(cluster, group, answers)
        found = slow_report(
            running.member_ids,
            answers,
            over_ms=over_ms or 0.0,
            group=group,
            count=count,
        )
        notes = notes_on(cluster, observing, answers, over_ms)
        if as_json:
            document = {
                "cluster": cluster,
                "slow_ms": observing.slow_ms,
                "over_ms": over_ms,
                "group": group,
                **found.to_dict(),
                "notes": notes,
            }
            click.echo(json.dumps(document, indent=1))
        else:
            for line in slow_lines(cluster, found, notes, wall_ms()):
                click.echo(line)
        if found.is_silent:
            raise Damage(f"no role of cluster {cluster} answered")


def _check_group(cluster: str, group: int | None, answers: Answers) -> None:
    """Tell a group that nobody has from one in which nothing was slow."""
    states = [answer[0] for answer in answers.values() if not isinstance(answer, str)]
    known = sorted({number for state in states for number in state.get("groups", {})})
    if group is not None and known and group not in known:
        raise WrongUse(f"cluster {cluster} has no group {group}; groups: {numbers(known)}")


def notes_on(
    cluster: str, observing: ObservingSettings, answers: Answers, over_ms: float | None
) -> list[str]:
    """What a person should know of what is not shown.

    Args:
        cluster: Its name.
        observing: How it was started.
        answers: What its roles told, as to whether they observe now.
        over_ms: What was asked for; None for all.
    """
    again = "in the cluster's configuration, and start it again by `ray-paxos down` and `up`"
    told = {key: each[1].is_observing for key, each in answers.items() if not isinstance(each, str)}
    silent = ["/".join(key) for key, is_observing in told.items() if not is_observing]
    notes = []
    if silent:
        who = "the cluster" if len(silent) == len(told) else names(silent, last=" and ")
        verb = "remembers" if len(silent) in (1, len(told)) else "remember"
        note = f"{who} {verb} nothing now: `ray-paxos observe on {cluster}` has it begin"
        if not observing.is_on:
            note += f"; for good, set observability.enabled to true {again}"
        notes.append(note)
    if len(silent) < len(told) and over_ms is not None and over_ms < observing.slow_ms:
        slow = milliseconds_text(observing.slow_ms)
        notes.append(
            f"commands faster than {slow} are not remembered: for those set "
            f"observability.slow_ms to {over_ms:g} {again}"
        )
    return notes


def slow_lines(cluster: str, found: SlowReport, notes: list[str], now_ms: int) -> list[str]:
    """What was slow, for a person.

    Args:
        cluster: Its name.
        found: That.
        notes: What is not shown, as `notes_on` says.
        now_ms: The time, in milliseconds since 1970.
    """
    count = len(found.commands)
    shown = f"{count_text(count, 'slow command')}, the newest first" if count else "no slow command"
    lines = [f"cluster {cluster}: {shown}"]
    lines += [f"  ! {note}" for note in notes]
    lines += [f"  ! {role} told nothing: {why}" for role, why in found.silent.items()]
    for command in found.commands:
        lines += ["", *_command_lines(command, now_ms)]
    if found.steps:
        lines += ["", "slow steps that belong to no command that is remembered:"]
        lines += [_step_line(step, now_ms) for step in found.steps]
    # Names of machines, and errors, are texts of users.
    return [printable(line) for line in lines]


def _command_lines(command: SlowCommand, now_ms: int) -> list[str]:
    votes = f" ({', '.join(map(_vote_text, command.votes))})" if command.votes else ""
    applies = [f"{member} {milliseconds_text(taken)}" for member, taken in command.apply_ms.items()]
    applied = f" (applying: {', '.join(applies)})" if applies else ""
    machine = f"machine {command.machine}" if command.machine else "no machine"
    at = clock_text(command.at_ms, now_ms, has_ms=True)
    commands = count_text(command.commands, "command")
    queue, accept, chosen = map(
        milliseconds_text, (command.queue_ms, command.accept_ms, command.chosen_ms)
    )
    return [
        f"{at}  {milliseconds_text(command.total_ms)}  group {command.group}, instance "
        f"{command.instance_id:,}, master {command.master}",
        f"    {commands}, {bytes_text(command.byte_count)}, {machine}",
        f"    queue {queue} > accept {accept}{votes} > apply and answer {chosen}{applied}",
        f"    {command.culprit}",
    ]


def _vote_text(vote: SlowVote) -> str:
    disk = f", disk {milliseconds_text(vote.fsync_ms)}" if vote.fsync_ms is not None else ""
    return f"{vote.member} {milliseconds_text(vote.vote_ms)}{disk}"


def _step_line(step: LooseStep, now_ms: int) -> str:
    what = f"{step.what} {milliseconds_text(step.duration_ms)}"
    at = clock_text(step.at_ms, now_ms, has_ms=True)
    return f"{at}  {what} at {step.member}: {instances_text(step.instances)}"
