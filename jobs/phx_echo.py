"""PhxEcho: each line goes through the log, and comes back; all members have the same lines.

    python jobs/phx_echo.py hello paxos
    python jobs/phx_echo.py                       # lines from a console, or from a pipe

Of each line machine, instance and value are printed on stdout, as PhxEcho's state machine prints
them; a member's machine prints nothing here, since it may do nothing but change its state. The
machine is a class of the job's own, which members import by its name (`phx_echo_machine`). In the
end every member is asked what it has.

A running cluster (`--cluster`) needs a group with that machine: `machines: {echo:
"phx_echo_machine:Echo"}`, with `jobs/` on the path of its processes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from example_job import Example, example
from phx_echo_machine import LINES_KEPT, decode_lines
from ray_paxos.errors import ConfigurationError

MACHINE = "echo"
PROMPT = "please input: "


def console_lines() -> Iterable[str]:
    """What is typed, line by line, with a prompt; or what comes through a pipe."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    while True:
        print(PROMPT, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line.rstrip("\n")


@example(cluster="phx-echo", groups={"count": 1, "machines": {MACHINE: "phx_echo_machine:Echo"}})
@click.argument("lines", nargs=-1)
@click.option("--group", type=int, metavar="N", help="With the machine; by default the first one.")
def main(job: Example, lines: tuple[str, ...], group: int | None) -> None:
    """Echo lines, and compare the members."""
    echoed: list[tuple[int, bytes]] = []
    with job.cluster.client(group, label="phx_echo") as client:
        for line in lines or console_lines():
            result = client.propose(line.encode(), MACHINE)
            value = result.value or b""
            print(f"{MACHINE} {result.instance_id} {value.decode()}", flush=True)
            job.check("each line comes back as it was", value == line.encode())
            echoed.append((result.instance_id, value))
        if not echoed:
            raise ConfigurationError("no lines: give some, or type them")
        instances = [instance for instance, _ in echoed]
        job.check("they are in the log in the order of the input", instances == sorted(instances))
        kept = decode_lines(client.query(b"", MACHINE))
        job.check("the machine has them", set(echoed[-LINES_KEPT:]) <= set(kept))
    digests = {name: found.digest for name, found in job.cluster.member_digests(group).items()}
    job.say(f"{len(echoed)} lines; asked: {', '.join(digests)}")
    job.check("all members have the same lines", len(set(digests.values())) == 1)
    job.check(
        "every member was asked", set(digests) >= set(job.cluster.group(group).members().voters)
    )
    job.facts |= {"lines": len(echoed), "members": sorted(digests)}


if __name__ == "__main__":
    main()
