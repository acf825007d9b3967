"""A time as a person says it."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0.4 s, 12 s, 3:05 min, 2:10:00 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02} h" if hours else f"{minute}:{second:02} min"
