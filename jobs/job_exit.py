"""How jobs end: one status for each kind of end, and a message instead of a traceback.

| status | meaning |
|---|---|
| 0 | all of what the job promises held |
| 1 | it ran, but something that it promises did not hold |
| 2 | the input, the configuration or the command line is wrong |
| 3 | the cluster cannot be started or reached |
| 130 | interrupted (Ctrl-C), or nobody reads its output any more |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from job_console import JobConsole
from ray_paxos.errors import ClusterError, ConfigurationError, PaxosError, StorageError

GOOD = 0
NOT_HELD = 1
BAD_INPUT = 2
NO_CLUSTER = 3
INTERRUPTED = 130


def status_of(error: PaxosError) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, ConfigurationError):
        return BAD_INPUT
    if isinstance(error, ClusterError | StorageError):
        return NO_CLUSTER
    return NOT_HELD


def run_to_status(job: Callable[[], int], console: JobConsole) -> int:
    """Run a job and turn however it ends into an exit status.

    Errors of ray_paxos and of output files are one message each. Anything else is a bug and keeps
    its traceback.
    """
    try:
        return _run(job, console)
    except BrokenPipeError:
        # Whoever read the output has gone. Python would fail once more when it flushes at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return INTERRUPTED


def _run(job: Callable[[], int], console: JobConsole) -> int:
    try:
        return job()
    except PaxosError as error:
        console.error(str(error))
        return status_of(error)
    except KeyboardInterrupt:
        console.error("interrupted; what was acknowledged stays")
        return INTERRUPTED
