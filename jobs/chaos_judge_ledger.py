"""Whether each key of a ledger has one outcome for ever; pure.

1. Whoever is told an outcome of a key is told the same one, by the same token.
2. It is one that somebody tried to commit for that very key, and none of which it was said that it
   is not committed.
3. Once somebody was told an outcome, nobody who asks later is told that there is none.
4. At one time nobody else is at a key whose claim is known to be held (`chaos_judge_permits`), and
   tokens rise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from chaos_checks import some
from chaos_judge_permits import check_capacity, check_tokens
from chaos_recipe_records import Holding, KeyLook, Tried


def check_ledger(
    looks: Sequence[KeyLook], tried: Iterable[Tried], claims: Sequence[Holding]
) -> list[str]:
    """All of the rules.

    Args:
        looks: What clients were told of keys.
        tried: What they tried to commit.
        claims: What they held; the resource is the key.
    """
    by_key: dict[str, list[KeyLook]] = defaultdict(list)
    for look in looks:
        by_key[look.key].append(look)
    attempts: dict[str, dict[str, Tried]] = defaultdict(dict)
    for each in tried:
        # What is said last of an attempt is what is known of it.
        attempts[each.key][each.outcome] = each
    two, invented, denied, forgotten = [], [], [], []
    for key, of_it in by_key.items():
        told = [look for look in of_it if look.outcome is not None]
        if not told:
            continue
        outcomes = sorted({str(look.outcome) for look in told})
        tokens = sorted({look.token for look in told if look.token})
        if len(outcomes) > 1 or len(tokens) > 1:
            two.append(f"{key}: {', '.join(outcomes)}, by tokens {', '.join(map(str, tokens))}")
        for outcome in outcomes:
            attempt = attempts[key].get(outcome)
            if attempt is None:
                invented.append(f"{key}: {outcome}")
            elif attempt.is_lost:
                denied.append(f"{key}: {outcome}")
        first = min(look.told_ns for look in told)
        forgotten += [
            f"{key} by {look.how}"
            for look in of_it
            if look.outcome is None and look.asked_ns > first
        ]
    return [
        *some("keys with two outcomes", two),
        *some("outcomes that nobody committed for their key", invented),
        *some("outcomes of which it was said that they are not committed", denied),
        *some("told to be not done, after somebody was told the outcome", forgotten),
        *check_capacity(claims, {}),
        *check_tokens(claims),
    ]
