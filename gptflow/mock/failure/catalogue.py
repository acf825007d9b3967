"""Every failure that the simulator knows, by name."""

from __future__ import annotations

from gptflow.mock.failure.answer import NO_ANSWER, ODD_ANSWER, WRONG_CHOICE
from gptflow.mock.failure.limits import ACCESS, MONEY, RATE_LIMITS
from gptflow.mock.failure.model import ServerFailure
from gptflow.mock.failure.provider import ACCESS_ELSEWHERE, REQUEST_ELSEWHERE, SERVER_ELSEWHERE
from gptflow.mock.failure.provider_limits import LIMITS_ELSEWHERE, MONEY_ELSEWHERE
from gptflow.mock.failure.status import NETWORK, REQUEST, SERVER
from gptflow.mock.failure.transport import TRANSPORT

GROUPS: dict[str, tuple[ServerFailure, ...]] = {
    "Limits": RATE_LIMITS,
    "Money": MONEY,
    "Access": ACCESS,
    "The request": REQUEST,
    "The server": SERVER,
    "The network between": NETWORK,
    "Status 200 without an answer": NO_ANSWER,
    "Status 200 with a wrong answer": WRONG_CHOICE,
    "Status 200 with an odd answer": ODD_ANSWER,
    "The connection": TRANSPORT,
    "Limits of other providers": LIMITS_ELSEWHERE,
    "Money of other providers": MONEY_ELSEWHERE,
    "Access of other providers": ACCESS_ELSEWHERE,
    "The request at other providers": REQUEST_ELSEWHERE,
    "Other servers": SERVER_ELSEWHERE,
}
"""The catalogue in the order of the guide."""

CATALOGUE = {failure.name: failure for group in GROUPS.values() for failure in group}
