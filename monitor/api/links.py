"""Where the pages of a queue lead that are not of the monitor's: its traces, its metrics.

Invariant: an address begins as the operator of the monitor set it; of what tasks say only a trace id goes into one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from fairlane.monitor import measures
from fairlane.topics.names import QueueNames

GRAPHED: Final = (measures.LANE_AGE, measures.ENDS)
"""What Prometheus is asked to draw: how late the queue is, and what it gets done."""

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Links:
    """Other tools that know the queue; "" is none.

    Attributes:
        trace: where a trace is shown, with `{trace_id}` in it.
        prometheus: the address of Prometheus.
        grafana: the address of a dashboard in Grafana.
    """

    trace: str = ""
    prometheus: str = ""
    grafana: str = ""

    def of_trace(self, trace_id: str) -> str:
        """Where a trace is shown; "" if that is not known, or it is none."""
        return self.trace.replace("{trace_id}", trace_id) if self.trace and _TRACE_ID.fullmatch(trace_id) else ""

    def of_queue(self, names: QueueNames) -> dict[str, str]:
        """Where else the queue as a whole is shown, by the name of the tool.

        Prometheus is led to by an address that its versions 2 and 3 both take.
        """
        found: dict[str, str] = {}
        if self.prometheus:
            asked = {
                f"g{number}.{name}": value
                for number, measure in enumerate(GRAPHED)
                for name, value in (
                    ("expr", f'{measure.name}{{queue="{names.queue}"}}'), ("tab", "0"), ("range_input", "1h"),
                )
            }  # fmt: skip
            found["Prometheus"] = f"{self.prometheus.rstrip('/')}/graph?{urlencode(asked)}"
        if self.grafana:
            found["Grafana"] = self.grafana
        return found
