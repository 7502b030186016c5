"""An app whose tasks are worked off by `fairlane worker`, counted as the peers count theirs (tally.py)."""

from __future__ import annotations

import os

from tally import Tally

from fairlane import Fairlane

app = Fairlane(os.environ["FAIRLANE_QUEUE_URL"].rpartition("/")[2])
tally = Tally()


@app.task
def noop(number: int) -> int:
    tally.mark()
    return number
