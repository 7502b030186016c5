"""The ASGI app of the monitor.

Invariant: every route but `/metrics` is under `/api/v1`, and each asks who calls; only the description of the API is
for everybody.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI

from fairlane.monitor.api import letter_routes, live_routes, metrics_route, queue_routes, task_routes
from fairlane.monitor.api.answers import describe
from fairlane.monitor.api.problems import answer_with_problems
from fairlane.monitor.api.serving import Serving, known_names, viewer

PREFIX = "/api/v1"


def make_app(serving: Serving) -> FastAPI:
    """The app that serves a queue."""
    app = FastAPI(
        title="fairlane monitor",
        version="1",
        description=f"Queue {serving.names.queue}: tasks, lanes, workers and dead letters.",
        openapi_url=f"{PREFIX}/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.serving = serving
    api = APIRouter(prefix=PREFIX, dependencies=[Depends(viewer), Depends(known_names)])
    for routes in (queue_routes, task_routes, letter_routes, live_routes):
        api.include_router(routes.router)
    app.include_router(api)
    app.include_router(metrics_route.router)
    answer_with_problems(app)
    describe(app)
    return app
