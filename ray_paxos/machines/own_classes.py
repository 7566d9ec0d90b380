"""State machine classes of users, named by where they are: `package.module:Class`.

A group's machine of such a kind is made from the class that a member imports under that name. So
the module has to be importable in the members' processes: in their environment, on their path, or
in the working directory of the job that starts them. A member where it is not refuses the mount,
which the others do not: its result chain differs, and it stops applying (see `registry`).

A class that changes what commands do, or how a state is saved, is another class: give it another
name, and keep the earlier one for the groups that have it. Its `version` guards against a slip: a
member whose class has another version than was mounted refuses to go on with it.
"""

from __future__ import annotations

import importlib
import re

from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.base import StateMachine

ALLOWED = "package.module:Class"
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LENGTH_MAX = 500


def is_own(kind: str) -> bool:
    """Whether a kind names a class of a user's."""
    return len(kind) <= _LENGTH_MAX and _PATH.fullmatch(kind) is not None


def load_own(kind: str) -> type[StateMachine]:
    """Import the class that a kind names.

    Raises:
        ConfigurationError: There is none, or it is no `StateMachine`; says what is wrong.
    """
    module_name, _, class_name = kind.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # The module is a user's: whatever it raises is what is wrong with it.
        raise ConfigurationError(
            f"{kind}: {module_name} cannot be imported here ({type(error).__name__}: {error}); "
            "every process of the cluster has to find it: install it, or put it into the working "
            "directory of the job"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, StateMachine):
        raise ConfigurationError(
            f"{kind}: {module_name} has no class {class_name} of ray_paxos.StateMachine"
        )
    return found
