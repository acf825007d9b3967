"""The truth about runs: one SQLite file that holds their specs, rows and paid replies."""

from gptflow.store.ledger import ledger_digest
from gptflow.store.reader import StoreReader
from gptflow.store.record import (
    DuplicateKey,
    FailureGroup,
    LedgerRow,
    ModelUsage,
    PendingRow,
    RowCounts,
    RunDraft,
    RunRecord,
    RunStatus,
)
from gptflow.store.run import RunChange
from gptflow.store.store import Store

__all__ = [
    "DuplicateKey",
    "FailureGroup",
    "LedgerRow",
    "ModelUsage",
    "PendingRow",
    "RowCounts",
    "RunChange",
    "RunDraft",
    "RunRecord",
    "RunStatus",
    "Store",
    "StoreReader",
    "ledger_digest",
]
