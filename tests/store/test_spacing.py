from __future__ import annotations

from dataclasses import dataclass

import pytest

from gptflow.store.spacing import BUSY_S, IDLE_S, LOOK_EVERY_S, Spacing


@dataclass
class Machine:
    """Two clocks that are moved by hand."""

    now: float = 100.0
    used_s: float = 7.0

    def passes(self, seconds: float, cpu_share: float) -> None:
        self.now += seconds
        self.used_s += seconds * cpu_share

    def spacing(self) -> Spacing:
        return Spacing(clock=lambda: self.now, cpu_clock=lambda: self.used_s)


@pytest.mark.parametrize(("cpu_share", "expected"), [(0.1, IDLE_S), (0.6, IDLE_S), (0.95, BUSY_S)])
def test_groups_are_apart_only_while_the_processor_is_busy(
    cpu_share: float, expected: float
) -> None:
    machine = Machine()
    spacing = machine.spacing()
    machine.passes(2 * LOOK_EVERY_S, cpu_share)
    assert spacing.next_s() == expected


def test_the_load_of_the_last_moment_counts() -> None:
    machine = Machine()
    spacing = machine.spacing()
    seen = []
    for cpu_share in (1.0, 0.0, 1.0):
        machine.passes(1.5 * LOOK_EVERY_S, cpu_share)
        seen.append(spacing.next_s())
    assert seen == [BUSY_S, IDLE_S, BUSY_S]


def test_nothing_changes_within_a_look() -> None:
    machine = Machine()
    spacing = machine.spacing()
    machine.passes(LOOK_EVERY_S / 2, 1.0)
    assert spacing.next_s() == IDLE_S
