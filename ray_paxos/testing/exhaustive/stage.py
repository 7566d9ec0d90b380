"""Brings a model to where its walk begins, by steps of the real roles."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.messages import Address
from ray_paxos.testing.exhaustive.actions import Action, Deliver, Packet
from ray_paxos.testing.exhaustive.facts import Fact
from ray_paxos.testing.exhaustive.roles import Recipe
from ray_paxos.testing.exhaustive.site import Site


class Stage:
    """Sites before the walk, and the mail between them.

    Attributes:
        sites: As they are.
        mail: Every packet sent and not lost, in order.
        facts: Of all that happened, in order.
    """

    def __init__(self, sites: Sequence[Site], recipe: Recipe, mail: Sequence[Packet]) -> None:
        """Set up.

        Args:
            sites: Before anything happened.
            recipe: Makes the roles that start again.
            mail: Packets that are on their way.
        """
        self.sites = list(sites)
        self.mail = list(mail)
        self.facts: list[Fact] = []
        self._recipe = recipe

    def do(self, process: Address, action: Action) -> None:
        """Let something happen to a process."""
        site = next(site for site in self.sites if process in site.processes)
        outcome = site.step(action, self._recipe)
        self.facts += outcome.facts
        for packet in outcome.packets:
            if packet not in self.mail:
                self.mail.append(packet)

    def deliver(self, kind: type, *receivers: Address) -> None:
        """Let all messages of a kind arrive at these processes, once each."""
        packets = self.found(kind, *receivers)
        assert packets, f"nobody sent a {kind.__name__}"
        for packet in packets:
            self.do(packet.to, Deliver(packet))

    def lose(self, kind: type, *receivers: Address) -> None:
        """What was sent of a kind to these processes never arrives (again)."""
        lost = self.found(kind, *receivers)
        self.mail = [packet for packet in self.mail if packet not in lost]

    def lose_all(self) -> None:
        """Nothing that was sent so far arrives (again)."""
        self.mail = []

    def keep(self, kind: type, *receivers: Address) -> None:
        """Of what was sent so far only this kind arrives, at these processes."""
        self.mail = self.found(kind, *receivers)

    def order(self, packet: Packet) -> None:
        """Somebody outside sends something, and it arrives at once, and once only."""
        self.do(packet.to, Deliver(packet))

    def found(self, kind: type, *receivers: Address) -> list[Packet]:
        """What was sent of a kind to these processes and is not lost."""
        return [
            packet
            for packet in self.mail
            if isinstance(packet.envelope.message, kind) and packet.to in receivers
        ]
