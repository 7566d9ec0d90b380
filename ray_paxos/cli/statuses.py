"""How a command ends: 0 as promised, 1 where something was found to be wrong, 2 on wrong use."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import click

from ray_paxos.errors import ConfigurationError, FolderHeldError, PaxosError

DAMAGED = 1
WRONG_USE = 2


class Damage(click.ClickException):
    """Something was found to be wrong: ends the command with that message."""

    exit_code = DAMAGED


class WrongUse(click.ClickException):
    """The command was not given what it needs: ends it with that message."""

    exit_code = WRONG_USE


@contextlib.contextmanager
def statuses() -> Iterator[None]:
    """Turn errors into a message and a status, without a traceback."""
    try:
        yield
    except (ConfigurationError, FolderHeldError) as error:
        raise WrongUse(str(error)) from error
    except PaxosError as error:
        kind = WrongUse if isinstance(error.__cause__, PermissionError) else Damage
        raise kind(str(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            # The reader of the output has gone, which is its right; click ends quietly.
            raise
        kind = WrongUse if isinstance(error, PermissionError) else Damage
        where = f"{error.filename}: " if error.filename else ""
        raise kind(f"{where}{error.strerror or error}") from error
