"""PhxKV: values with versions over three groups, by a state machine of the job's own.

    python jobs/phx_kv.py                                   # its rules, and checkpoints, one by one
    python jobs/phx_kv.py --cluster NAME put KEY VALUE VERSION
    python jobs/phx_kv.py --cluster NAME getlocal KEY       # as some member has it
    python jobs/phx_kv.py --cluster NAME getglobal KEY      # as it is now
    python jobs/phx_kv.py --cluster NAME delete KEY VERSION

The machine (`phx_kv_machine`) says what versions mean, and writes and reads its own checkpoints;
the client (`phx_kv_client`) follows redirects to the master; the tour (`phx_kv_tour`) shows all of
it. A call prints status, version and value on stdout; the exit status is 0 only if it succeeded.

A running cluster (`--cluster`) needs groups 1, 2 and 3 with the machine, as `--print-config`
prints, and `jobs/` on the path of its processes.
"""

from __future__ import annotations

from typing import Any

import click
import yaml

from example_job import DEFAULTS, Example, example
from phx_kv_client import GROUPS, MACHINE, PhxKv
from phx_kv_machine import Status
from phx_kv_tour import show_checkpoints, show_redirects, show_restart, show_versions

OWN: dict[str, Any] = {
    "cluster": "phx-kv",
    "members": 4,
    "groups": {
        "count": len(GROUPS),
        "voters": 3,
        "machines": {MACHINE: "phx_kv_machine:PhxKvMachine"},
    },
    # As PhxKV: a checkpoint after so many commands; and nothing of the log below it.
    "checkpointer": {"checkpoint_instances": 6},
    # Nothing is kept for members a little behind, on the disk or in memory.
    "learner": {"hold_count": 0, "memory_bytes": 0, "seal_age_ms": 100},
}
ARGUMENTS = {
    "put": ("KEY", "VALUE", "VERSION"),
    "delete": ("KEY", "VERSION"),
    "getlocal": ("KEY",),
    "getglobal": ("KEY",),
}


def checked(
    _context: click.Context, _parameter: click.Parameter, call: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse what is no call."""
    if not call:
        return call
    wanted = ARGUMENTS.get(call[0])
    if wanted is None:
        raise click.BadParameter(f"found {call[0]}; allowed: {', '.join(ARGUMENTS)}")
    if len(call) != 1 + len(wanted):
        raise click.BadParameter(f"found {' '.join(call)}; allowed: {call[0]} {' '.join(wanted)}")
    if wanted[-1] == "VERSION" and not call[-1].isdecimal():
        raise click.BadParameter(f"VERSION: found {call[-1]}; allowed: a whole number from 0")
    return call


@example(**OWN)
@click.argument("call", nargs=-1, callback=checked, metavar="[CALL...]")
@click.option(
    "--print-config",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, is_asked: print_config(context) if is_asked else None,
    help="Print a configuration for a cluster, and end.",
)
def main(job: Example, call: tuple[str, ...]) -> None:
    """One call, or the tour."""
    if call:
        with PhxKv(job.cluster) as kv:
            answer = make_call(kv, *call)
        value = "" if answer.value is None else f" {answer.value.decode(errors='replace')}"
        print(f"{answer.status.name.lower()} {answer.version}{value}")
        job.check(" ".join(call), answer.status is Status.SUCCESS)
        job.facts |= {"status": answer.status.value, "version": answer.version}
        return
    with PhxKv(job.cluster) as kv:
        show_versions(job, kv)
        show_redirects(job, kv)
        show_checkpoints(job, kv)
    if job.configuration is not None:
        show_restart(job)


def make_call(kv: PhxKv, name: str, key: str, *rest: str) -> Any:
    """What the command line asks for."""
    match name:
        case "put":
            return kv.put(key, rest[0].encode(), int(rest[1]))
        case "delete":
            return kv.delete(key, int(rest[0]))
        case "getlocal":
            return kv.get_local(key)
    return kv.get_global(key)


def print_config(context: click.Context) -> None:
    """A configuration with the machine, for `ray-paxos up`."""
    click.echo(yaml.safe_dump({**DEFAULTS, **OWN}, sort_keys=False), nl=False)
    context.exit()


if __name__ == "__main__":
    main()
