"""What the coordinator must not lose. The port stands in `port`, the one adapter in `sql`."""

from coordinator.store.port import (
    Change,
    Committed,
    CosignedNotes,
    Event,
    LogStore,
    MoneyBody,
    Page,
    Reservation,
    Store,
    Versioned,
)

__all__ = [
    "Change",
    "Committed",
    "CosignedNotes",
    "Event",
    "LogStore",
    "MoneyBody",
    "Page",
    "Reservation",
    "Store",
    "Versioned",
]
