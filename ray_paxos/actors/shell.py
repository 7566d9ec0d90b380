"""What all roles' shells share: how a role comes up, who drives it when, how it ends.

A *shell* holds one opened role, its driver and its store. It knows no Ray: a separate actor has one
shell, a fused member four, and both are driven the same way.

```
 made ────────▶ opening ──────▶ serving ──────▶ stopped
 (starts the     │  ▲ again      (handles        (a failed write or fsync, damage, a clean close;
  opening thread) └──┘            what comes)     stays up and says why)
```

Rules of the turn:

1. Many threads come to a shell: Ray's, for calls; its background thread, for answers and times;
   threads of other shells of the process. What they bring goes into the inbox, and whoever finds
   the turn free takes it and handles all that is there. One thread at a time has the turn.
2. Whoever has the turn looks at the inbox again after giving it back, also who took it only to look
   at the role. So nothing stays there, and nobody who only brings something waits.
3. A thread that wants an answer waits for the turn. Once it has had it, its envelopes are handled:
   by itself, or by another thread that put the answers into its errand.
4. With one turn nobody takes another: what is for other shells goes into their inboxes, and they
   are visited after the turn was given back (`Switchboard.settle`).

It never ends its process: fail-stop is the state `stopped`, since a process that ends would only be
started again.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ray_paxos.actors.answers import RolePhase, RoleState, encode_state
from ray_paxos.actors.background import Background, Timer, be_nicer
from ray_paxos.actors.errands import Delivery, Errand
from ray_paxos.actors.folders import cluster_folder
from ray_paxos.actors.opening import Opening
from ray_paxos.actors.role_tracing import RoleTracing
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.driver import Action, Driver, Observe, Transmit
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.releases import THIS_RELEASE
from ray_paxos.errors import InvariantViolationError
from ray_paxos.observability.catalogue import Metric
from ray_paxos.observability.event_file import EventFile
from ray_paxos.observability.event_log import set_up_logging
from ray_paxos.observability.observer import Observer
from ray_paxos.observability.report import RoleReport, encode_report
from ray_paxos.observability.settings import ObservingSettings
from ray_paxos.observability.wall_time import wall_ms
from ray_paxos.storage.cluster_version import read_cluster_version
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.member_files import EVENTS
from ray_paxos.storage.opening import OpenedRole

if TYPE_CHECKING:
    from ray_paxos.actors.switchboard import Switchboard

Clock = Callable[[], int]
Arrival: TypeAlias = Callable[[Driver, int], list[Action]]
"""What a thread of the shell's own has for it: handled in a turn, by the driver, at a time."""

CLOSED = "closed"
ROUNDS_MAX = 16
"""So often a thread that only came by goes on with what comes meanwhile; then it may go."""


def boot_time_ns() -> int:
    """Nanoseconds since boot, suspends included: the one clock that roles see."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def member_folder(spec: ClusterSpec, member: str) -> Path:
    """A member's folder on this node.

    Raises:
        ConfigurationError: The data directory means nothing here.
    """
    cluster = spec.decoded_genesis().cluster
    return cluster_folder(cluster, spec.data_dir) / member


class Shell:
    """Base of the shells.

    Invariants: `_opened` is set once; nothing is handled before that, or after `_stopped` is set.
    The role and its driver are touched in a turn only.
    """

    role: ClassVar[RoleName]
    niceness: ClassVar[int] = 0
    """Of its threads, above that of Ray's workers: who waits for what it does?"""
    _tracing: RoleTracing | None = None
    """Makes its spans, where Ray's tracing is on; from when it serves."""

    def __init__(
        self,
        spec: bytes,
        member: str,
        switchboard: Switchboard,
        *,
        clock: Clock = boot_time_ns,
        niceness: int = 0,
    ) -> None:
        """Make a shell that does nothing yet; touches no disk and does not raise.

        Args:
            spec: The cluster's, encoded.
            member: Whose role this is.
            switchboard: Takes what is for others.
            clock: Nanoseconds, never falling.
            niceness: Of its threads, above that of the one that makes it.
        """
        self._encoded_spec = spec
        self._member = member
        self._switchboard = switchboard
        self._clock = clock
        self._niceness = niceness
        self._turn = threading.Lock()
        self._inbox: deque[Delivery | Arrival] = deque()
        self._asking: Errand | None = None
        self._is_woken = False
        self._timer: Timer | None = None
        self._timer_ns = 0
        self._taking = threading.Lock()
        self._opened: OpenedRole | None = None
        self._stopped: RoleState | None = None
        text = self.role.name.lower()
        self._step_ns = 0
        self._observer = self._new_observer("", ObservingSettings(), {})
        self._switching = threading.Lock()
        self._switched: bool | None = None
        self._tell_change: Callable[[], None] = lambda: None
        self.background = Background(f"ray_paxos-{text}", niceness=niceness)

    def begin(self) -> None:
        """Start opening, in a thread of its own; once, and before anything else is called."""
        with self._taking:
            self._opening = Opening(self._open, lambda: self.arrive(_nothing))

    # What calls come to.

    def state(self) -> dict[str, Any]:
        """What this role is doing, as plain data."""
        opened = self.serving_role()
        with self.looking():
            state = self.role_state
            described = self._describe_groups(opened) if opened is not None else {}
        return {
            "member": self._member,
            "role": self.role.name.lower(),
            "phase": state.phase.value,
            "reason": state.reason,
            "error": state.error,
            "pid": os.getpid(),
            "incarnation": opened.incarnation if opened is not None else 0,
            "stopped_groups": dict(opened.stopped_groups) if opened is not None else {},
            "groups": described,
        }

    def told(
        self, events_after: int = 0, *, with_slow: bool = False
    ) -> tuple[dict[str, Any], RoleReport]:
        """What this role is doing, and what it has counted.

        Args:
            events_after: Events above this number are wanted.
            with_slow: Whether what was slow is wanted, too.

        Returns:
            As of `state`; and its report.
        """
        state = self.state()
        if state["phase"] == RolePhase.SERVING.value:
            self._observer.keep_groups({*state["groups"], *state["stopped_groups"]})
        report = self._observer.report(
            state["incarnation"], events_after=events_after, with_slow=with_slow
        )
        return state, report

    def report(self, events_after: int, with_slow: bool) -> tuple[dict[str, Any], bytes]:
        """As `told`, with the report encoded: for those who ask by a call."""
        state, report = self.told(events_after, with_slow=with_slow)
        return state, encode_report(report)

    def set_gauge(self, metric: Metric, value: float, label: str = "") -> None:
        """Something was measured beside the role, which its reports tell from now on."""
        self._observer.set_gauge(metric, value, label)

    @property
    def switched(self) -> bool | None:
        """Whether observing was switched on, or off; None where it is as configured."""
        return self._switched

    def observe(self, is_on: bool) -> None:
        """Observe from here on, or not; in memory only, a later life does as configured."""
        with self._switching:
            self._switched = is_on
            self._observer.switch(is_on)
        self._tell_change()

    def tell_changes(self, tell: Callable[[], None]) -> None:
        """Have this called, by any thread, whenever the role was switched, or has closed."""
        self._tell_change = tell

    def wait_open(self, timeout_s: float) -> None:
        """Return once opening has ended, well or badly, or the time ran out."""
        self._opening.wait(timeout_s)

    def close(self) -> None:
        """Stop cleanly: what is being written is finished, and the folder is let go of."""
        opened = self.serving_role()
        if opened is None and self._opened is None:
            opened = self._opening.cancel()
        elif opened is not None:
            self._end()
        with self._turn:
            self.stop(CLOSED, "")
        self.background.close()
        if opened is not None:
            opened.store.close()
        self._observer.close()
        self._tell_change()

    def serving_role(self) -> OpenedRole | None:
        """The role, where it serves; takes it over when it has been opened meanwhile."""
        if self._opened is None:
            with self._taking:
                opened = self._opening.take() if self._opened is None else None
                if opened is not None:
                    self._started(opened)
                    self._opened = opened
        return self._opened if self._stopped is None else None

    @property
    def is_closed(self) -> bool:
        """Whether it serves no more, since it was closed."""
        return self._stopped is not None and self._stopped.reason == CLOSED

    @property
    def role_state(self) -> RoleState:
        """What it is doing, and why it does not serve."""
        if self._stopped is not None:
            return self._stopped
        if self._opened is None and self._opening.state.phase is RolePhase.SERVING:
            return RoleState(RolePhase.OPENING, "about to serve")
        return self._opening.state

    def not_serving(self) -> bytes:
        """The answer of a role that does not serve."""
        return encode_state(self.role_state)

    # Turns.

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """The turn, for somebody who handles nothing; what was brought meanwhile is (rule 2)."""
        try:
            with self._turn:
                yield
        finally:
            if self._inbox:
                self.wake()

    def hand(self, brought: Delivery | Arrival) -> None:
        """Put something into the inbox; from any thread, which then serves or wakes."""
        self._inbox.append(brought)

    def serve(self, errand: Errand) -> None:
        """Handle what is in the inbox, unless somebody else has the turn, who does it then."""
        rounds = 0
        while self._inbox and self._turn.acquire(blocking=False):
            try:
                self._take_turn(errand)
            finally:
                self._turn.release()
            rounds += 1
            if rounds == ROUNDS_MAX:
                self.wake()
                return

    def serve_now(self, errand: Errand) -> None:
        """Wait for the turn; on return all that this thread brought before is handled."""
        with self._turn:
            self._take_turn(errand)
        if self._inbox:
            # For those who wait for it themselves, or for nobody in particular: not for this
            # thread, whose answer would wait meanwhile.
            self.wake()

    def _bring(self, arrivals: Sequence[Arrival]) -> None:
        """Have these handled by the calling thread, or by who has the turn; waits for neither."""
        errand = Errand()
        for arrival in arrivals:
            self.hand(arrival)
        self.serve(errand)
        self._switchboard.settle(errand)

    def wake(self) -> None:
        """Have the background thread handle what is in the inbox, and look at the time."""
        # The flag is cleared before the inbox is looked at: a race makes one turn too many, never
        # one too few.
        if not self._is_woken:
            self._is_woken = True
            self.background.post(self._serve_in_background)

    def arrive(self, arrival: Arrival) -> None:
        """A thread of the shell's own, such as its store's, has something for the role."""
        self.hand(arrival)
        self.wake()

    def _serve_in_background(self) -> None:
        self._is_woken = False
        errand = Errand(is_in_background=True)
        self.serve(errand)
        self._switchboard.settle(errand)

    def _take_turn(self, errand: Errand) -> None:
        """With the turn: handle what is in the inbox now."""
        count = len(self._inbox)
        brought = [self._inbox.popleft() for _ in range(count)]
        opened = self.serving_role()
        if opened is None:
            return
        messages = [each.envelope.message for each in brought if isinstance(each, Delivery)]
        self._observer.note_received(messages)
        with self._handling():
            self._handle(opened, brought, errand)
            self._set_timer(opened.driver)

    def _handle(
        self, opened: OpenedRole, brought: Sequence[Delivery | Arrival], errand: Errand
    ) -> None:
        """Handle what was brought, in order, in this errand's turn."""
        present = present_errands(brought, errand)
        driver = opened.driver
        for each in brought:
            now_ns = self._step_ns = self._clock()
            if isinstance(each, Delivery):
                self._asking = each.errand
                actions = driver.receive(each.envelope, now_ns)
                if self._tracing is not None:
                    self._tracing.handled(each.envelope, now_ns, actions)
            else:
                self._asking = None
                actions = each(driver, now_ns)
            self._execute(actions, present)
        self._asking = None

    def _execute(self, actions: Sequence[Action], present: Sequence[Errand]) -> None:
        """Do what the driver wants; the first errand present is that of this thread."""
        raise NotImplementedError

    def _transmit(self, transmit: Transmit, present: Sequence[Errand]) -> None:
        """Send on its way what is for an answer, another shell here, or somebody else."""
        to, envelope = transmit.to, transmit.envelope
        # A client may wait for several answers at once: each goes to the call that asked for it.
        asking = (self._asking,) if self._asking is not None else ()
        for errand in (*asking, *present):
            if errand.takes(to):
                errand.replies.append((to.role, envelope))
                return
        if to.role is RoleName.CLIENT:
            self._answer_client(to, envelope)
            return
        shell = self._switchboard.shell_of(to)
        if shell is None:
            present[0].send(to, envelope)
        else:
            shell.hand(Delivery(envelope))
            present[0].hand(shell)

    def _answer_client(self, to: Address, envelope: Envelope) -> None:
        """A client is answered that is not the caller; most roles know of none."""

    def _set_timer(self, driver: Driver) -> None:
        """Have the timer run out by the driver's deadline; an earlier one is set again then."""
        deadline_ns = driver.deadline_ns
        if deadline_ns is None:
            return
        if self._timer is not None:
            if self._timer_ns <= deadline_ns:
                return
            self._timer.cancel()
        delay_s = max(deadline_ns - self._clock(), 0) / 1e9
        self._timer_ns = deadline_ns
        self._timer = self.background.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self.hand(self._look_at_time)
        errand = Errand(is_in_background=True)
        self.serve(errand)
        self._switchboard.settle(errand)

    def _look_at_time(self, driver: Driver, now_ns: int) -> list[Action]:
        self._timer = None
        if driver.deadline_ns is not None and driver.deadline_ns <= now_ns:
            return driver.on_deadline(now_ns)
        return []

    # For the subclasses.

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        """Open the role's own folder; in the opening thread."""
        raise NotImplementedError

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        """What there is to say of each group; with the turn."""
        raise NotImplementedError

    def _started(self, opened: OpenedRole) -> None:
        """The role was taken and is served from here on."""

    def _end(self) -> None:
        """It is closed: finish what is under way."""

    def _open(self) -> OpenedRole:
        be_nicer(self._niceness)
        spec = decode_spec(self._encoded_spec)
        set_up_logging(spec.log_level)
        genesis = spec.decoded_genesis()
        ids = {member.name: member.member_id for member in spec.members}
        disk = LocalDisk(member_folder(spec, self._member))
        names = {member.member_id: member.name for member in spec.members}
        observer = self._new_observer(genesis.cluster, spec.observing, names)
        with self._switching:
            # What was ordered before the role was open holds, too, however often that is tried.
            if self._switched is not None:
                observer.switch(self._switched)
            self._observer = observer
        self._switchboard.connect(spec, self._member)
        identity = Identity(genesis, ids[self._member])
        version = max(read_cluster_version(disk, identity), spec.cluster_version)
        THIS_RELEASE.check(version, f"member {self._member}")
        self._switchboard.hear(version)
        opened = self._open_folder(spec, genesis, ids[self._member], disk)
        self._observer.begin(opened.incarnation, self._event_file(spec))
        return opened

    def _new_observer(
        self, cluster: str, settings: ObservingSettings, names: Mapping[int, str]
    ) -> Observer:
        return Observer(
            cluster,
            self._member,
            self.role.name.lower(),
            settings,
            clock=self._clock,
            wall_ms=wall_ms,
            names=names,
        )

    def _event_file(self, spec: ClusterSpec) -> EventFile | None:
        """Takes events beside the log, in the role's folder, which is held now."""
        if not spec.observing.writes_events:
            return None
        folder = member_folder(spec, self._member) / self.role.name.lower()
        return EventFile(folder / EVENTS, spec.observing.event_file_bytes, self._observer.warn)

    def _random(self) -> random.Random:
        return random.Random(secrets.randbits(64))

    def stop(self, reason: str, error: str) -> None:
        """Serve no more, for good."""
        if self._stopped is None:
            self._stopped = RoleState(RolePhase.STOPPED, reason, error)

    def _fail(self, driver: Driver, error: Exception) -> None:
        """A write or fsync failed: vouch for nothing more (R3)."""
        for action in driver.on_storage_failed(str(error)):
            if isinstance(action, Observe):
                self._observer.observe(action.event)
        self.stop(str(error), type(error).__name__)

    @contextlib.contextmanager
    def _handling(self) -> Iterator[None]:
        """Around every step of the role: one that breaks off leaves it in no state to go on."""
        is_whole = False
        try:
            yield
            is_whole = True
        finally:
            if not is_whole:
                self.stop(
                    "a step of the protocol broke off, which is a bug; see this actor's log",
                    InvariantViolationError.__name__,
                )


def _nothing(driver: Driver, now_ns: int) -> list[Action]:
    """The arrival that only makes a turn: the role was opened."""
    return []


def present_errands(brought: Sequence[Delivery | Arrival], errand: Errand) -> list[Errand]:
    """The errand of the thread that has the turn, and those whose threads wait for this turn."""
    present = [errand]
    for each in brought:
        if isinstance(each, Delivery):
            waiting = each.errand
            if waiting is not None and waiting not in present:
                present.append(waiting)
    return present
