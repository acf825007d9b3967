from __future__ import annotations

from collections import Counter

import pytest

from gptflow.engine.account import LONGEST_GUESS_S
from gptflow.engine.config import KeyEntry
from gptflow.engine.keys import KeyPool, Lease, NoKey, Wait
from gptflow.engine.secret import Secret
from gptflow.engine.verdicts import Verdict, VerdictKind


def keys(*names: str, organization: str | None = None) -> list[KeyEntry]:
    return [KeyEntry(name, Secret(f"sk-{name}"), organization=organization) for name in names]


def verdict(kind: VerdictKind, wait_s: float | None = None) -> Verdict:
    return Verdict(kind, "because", wait_s=wait_s)


def rest(wait_s: float | None) -> Verdict:
    return verdict(VerdictKind.REST, wait_s)


def leased(
    pool: KeyPool,
    now: float = 0.0,
    model: str = "m",
    *,
    prefer: str | None = None,
    avoid: str | None = None,
) -> Lease:
    lease = pool.take(now, model, prefer=prefer, avoid=avoid)
    assert isinstance(lease, Lease)
    return lease


def names(pool: KeyPool, count: int, now: float = 0.0) -> list[str]:
    return [leased(pool, now).key.name for _ in range(count)]


def admitted(pool: KeyPool, now: float) -> list[Lease]:
    """All that the pool lets in at once, up to 100."""
    given: list[Lease] = []
    while len(given) < 100 and isinstance(lease := pool.take(now, "m"), Lease):
        given.append(lease)
    return given


def test_keys_take_turns_from_the_one_to_start_with() -> None:
    assert names(KeyPool(keys("a", "b", "c"), 1), 7) == ["b", "c", "a", "b", "c", "a", "b"]


def test_calls_one_after_another_go_round_all_keys() -> None:
    pool, taken = KeyPool(keys("a", "b", "c")), ""
    for _ in range(6):
        lease = leased(pool)
        pool.settle(lease, 0.0, None)
        taken += lease.key.name

    assert taken == "abcabc"


def test_the_key_with_the_fewest_calls_in_flight_is_taken() -> None:
    pool = KeyPool(keys("a", "b"))
    leases = [leased(pool) for _ in range(4)]
    pool.settle(leases[1], 0.0, None)
    pool.settle(leases[3], 0.0, None)

    assert names(pool, 3) == ["b", "b", "a"]


def test_a_conversation_stays_on_its_key_until_that_is_much_busier() -> None:
    pool = KeyPool(keys("a", "b"))
    for _ in range(8):  # of a key of which nothing is known only a few calls go at first
        pool.settle(leased(pool), 0.0, None)
    taken = [leased(pool, prefer="a").key.name for _ in range(12)]

    assert taken[:5] == ["a"] * 5
    assert "b" in taken


def test_another_key_is_preferred_after_a_failure() -> None:
    pool = KeyPool(keys("a", "b"))

    assert [leased(pool, avoid="a").key.name for _ in range(3)] == ["b"] * 3


def test_the_failed_key_is_taken_if_it_is_the_only_one() -> None:
    assert leased(KeyPool(keys("a")), avoid="a", prefer="a").key.name == "a"


def test_a_key_rests_until_the_moment_named_and_the_others_go_on() -> None:
    pool = KeyPool(keys("a", "b"))
    pool.settle(leased(pool), 0.0, rest(20.0))

    assert names(pool, 3, now=19.9) == ["b"] * 3
    assert leased(pool, 20.0).key.name == "a"


def test_when_all_rest_the_earliest_wake_is_told() -> None:
    pool = KeyPool(keys("a", "b"))
    first, second = leased(pool), leased(pool)
    pool.settle(first, 0.0, rest(20.0))
    pool.settle(second, 0.0, rest(7.0))

    assert pool.take(1.0, "m") == Wait(7.0)


def test_a_later_refusal_can_lengthen_a_rest_but_not_shorten_it() -> None:
    pool = KeyPool(keys("a"))
    burst = [leased(pool) for _ in range(3)]
    changed = [pool.settle(burst[i], 0.0, rest(wait_s)) for i, wait_s in enumerate((20, 30, 5))]

    assert changed == [True, False, False]
    assert pool.take(0.0, "m") == Wait(30.0)


def test_a_key_that_is_refused_for_days_rests_the_longest_time_and_no_more() -> None:
    pool, now = KeyPool(keys("a")), 0.0
    for _ in range(1_100):
        pool.settle(leased(pool, now), now, rest(None))
        now += LONGEST_GUESS_S

    assert leased(pool, now).key.name == "a"


def test_after_a_rest_calls_come_back_one_by_one() -> None:
    pool = KeyPool(keys("a"))
    pool.settle(leased(pool), 0.0, rest(1.0))

    waves = []
    for _ in range(5):
        wave = admitted(pool, 2.0)
        waves.append(len(wave))
        for lease in wave:
            pool.settle(lease, 2.0, None)

    assert waves == [1, 2, 4, 8, 16]


def test_a_call_sent_before_the_rest_says_nothing_about_the_time_after_it() -> None:
    pool = KeyPool(keys("a"))
    refused, slow = leased(pool), leased(pool)
    pool.settle(refused, 0.0, rest(1.0))
    pool.settle(slow, 2.0, None)

    assert len(admitted(pool, 2.0)) == 1


def test_a_full_key_after_a_rest_is_waited_for_without_a_time() -> None:
    pool = KeyPool(keys("a"))
    pool.settle(leased(pool), 0.0, rest(1.0))
    leased(pool, 1.0)

    assert pool.take(1.0, "m") == Wait(None)


def test_rests_without_a_named_time_grow_until_a_call_is_answered() -> None:
    pool, now, rests = KeyPool(keys("a")), 0.0, []
    for _ in range(8):
        pool.settle(leased(pool, now), now, rest(None))
        waiting = pool.take(now, "m")
        assert isinstance(waiting, Wait)
        rests.append((waiting.until or 0.0) - now)
        now = waiting.until or 0.0
    pool.settle(leased(pool, now), now, None)
    pool.settle(leased(pool, now), now, rest(None))

    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pool.take(now, "m") == Wait(now + 1.0)


def test_keys_of_one_organization_rest_together() -> None:
    pool = KeyPool([*keys("a", "b", organization="org-1"), *keys("c")])
    pool.settle(leased(pool), 0.0, rest(20.0))

    assert names(pool, 3, now=1.0) == ["c"] * 3


@pytest.mark.parametrize("kind", [VerdictKind.EXHAUSTED, VerdictKind.RETIRED])
def test_a_key_without_money_or_right_is_never_taken_again(kind: VerdictKind) -> None:
    pool = KeyPool(keys("a", "b"))
    lost, late = leased(pool), leased(pool)
    pool.settle(late, 0.0, None)
    changed = pool.settle(lost, 0.0, verdict(kind))

    assert changed
    assert names(pool, 3, now=1e9) == ["b"] * 3


def test_a_second_report_of_the_same_loss_is_no_news() -> None:
    pool = KeyPool(keys("a"))
    burst = [leased(pool), leased(pool)]
    changed = [pool.settle(lease, 0.0, verdict(VerdictKind.RETIRED)) for lease in burst]

    assert changed == [True, False]


def test_a_key_that_lacks_a_model_serves_the_others() -> None:
    pool = KeyPool(keys("a", "b"))
    pool.settle(leased(pool, model="big"), 0.0, verdict(VerdictKind.NO_MODEL))

    assert [leased(pool, model="big").key.name for _ in range(2)] == ["b", "b"]
    assert leased(pool, model="small").key.name == "a"


def test_a_key_serves_only_the_models_that_its_entry_names() -> None:
    a, b = keys("a", "b")
    pool = KeyPool([KeyEntry(a.name, a.api_key, models=("big",)), b])

    assert [leased(pool, model="small").key.name for _ in range(2)] == ["b", "b"]
    assert leased(pool, model="big").key.name == "a"


def test_without_a_usable_key_each_one_has_its_reason() -> None:
    pool = KeyPool(keys("a", "b"))
    retired, lacking = verdict(VerdictKind.RETIRED), verdict(VerdictKind.NO_MODEL)
    pool.settle(leased(pool), 0.0, retired)
    pool.settle(leased(pool), 0.0, lacking)

    lost = pool.take(0.0, "m")

    assert isinstance(lost, NoKey)
    assert [reason for _, reason in lost.reasons] == [retired, lacking]


def test_a_released_lease_leaves_no_trace() -> None:
    pool = KeyPool(keys("a", "b"))
    pool.release(leased(pool))

    assert sorted(names(pool, 4)) == ["a", "a", "b", "b"]


def test_a_thousand_keys_serve_all_that_their_limits_allow_and_never_while_they_rest() -> None:
    """Ten minutes of virtual time; each key answers three calls a minute, twice that is asked."""
    pool, now = KeyPool(keys(*(f"key {i}" for i in range(1000)))), 0.0
    answered: Counter[tuple[str, int]] = Counter()
    rests: dict[str, float] = {}
    while now < 600:
        given = pool.take(now, "m")
        if isinstance(given, Wait):
            now = given.until or now
            continue
        assert isinstance(given, Lease)
        name, minute = given.key.name, int(now // 60)
        assert rests.get(name, 0.0) <= now
        if answered[name, minute] < 3:
            answered[name, minute] += 1
            pool.settle(given, now, None)
        else:
            rests[name] = 60.0 * (minute + 1)
            pool.settle(given, now, rest(rests[name] - now))
        now += 0.01

    assert answered.total() == 10 * 3 * 1000


def test_in_sequence_a_key_is_used_until_it_is_spent() -> None:
    pool = KeyPool(keys("a", "b", "c"), 1, strategy="sequential")
    taken = []
    for _ in range(3):
        lease = leased(pool)
        taken.append(lease.key.name)
        pool.settle(lease, 0.0, None)
    pool.settle(leased(pool), 0.0, verdict(VerdictKind.EXHAUSTED))

    assert taken == ["b", "b", "b"]
    assert leased(pool).key.name == "c"


def test_in_sequence_the_next_key_helps_out_while_one_rests() -> None:
    pool = KeyPool(keys("a", "b"), strategy="sequential")
    pool.settle(leased(pool), 0.0, rest(20.0))

    assert leased(pool, 1.0).key.name == "b"
    assert leased(pool, 20.0).key.name == "a"


def test_a_key_has_no_more_calls_in_flight_than_its_entry_allows() -> None:
    pool = KeyPool([KeyEntry("a", Secret("sk-a"), concurrency=2)])
    held = admitted(pool, 0.0)
    pool.settle(held[0], 0.0, None)

    assert len(held) == 2
    assert len(admitted(pool, 0.0)) == 1


def test_after_a_change_what_stayed_keeps_its_state_and_what_is_new_starts_afresh() -> None:
    first = keys("a", "b", "c")
    pool = KeyPool(first)
    for kind in (VerdictKind.EXHAUSTED, VerdictKind.RETIRED):
        pool.settle(leased(pool), 0.0, verdict(kind))
    mended = KeyEntry("b", Secret("sk-mended"))
    pool.replace([first[0], mended, KeyEntry("d", Secret("sk-d"))])

    assert sorted(names(pool, 4)) == ["b", "b", "d", "d"]


def test_a_retired_key_that_is_left_out_and_comes_back_is_still_retired() -> None:
    pool, both = KeyPool(keys("a", "b")), keys("a", "b")
    pool.settle(leased(pool), 0.0, verdict(VerdictKind.RETIRED))
    pool.replace(both[1:])
    pool.replace(both)

    assert names(pool, 3) == ["b"] * 3


def test_a_key_that_is_called_after_its_place_keeps_its_state_as_it_moves_up() -> None:
    pool = KeyPool([KeyEntry("key 1", Secret("sk-a")), KeyEntry("key 2", Secret("sk-b"))])
    leased(pool)
    pool.settle(leased(pool), 0.0, verdict(VerdictKind.EXHAUSTED))
    pool.replace([KeyEntry("key 1", Secret("sk-b"))])

    assert isinstance(pool.take(0.0, "m"), NoKey)


def test_a_lease_on_a_key_that_is_gone_is_given_back_as_ever() -> None:
    pool = KeyPool(keys("a"))
    held = [leased(pool) for _ in range(3)]
    pool.replace(keys("b"))
    pool.settle(held[0], 0.0, None)
    pool.settle(held[1], 0.0, rest(20.0))
    pool.release(held[2])

    assert names(pool, 3, now=1.0) == ["b"] * 3


def test_it_tells_whether_a_new_configuration_could_help() -> None:
    pool = KeyPool([KeyEntry("a", Secret("sk-a"), models=("small",)), *keys("b")])
    pool.settle(leased(pool, model="big"), 0.0, verdict(VerdictKind.NO_MODEL))
    lacking = pool.take(0.0, "big")
    pool.settle(leased(pool, model="small"), 0.0, verdict(VerdictKind.EXHAUSTED))
    elsewhere = pool.take(0.0, "big")
    pool.settle(leased(pool, model="small"), 0.0, verdict(VerdictKind.RETIRED))
    spent = pool.take(0.0, "big")

    assert [
        lost.recoverable for lost in (lacking, elsewhere, spent) if isinstance(lost, NoKey)
    ] == [
        False,
        False,
        True,
    ]


def test_the_outlook_tells_how_each_key_stands() -> None:
    pool = KeyPool(keys("a", "b", "c"))
    pool.settle(leased(pool), 0.0, rest(20.0))
    pool.settle(leased(pool), 0.0, verdict(VerdictKind.EXHAUSTED))
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"}
    pool.settle(leased(pool), 0.0, None, headers=headers)
    a, b, c = pool.outlook(1.0)

    assert (a.word, a.until) == ("resting", 20.0)
    assert (b.word, b.reason) == ("exhausted", "because")
    assert (c.word, c.limits) == ("ready", (("requests", 60.0),))


def test_a_big_call_waits_for_as_many_tokens_as_it_needs() -> None:
    pool = KeyPool([KeyEntry("a", Secret("sk-a"), tpm=60_000)])
    lease = pool.take(0.0, "m", tokens=900)
    waiting = pool.take(0.0, "m", tokens=600)

    assert isinstance(lease, Lease)
    assert isinstance(waiting, Wait)
    assert waiting.until == pytest.approx(0.6, abs=0.1)


# ------------------------------------------------------------------ several models


def told(limit: int, remaining: int) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(remaining),
    }


def test_a_model_that_is_used_up_does_not_hold_another_up() -> None:
    pool = KeyPool(keys("a"))
    pool.settle(leased(pool, model="big"), 0.0, rest(60.0))
    assert isinstance(pool.take(1.0, "big"), Wait)
    assert isinstance(pool.take(1.0, "mini"), Lease)


def test_the_limits_of_one_model_are_not_taken_for_those_of_another() -> None:
    pool = KeyPool(keys("a"))
    for now in (0.0, 3.0):
        mini, big = leased(pool, now, "mini"), leased(pool, now, "big")
        pool.settle(mini, now + 0.1, None, headers=told(6000, 5000))
        pool.settle(big, now + 0.1, None, headers=told(60, 0))
    assert isinstance(pool.take(3.2, "big"), Wait)
    assert isinstance(pool.take(3.2, "mini"), Lease)


def test_models_share_what_the_entry_of_their_key_tells() -> None:
    pool = KeyPool([KeyEntry("a", Secret("sk-a"), concurrency=2, rpm=600)])
    held = [leased(pool, model="mini"), leased(pool, model="big")]
    assert isinstance(pool.take(0.0, "mini"), Wait)
    pool.settle(held[0], 0.1, None)
    assert isinstance(pool.take(0.1, "big"), Lease)


def test_an_organization_is_the_same_at_every_path_of_a_host() -> None:
    entries = [
        KeyEntry(name, Secret(f"sk-{name}"), f"https://{host}/{name}", organization="org-1")
        for name, host in (("a", "api.example"), ("b", "API.example"))
    ]
    pool = KeyPool(entries)
    pool.settle(leased(pool), 0.0, rest(60.0))
    assert isinstance(pool.take(1.0, "m"), Wait)


def test_a_spent_key_comes_back_when_its_entry_is_renamed_but_not_when_it_only_moves() -> None:
    def entry(name: str) -> KeyEntry:
        return KeyEntry(name, Secret("sk-same"))

    pool = KeyPool([entry("main")])
    pool.settle(leased(pool), 0.0, verdict(VerdictKind.EXHAUSTED))
    pool.replace([entry("main")])
    assert isinstance(pool.take(1.0, "m"), NoKey)
    pool.replace([entry("main, paid")])
    assert isinstance(pool.take(1.0, "m"), Lease)

    pool = KeyPool([entry("key 1")])
    pool.settle(leased(pool), 0.0, verdict(VerdictKind.EXHAUSTED))
    pool.replace([*keys("key 1"), entry("key 2")])
    assert leased(pool, 1.0).key.name == "key 1"
    assert leased(pool, 1.0).key.name == "key 1"
