"""`/metrics`, for Prometheus: outside of the API, since that is where Prometheus looks; a token is asked for as well.

Invariant: the numbers are those of the API.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from fairlane.monitor.api.serving import Served, Viewer
from fairlane.topics.metrics.page import page

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def metrics(serving: Served, _: Viewer, accept: Annotated[str, Header()] = "") -> Response:
    """Everything that is measured, as text."""
    media_type, body = page(serving.measured, accept)
    return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
