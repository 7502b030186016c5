"""What a job is called: a name that follows from all that it is.

Invariant: no I/O. The same job has the same id in every process, so that to ask for it again is to go on with it.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

_encoder: Final = msgspec.json.Encoder(order="sorted")


def job_id(job: msgspec.Struct) -> str:
    """12 hexadecimal digits."""
    return hashlib.blake2s(_encoder.encode(job), digest_size=6).hexdigest()
