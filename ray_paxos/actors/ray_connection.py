"""Connects this process to a Ray cluster, and starts one where none is.

Which cluster, in this order:

1. the one this process is connected to already;
2. the address given, by argument or in the configuration (`local` for a new one, see 6);
3. $RAY_ADDRESS, which `ray job submit` sets;
4. the one that an earlier `start(keep=True)` of the same cluster left running;
5. the one that `ray start` last started on this machine, as `ray.init()` itself does;
6. a new one. By default it is a part of this process and ends with it; with `keep` it is started
   by `ray start --head` and lives on (`ray_head`).

An address is first tried by a plain connection: where nothing listens, `ray.init` takes 200 s to
say so, and then ends the process (Ray 2.60).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import RayError

from ray_paxos.actors.ray_head import (
    LISTEN_TIMEOUT_S,
    end_head,
    is_listening,
    recorded_address,
    start_head,
)
from ray_paxos.config import RayConfiguration
from ray_paxos.errors import ClusterError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Connection:
    """The Ray cluster that this process is connected to.

    Attributes:
        address: Of its GCS.
        has_started: Whether this call started it.
    """

    address: str
    has_started: bool


def connect_ray(
    address: str | None, configuration: RayConfiguration, record_folder: Path, *, keep: bool
) -> Connection:
    """Connect to a Ray cluster; see the module's rules.

    Args:
        address: As the user gave it; None for none.
        configuration: What Ray is started with, and another address.
        record_folder: Where a Ray that is kept is written down.
        keep: Whether a Ray that has to be started outlives this process.

    Raises:
        ClusterError: There is no Ray cluster at the address, or none can be started.
        StorageError: The Ray that is kept cannot be written down.
    """
    if ray.is_initialized():
        return Connection(_own_address(), False)
    wanted = address or configuration.address or os.environ.get("RAY_ADDRESS")
    found = recorded = None
    if wanted == "local":
        wanted = None
    elif wanted is None or wanted == "auto":
        recorded = recorded_address(record_folder)
        found = recorded or _current_address()
        if found is None and wanted == "auto":
            raise ClusterError("no Ray cluster runs on this machine; start one by `ray start`")
        wanted = found
    elif not is_listening(wanted):
        raise ClusterError(
            f"no Ray cluster answers at {wanted} within {LISTEN_TIMEOUT_S:g} s. Check the "
            "address (HOST:PORT of its GCS, as `ray start` printed it), or leave it out"
        )
    if wanted is None or recorded is not None:
        # Only where its other processes have them, too: a server closes links to clients that
        # probe them more often than it does itself, and with them every call that is on its way.
        for name, value in configuration.environment().items():
            os.environ.setdefault(name, value)
    is_ours = wanted is None and keep
    if is_ours:
        wanted = start_head(record_folder)
    if is_ours or found is not None:
        _use_token_of_this_machine()
    try:
        _initialise(wanted)
    except ClusterError:
        if is_ours:
            end_head(record_folder)
        raise
    return Connection(_own_address(), is_ours or wanted is None)


def connect_running_ray(address: str | None, record_folder: Path) -> Connection:
    """Connect to a Ray cluster that runs; starts none.

    Raises:
        ClusterError: There is none.
    """
    if not ray.is_initialized() and not address:
        address = os.environ.get("RAY_ADDRESS") or "auto"
    return connect_ray(address, RayConfiguration(), record_folder, keep=False)


def _initialise(address: str | None) -> None:
    try:
        try:
            _init_ray(address)
        except Exception as error:
            # A bare one says that a node of its own took longer than Ray waits, half a minute, as
            # on a machine that is busy: once more, with what is in the machine's memory now.
            if type(error) is not Exception or address is not None:
                raise
            _logger.warning("Ray took too long to start, and is started once more: %s", error)
            ray.shutdown()
            _init_ray(address)
    except (ConnectionError, RuntimeError, ValueError, RayError, SystemExit) as error:
        # Ray ends the process by SystemExit where a GCS does not answer.
        what = f"connect to the Ray cluster at {address}" if address else "start Ray here"
        reason = str(error).strip() or type(error).__name__
        if "AuthenticationError" in _history(error):
            reason = (
                "it asks for another token. Set RAY_AUTH_MODE=token here, and have that cluster's "
                "token in ~/.ray/auth_token or $RAY_AUTH_TOKEN; or set RAY_ADDRESS=local for a Ray "
                "cluster of your own"
            )
        raise ClusterError(f"cannot {what}: {reason}") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ClusterError(
            f"cannot start Ray here: {error} Try again once the machine has less to do"
        ) from error


def _init_ray(address: str | None) -> None:
    ray.init(
        address=address or "local",
        log_to_driver=False,
        logging_level=logging.WARNING,
        include_dashboard=None if address else False,
    )


def _use_token_of_this_machine() -> None:
    """Show the token of this machine if it has one, as Ray does where it finds a cluster by itself.

    `ray start` and `ray.init` ask for it by default. To an address that was given it is not
    shown, unless $RAY_AUTH_MODE says so.
    """
    try:
        from ray._private.authentication import authentication_token_setup as token_setup
    except ImportError:
        # Private to Ray, and may move: then $RAY_AUTH_MODE alone decides.
        return
    token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def shown_token() -> str | None:
    """The token that this process shows to its Ray cluster; None where that asks for none.

    Raises:
        ClusterError: This Ray keeps it elsewhere than the releases that are known here.
    """
    try:
        # Private to Ray, which says nowhere else what it shows: it may be of a variable, a file, or
        # made just now.
        from ray._private.authentication import http_token_authentication as http
        from ray._private.authentication.authentication_utils import is_token_auth_enabled

        if not is_token_auth_enabled():
            return None
        headers = http.get_auth_headers_if_auth_enabled({})
        shown = {name.lower(): value for name, value in headers.items()}["authorization"]
        return str(shown.removeprefix("Bearer ").strip())
    except (ImportError, KeyError, AttributeError) as error:
        raise ClusterError(
            f"whether this Ray cluster asks for a token, and for which, is not to be told with Ray "
            f"{ray.__version__} ({type(error).__name__}: {error}); so nothing of it is shown"
        ) from error


def _history(error: BaseException) -> str:
    """What an error and those before it say."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        parts.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "; ".join(parts)


def _own_address() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _current_address() -> str | None:
    """What `ray start` wrote down on this machine, if it still runs."""
    variables = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp"]
    folder = next(folder for folder in variables if folder)
    try:
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return None
    return address if address and is_listening(address) else None
