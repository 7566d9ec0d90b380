"""A slow wire: takes frames from one tap device to another and back, each some time later.

    python host_wire.py NEAR FAR --delay-ms 50 --jitter-ms 10

Makes both devices, in the network namespace that it runs in, says `ready` and goes on until it is
ended, when the devices go away. Frames stay in their order, so that a random delay does not look
like loss to TCP. A wire holds so many frames in each direction at most; more are dropped, as by any
device.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

import click

TAP_DEVICE = "/dev/net/tun"
SET_INTERFACE = 0x400454CA
"""TUNSETIFF of <linux/if_tun.h>,"""
TAP = 0x0002
"""IFF_TAP: whole frames of Ethernet,"""
NO_PACKET_INFORMATION = 0x1000
"""IFF_NO_PI: and nothing else."""
FRAME_BYTES_MAX = 65_536
FRAMES_MAX = 10_000


class Direction:
    """Frames on their way from one device to the other.

    Invariants: due times never fall from one frame to the next.
    """

    def __init__(
        self, source: int, sink: int, delay_s: float, jitter_s: float, chance: random.Random
    ) -> None:
        """Start with nothing on its way.

        Args:
            source: Where frames are read.
            sink: Where they are written.
            delay_s: How long each is held,
            jitter_s: and by how much that may be more or less.
            chance: For the jitter.
        """
        self.source = source
        self._sink = sink
        self._delay_s = delay_s
        self._jitter_s = jitter_s
        self._chance = chance
        self._held: deque[tuple[float, bytes]] = deque()
        self._last_due = 0.0

    @property
    def due(self) -> float | None:
        """When the next frame is to be written; None with nothing on its way."""
        return self._held[0][0] if self._held else None

    def take(self, now: float) -> None:
        """Read the frames that are there."""
        while True:
            try:
                frame = os.read(self.source, FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            held_s = self._delay_s + self._chance.uniform(-self._jitter_s, self._jitter_s)
            self._last_due = max(self._last_due, now + max(held_s, 0.0))
            if len(self._held) < FRAMES_MAX:
                self._held.append((self._last_due, frame))

    def give(self, now: float) -> None:
        """Write the frames whose time is over."""
        while self._held and self._held[0][0] <= now:
            frame = self._held.popleft()[1]
            try:
                os.write(self._sink, frame)
            except OSError:
                # The device is not up yet, or takes no more: lost, as on any wire.
                continue


def open_tap(name: str) -> int:
    """Make a tap device; gives its descriptor, which does not block."""
    descriptor = os.open(TAP_DEVICE, os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", name.encode(), TAP | NO_PACKET_INFORMATION)
    fcntl.ioctl(descriptor, SET_INTERFACE, request)
    return descriptor


@click.command(help=__doc__)
@click.argument("near")
@click.argument("far")
@click.option("--delay-ms", type=click.FloatRange(min=0.0), required=True)
@click.option("--jitter-ms", type=click.FloatRange(min=0.0), default=0.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the jitter.")
def main(near: str, far: str, delay_ms: float, jitter_ms: float, seed: int) -> None:
    """Carry frames."""
    try:
        near_tap, far_tap = open_tap(near), open_tap(far)
    except OSError as error:
        print(f"cannot make a tap device: {error}", file=sys.stderr)
        sys.exit(1)
    chance = random.Random(seed)
    directions = [
        Direction(source, sink, delay_ms / 1e3, jitter_ms / 1e3, chance)
        for source, sink in ((near_tap, far_tap), (far_tap, near_tap))
    ]
    print("ready", flush=True)
    carry(directions)


def carry(directions: list[Direction]) -> None:
    """Take frames in and give them out, without end."""
    by_source = {direction.source: direction for direction in directions}
    poll = select.poll()
    for source in by_source:
        poll.register(source, select.POLLIN)
    while True:
        due = min((d.due for d in directions if d.due is not None), default=None)
        patience_ms = None if due is None else max(due - time.monotonic(), 0.0) * 1e3
        ready = poll.poll(patience_ms)
        now = time.monotonic()
        for source, _ in ready:
            by_source[source].take(now)
        for direction in directions:
            direction.give(now)


if __name__ == "__main__":
    main()
