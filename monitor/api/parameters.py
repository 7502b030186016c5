"""Parameters that several routes take.

Invariant: each has bounds that SQLite's and Kafka's own hold.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

Text = Annotated[str, Query(max_length=1_024)]
Words = Annotated[str, Query(max_length=1_024, description="words of its last error, or their beginnings")]
Time = Annotated[int, Query(ge=0, lt=2**53)]
Limit = Annotated[int, Query(ge=1, le=1_000)]
Cursor = Annotated[str, Query(max_length=200, description="`next` of the page before")]
