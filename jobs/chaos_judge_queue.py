"""Whether a queue lost nothing, and handed out nothing twice beyond its promise; pure.

1. Every item whose put was acknowledged is acknowledged, dead, or there in the end.
2. What was put in once is one item, and what was refused is none; nothing else is handed out.
3. Ids rise in the order of the puts.
4. Each time an item is handed out its attempt and its receipt are higher, and no receipt is given
   twice; so an item that comes again says so by its attempt.
5. At one time nobody else has an item whose lease is known to run.
6. What was acknowledged by a receipt that was current is acknowledged once, and never handed out
   again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import pairwise
from operator import attrgetter

from chaos_checks import some
from chaos_judge_order import highest_before
from chaos_recipe_records import Delivery, PutCall


def check_queue(
    puts: Sequence[PutCall], deliveries: Sequence[Delivery], dead: Collection[int]
) -> list[str]:
    """All of the rules.

    Args:
        puts: All of them.
        deliveries: All of them; those at the end too, by which everything there was taken out.
        dead: Ids of the dead letters in the end.
    """
    return [
        *_check_lost(puts, deliveries, dead),
        *_check_identity(puts, deliveries),
        *some("ids that fell", _fallen_ids(puts)),
        *_check_attempts(deliveries),
        *some("handed out while somebody had it", _overlaps(deliveries)),
        *_check_acknowledged(deliveries),
    ]


def _check_lost(
    puts: Sequence[PutCall], deliveries: Sequence[Delivery], dead: Collection[int]
) -> list[str]:
    done = {d.item_id for d in deliveries if d.settled in ("acknowledged", "acknowledging")}
    lost = [
        f"{put.payload} as {put.item_id}"
        for put in puts
        if put.item_id is not None and put.item_id not in done and put.item_id not in dead
    ]
    return some("acknowledged and lost", lost)


def _check_identity(puts: Sequence[PutCall], deliveries: Sequence[Delivery]) -> list[str]:
    known = {put.payload: put for put in puts}
    ids: dict[str, int] = {p.payload: p.item_id for p in puts if p.item_id is not None}
    payloads: dict[int, str] = {}
    invented, refused, doubled, mixed = [], [], [], []
    for payload, item_id in ids.items():
        if payloads.setdefault(item_id, payload) != payload:
            mixed.append(f"{item_id}: {payloads[item_id]} and {payload}")
    for delivery in deliveries:
        payload, item_id = delivery.payload, delivery.item_id
        put = known.get(payload)
        if put is None:
            invented.append(payload)
        elif put.is_refused:
            refused.append(payload)
        if ids.setdefault(payload, item_id) != item_id:
            doubled.append(f"{payload} as {ids[payload]} and {item_id}")
        if payloads.setdefault(item_id, payload) != payload:
            mixed.append(f"{item_id}: {payloads[item_id]} and {payload}")
    return [
        *some("handed out, and never put in", invented),
        *some("put in, and reported as certainly not put in", refused),
        *some("put in twice", doubled),
        *some("ids of two items", mixed),
    ]


def _fallen_ids(puts: Sequence[PutCall]) -> list[str]:
    ids = [(put, put.item_id) for put in puts if put.item_id is not None]
    told = [(put.told_ns, item_id) for put, item_id in ids]
    asked = [(put.asked_ns, item_id) for put, item_id in ids]
    return [
        f"{item_id} after {highest}"
        for item_id, highest in highest_before(told, asked)
        if item_id <= highest
    ]


def _check_attempts(deliveries: Sequence[Delivery]) -> list[str]:
    receipts: dict[int, Delivery] = {}
    twice = []
    for delivery in deliveries:
        other = receipts.setdefault(delivery.receipt, delivery)
        if other is not delivery:
            twice.append(f"{delivery.receipt} of {other.item_id} and {delivery.item_id}")
    wrong = [
        f"{after.item_id}: attempt {after.attempt} by {after.receipt}, after {before.attempt} by "
        f"{before.receipt}"
        for of_it in _by_item(deliveries).values()
        for before, after in pairwise(of_it)
        if after.attempt <= before.attempt or after.told_ns < before.asked_ns
    ]
    return [*some("receipts given twice", twice), *some("handed out again, and not said so", wrong)]


def _by_item(deliveries: Sequence[Delivery]) -> dict[int, list[Delivery]]:
    """The deliveries of each item, by receipt."""
    by_item: dict[int, list[Delivery]] = defaultdict(list)
    for delivery in sorted(deliveries, key=attrgetter("receipt")):
        by_item[delivery.item_id].append(delivery)
    return by_item


def _overlaps(deliveries: Sequence[Delivery]) -> list[str]:
    found = []
    for item_id, of_it in _by_item(deliveries).items():
        ordered = sorted(of_it, key=attrgetter("told_ns"))
        for before, after in pairwise(ordered):
            if after.told_ns < before.known_until_ns:
                found.append(f"{item_id}: {before.client} and {after.client}")
    return found


def _check_acknowledged(deliveries: Sequence[Delivery]) -> list[str]:
    twice, again = [], []
    for item_id, of_it in _by_item(deliveries).items():
        done = [each for each in of_it if each.settled == "acknowledged"]
        if len(done) > 1:
            twice.append(item_id)
        if not done:
            continue
        first = done[0]
        for each in of_it:
            if each.receipt > first.receipt or each.asked_ns > first.settled_ns:
                again.append(f"{item_id} to {each.client} by {each.receipt}")
    return [
        *some("acknowledged twice", twice),
        *some("acknowledged, and handed out again", again),
    ]


def redelivered(deliveries: Sequence[Delivery]) -> int:
    """How many were not the first of their item."""
    return sum(delivery.attempt > 1 for delivery in deliveries)
