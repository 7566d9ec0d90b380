"""What all examples share: a cluster to play on, what they say, and the promises that they check.

An example is a function of an `Example` and its own options. It plays on a cluster of its own, in
a folder that is removed, or on one that runs (`--cluster`), whose other users it leaves alone: what
it makes there has names that nobody else has. It checks each thing that it promises, and the job
ends with 0 only if all of them held. What happens is said on stderr; `--json` writes the document:
`cluster`, `facts` (what it found), `promises` (by text, whether it held).

Wrong arguments are refused in one line, with status 2. All exit statuses: `job_exit.py`.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click
import yaml

from job_console import JobConsole
from job_exit import GOOD, NOT_HELD, run_to_status
from job_files import check_output, write_json
from ray_paxos.config import ClusterConfiguration, parse_configuration
from ray_paxos.errors import ConfigurationError

if TYPE_CHECKING:
    from ray_paxos import Cluster

POLL_S = 0.1
PATIENCE_S = 120.0
DEFAULTS: dict[str, Any] = {"members": 3, "roles": "fused", "logging": {"level": "WARNING"}}
"""Of the clusters that examples start: small ones, that start quickly."""


class Example:
    """One run of an example.

    Attributes:
        cluster: Where it plays.
        configuration: Of its own cluster; None where it plays on one that ran before.
        facts: What it finds, for the document.
        promises: What it promised, and whether it held.
    """

    def __init__(
        self, cluster: Cluster, configuration: ClusterConfiguration | None, console: JobConsole
    ) -> None:
        """Nothing has happened yet."""
        self.cluster = cluster
        self.configuration = configuration
        self.facts: dict[str, Any] = {}
        self.promises: dict[str, bool] = {}
        self._console = console

    def say(self, text: str) -> None:
        """Tell what happens."""
        self._console.say(text)

    def check(self, promise: str, held: bool) -> None:
        """Note whether a promise held; once is enough for it not to hold."""
        is_first = promise not in self.promises
        self.promises[promise] = held and self.promises.get(promise, True)
        if not held:
            self._console.error(f"did not hold: {promise}")
        elif is_first:
            self._console.say(f"held: {promise}")

    def wait_for(
        self, what: str, is_so: Callable[[], bool], *, timeout_s: float = PATIENCE_S
    ) -> None:
        """Wait until something is so; that it comes to be is a promise, too."""
        deadline = time.monotonic() + timeout_s
        while not (held := is_so()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self.check(what, held)

    def document(self) -> dict[str, Any]:
        """What `--json` writes."""
        return {"cluster": self.cluster.name, "facts": self.facts, "promises": self.promises}


def fresh_name(name: str) -> str:
    """A name that nothing else on a cluster has."""
    return f"{name}-{secrets.token_hex(4)}"


@contextmanager
def open_cluster(
    cluster: str | None, own: dict[str, Any]
) -> Iterator[tuple[Cluster, ClusterConfiguration | None]]:
    """A running cluster, or one of the job's own, which ends with its data.

    Args:
        cluster: Name of the one that runs; None for an own one.
        own: What the configuration of an own one has beside `DEFAULTS`; its name, at least.

    Yields:
        The cluster, and the configuration of an own one.
    """
    import ray_paxos  # slow, as it imports Ray: only once the arguments are in order

    if cluster is not None:
        yield ray_paxos.connect(cluster), None
        return
    with tempfile.TemporaryDirectory(prefix=f"ray_paxos-{own['cluster']}-") as folder:
        text = yaml.safe_dump({**DEFAULTS, **own, "data_dir": folder})
        configuration = parse_configuration(text, own["cluster"])
        started = ray_paxos.start(configuration)
        try:
            yield started, configuration
        finally:
            # An example may have stopped and started it meanwhile.
            ray_paxos.connect(started.name).stop(delete_data=True)


def check_modules(needs: Mapping[str, str]) -> None:
    """Refuse to begin where a module is missing.

    Raises:
        ConfigurationError: One is; says what installs it.
    """
    for module, remedy in needs.items():
        if find_spec(module) is None:
            raise ConfigurationError(f"this example needs {module}, which is missing; `{remedy}`")


class OneLineCommand(click.Command):
    """Refuses wrong arguments in one line, as these jobs refuse a wrong configuration."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """As of `click.Command`; an error comes without the usage before it."""
        try:
            return super().make_context(*arguments, **options)
        except click.UsageError as error:
            error.ctx = None
            raise


def example(
    *, needs: Mapping[str, str] | None = None, **own: Any
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a job of an example: a function of an `Example` and its own options.

    Args:
        needs: Modules that it takes beside ours, each with what installs it.
        own: What the configuration of its own cluster has beside `DEFAULTS`; `cluster`, its name,
            at least.

    Returns:
        A decorator, to be above those of the options.
    """

    def decorated(play: Callable[..., None]) -> click.Command:
        def main(cluster: str | None, json: str | None, **options: Any) -> None:
            console = JobConsole()

            def job() -> int:
                check_output(json, "--json")
                check_modules(needs or {})
                with open_cluster(cluster, own) as (opened, configuration):
                    run = Example(opened, configuration, console)
                    play(run, **options)
                    if json is not None:
                        write_json(json, run.document())
                # An example that promised nothing has shown nothing.
                return GOOD if run.promises and all(run.promises.values()) else NOT_HELD

            sys.exit(run_to_status(job, console))

        options = list(getattr(play, "__click_params__", ()))[::-1]
        text = sys.modules[play.__module__].__doc__ or ""
        return OneLineCommand(
            name=play.__module__, callback=main, params=[*options, *_shared()], help=_help_of(text)
        )

    return decorated


def _help_of(text: str) -> str:
    """How a job's docstring begins: what it is, and how it is called."""
    what, *rest = text.split("\n\n")
    return "\n\n".join([what, *(f"\b\n{call}" for call in rest[:1])])


def _shared() -> list[click.Parameter]:
    return [
        click.Option(
            ["--cluster"],
            metavar="NAME",
            help="Play on this running cluster; by default on one of its own, which is removed.",
        ),
        click.Option(["--json"], metavar="FILE", help="Write what was found as a JSON document."),
    ]
