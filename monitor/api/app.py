"""The ASGI app of the monitor.

Invariant: every route of the API is under `/api/v1` and asks who calls, as `/metrics` does; only the description of the
API is for everybody. What people look at is under `/ui`, an app of its own whose errors are pages.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import RedirectResponse

from fairlane.monitor.api import (
    answer_headers,
    control_routes,
    letter_routes,
    live_routes,
    metrics_route,
    queue_routes,
    task_routes,
)
from fairlane.monitor.api.answers import describe
from fairlane.monitor.api.problems import answer_with_problems
from fairlane.monitor.api.serving import Serving, known_names, viewer
from fairlane.monitor.dashboard.app import make_dashboard
from fairlane.monitor.dashboard.pages import PATH

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
    for routes in (queue_routes, task_routes, letter_routes, control_routes, live_routes):
        api.include_router(routes.router)
    app.include_router(api)
    app.include_router(metrics_route.router)
    app.add_api_route("/", lambda: RedirectResponse(f"{PATH}/"), include_in_schema=False)
    app.mount(PATH, make_dashboard(serving))
    app.add_middleware(answer_headers.AnswerHeaders, headers=answer_headers.DATA)
    answer_with_problems(app)
    describe(app)
    return app
