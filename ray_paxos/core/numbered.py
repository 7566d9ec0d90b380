"""A client's requests that have numbers and no outcome yet, in the order of their numbers; pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from ray_paxos.core.pending import PendingBatch


@dataclass(slots=True, eq=False)
class Request:
    """Numbered commands that go together.

    Attributes:
        request_id: Of all copies; another one as soon as the commands are others.
        batches: In the order of their numbers.
        deadline_ns: From then on nobody wants it proposed any more.
        is_sent: On its way, as far as is known.
        uncertain: Copies that may be in the log, or may come to be.
    """

    request_id: int
    batches: list[PendingBatch]
    deadline_ns: int
    is_sent: bool = False
    uncertain: int = 0


class NumberedRequests:
    """Requests by id, and what they hold.

    Invariants: in the order of their numbers, none of which two of them have; `commands` and
    `byte_count` are those of all batches; numbers and ids are given once.
    """

    def __init__(self) -> None:
        """Start with none, at number 1."""
        self._requests: OrderedDict[int, Request] = OrderedDict()
        self._id_count = 0
        self.next_number = 1
        self.commands = 0
        self.byte_count = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._requests)

    def __iter__(self) -> Iterator[Request]:
        """All of them, in order."""
        return iter(self._requests.values())

    @property
    def lowest_open(self) -> int:
        """The lowest number without an outcome; the next one to give where there is none."""
        for request in self._requests.values():
            return request.batches[0].first_number
        return self.next_number

    def get(self, request_id: int) -> Request | None:
        """The request of that id."""
        return self._requests.get(request_id)

    def first_unsent(self) -> Request | None:
        """The first one that is not on its way."""
        for request in self._requests.values():
            if not request.is_sent:
                return request
        return None

    def find(self, number: int) -> tuple[Request, PendingBatch] | None:
        """The request and the batch that hold a number."""
        for request in self._requests.values():
            for batch in request.batches:
                if batch.first_number <= number < batch.end:
                    return request, batch
        return None

    def next_request_id(self) -> int:
        """A number for a request."""
        self._id_count += 1
        return self._id_count

    def add(self, batches: list[PendingBatch], deadline_ns: int) -> Request:
        """Make a request of the next numbers, in these batches."""
        assert batches[0].first_number == self.next_number, "numbers are given in order"
        self.next_number = batches[-1].end
        self._count(batches, 1)
        request = Request(self.next_request_id(), batches, deadline_ns)
        self._requests[request.request_id] = request
        return request

    def replace(self, request: Request, batches: list[PendingBatch]) -> None:
        """Let other batches stand in a request's place, not sent yet; with none it is gone.

        Copies of the old one may still be about. They carry the same numbers, so they stay
        counted, and what they bring is found by what goes out now.
        """
        self._count(request.batches, -1)
        if not batches:
            del self._requests[request.request_id]
            return
        self._count(batches, 1)
        new = Request(
            self.next_request_id(), batches, request.deadline_ns, uncertain=request.uncertain
        )
        requests = ((new if each is request else each) for each in self._requests.values())
        self._requests = OrderedDict((each.request_id, each) for each in requests)

    def clear(self) -> None:
        """Forget all requests; numbers and ids go on."""
        self._requests.clear()
        self.commands = self.byte_count = 0

    def _count(self, batches: list[PendingBatch], sign: int) -> None:
        for batch in batches:
            self.commands += sign * len(batch.commands)
            self.byte_count += sign * batch.byte_count
