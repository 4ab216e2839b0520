"""The FastAPI application: thin routes over the engine and the views."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import structlog
from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from healer.api import answer, catalogue, view
from healer.api.access import Access
from healer.api.actor import Actor
from healer.api.body import LIMIT, Body
from healer.api.cloudevents import add_cloudevents
from healer.api.contract import describe_answers
from healer.api.control import add_controls
from healer.api.dashboard import add_dashboard
from healer.api.guard import ALLOWED_KEY, Guard, allowed_hosts
from healer.api.heal import dry_run, heal, heal_failing
from healer.api.json import Json
from healer.api.observe import add_observation
from healer.api.once import Once
from healer.api.past import add_past
from healer.api.problem import MEDIA_TYPE, Problem, problem_of
from healer.api.readiness import obstacles, warnings
from healer.api.rebuilding import add_rebuilding
from healer.api.reload import Reload
from healer.api.stream import EventStreams
from healer.api.webhooks import add_webhooks
from healer.api.wish import LAST_POSITION, EventsWish, HealWish, HistoryWish, Nothing, invalid
from healer.bootstrap import Healer
from healer.errors import HealerError, IllegalCommandError, StoreError
from projections.runner import LiveViews

__all__ = ["PREFIX", "create_app"]

PREFIX: Final = "/network-healer"
_VIEWS_WITHIN: Final = 1.0
"""Seconds that an answer waits for the views; they are a few milliseconds behind."""

_log = structlog.get_logger("healer.api")


def create_app(
    healer: Healer,
    *,
    access: Access,
    listen: tuple[str, int] | None = None,
    stopping: asyncio.Event | None = None,
    body_limit: int = LIMIT,
    reload: Reload | None = None,
) -> FastAPI:
    """The application of `healer`; does no input or output, starts and stops nothing.

    `access` says who may do what. `listen` is where it is served, by default where the
    configuration says. Streams end when `stopping` is set.
    """
    app = FastAPI(
        title="Network healer",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        default_response_class=Json,
        # A redirect would send an acting request, token and all, to another address.
        redirect_slashes=False,
    )
    stopping = stopping or asyncio.Event()
    _answer_errors(app)
    _add_actions(app, healer)
    add_controls(app, PREFIX, healer.engine)
    _add_views(app, healer)
    streams = EventStreams(healer.log, stopping=stopping)
    _add_log(app, healer, streams)
    add_cloudevents(app, PREFIX, healer.log)
    add_webhooks(app, PREFIX, healer)
    add_past(app, PREFIX, healer)
    add_rebuilding(app, PREFIX, healer)
    add_dashboard(app)
    add_observation(app, healer, reload, streams)
    _add_reload(app, reload)
    describe_answers(app)
    app.add_middleware(Body, limit=body_limit)
    config = healer.config
    hosts = allowed_hosts(*(listen or config.endpoint), others=config.hosts)
    scheme = "https" if config.tls else "http"
    app.add_middleware(Guard, access=access, hosts=hosts, scheme=scheme)
    return app


def _version() -> str:
    try:
        return version("network-healer")
    except PackageNotFoundError:
        return "0+unknown"


def _add_actions(app: FastAPI, healer: Healer) -> None:
    engine = healer.engine
    starting = asyncio.Lock()  # a second start would begin while the first still reads the log

    @app.post(f"{PREFIX}/heal")
    async def heal_component(wish: HealWish, actor: Actor) -> Response:
        """Heal one component."""
        if wish.dry_run:
            return Json(await dry_run(engine, wish))
        issue_id, ended = await heal(engine, wish, actor)
        if ended is not None:
            return Json(ended)
        return Json(
            {"accepted": True, "component": wish.component_name, "issue_id": issue_id},
            status_code=202,
            headers={"Location": f"{PREFIX}/issues/{issue_id}"},
        )

    @app.post(f"{PREFIX}/auto-heal")
    async def auto_heal(actor: Actor, nothing: Nothing | None = None) -> Response:
        """Heal every component that fails."""
        return Json(await heal_failing(engine, actor))

    @app.post(f"{PREFIX}/initialize")
    async def initialize(nothing: Nothing | None = None) -> Response:
        """Watch all components, if they are not watched already."""
        async with starting:
            started = await engine.start()
        return Json(
            {
                "success": engine.running,
                "monitoring": engine.running,
                "already_running": not started,
                "components": len(engine.names),
            }
        )


async def _current(views: LiveViews) -> None:
    """Let the views take in what the log holds: who was told of a heal must find it in them. While
    the log cannot be read they show what they know, and `/readyz` says so."""
    with suppress(TimeoutError, StoreError):
        if views.position >= await views.head():
            return
        async with asyncio.timeout(_VIEWS_WITHIN):
            await views.caught_up()


def _add_views(app: FastAPI, healer: Healer) -> None:
    views, engine = healer.views, healer.engine
    once = Once()

    @app.get(f"{PREFIX}/stats")
    async def stats() -> Response:
        await _current(views)
        return Response(once.stats(views), media_type=Json.media_type)

    @app.get(f"{PREFIX}/history")
    async def history(wish: Annotated[HistoryWish, Query()]) -> Response:
        await _current(views)
        answer = await once.history(views, wish.query(), engine.names)
        return Response(answer, media_type=Json.media_type)

    @app.get(f"{PREFIX}/history/{{component}}")
    async def history_of(component: str, wish: Annotated[HistoryWish, Query()]) -> Response:
        await _current(views)
        answer = await once.history(views, wish.query(component), engine.names)
        return Response(answer, media_type=Json.media_type)

    @app.get(f"{PREFIX}/active")
    async def active() -> Response:
        await _current(views)
        return Response(once.active(views), media_type=Json.media_type)

    @app.get(f"{PREFIX}/playbook-stats")
    async def playbook_stats() -> Response:
        await _current(views)
        return Response(once.playbook_stats(views), media_type=Json.media_type)

    @app.get(f"{PREFIX}/recommendations/{{component}}")
    async def recommendations(component: str) -> Response:
        await _current(views)
        spec = healer.config.components.get(component)
        return Json(view.recommendations(views, component, spec, known=engine.names))

    @app.get(f"{PREFIX}/components")
    async def components() -> Response:
        await _current(views)
        shown = [
            answer.component(views, engine.status(name), engine.withheld(name))
            for name in engine.names
        ]
        return Json(
            {
                "paused": answer.pause(engine.controls.pause),
                "warnings": [*obstacles(healer), *warnings(healer)],
                "components": shown,
            }
        )

    @app.get(f"{PREFIX}/components/{{name}}")
    async def component(name: str) -> Response:
        """One component, as it is now."""
        status = engine.status(name)
        await _current(views)
        return Json(answer.component(views, status, engine.withheld(name)))

    @app.get(f"{PREFIX}/playbooks")
    async def playbooks() -> Response:
        """What the healer can do, step by step."""
        return Json(catalogue.playbooks(engine.checks))

    @app.get(f"{PREFIX}/routes")
    async def routes() -> Response:
        """Which playbooks each issue type calls for, per component."""
        return Json(catalogue.routes(healer.config.components))

    @app.get(f"{PREFIX}/mttr")
    async def mttr() -> Response:
        """Seconds to resolve, by issue type and by playbook."""
        await _current(views)
        return Json(view.mttr(views))

    @app.get(f"{PREFIX}/issues")
    async def issues(wish: Annotated[HistoryWish, Query()]) -> Response:
        """As `/history`."""
        await _current(views)
        answer = await once.history(views, wish.query(), engine.names)
        return Response(answer, media_type=Json.media_type)


def _add_log(app: FastAPI, healer: Healer, streams: EventStreams) -> None:
    @app.get(f"{PREFIX}/issues/{{issue_id}}")
    async def issue(issue_id: str) -> Response:
        await _current(healer.views)
        return Json(view.issue(healer.views, issue_id, await healer.log.stream(issue_id)))

    @app.get(f"{PREFIX}/events")
    async def events(
        wish: Annotated[EventsWish, Query()],
        request: Request,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> Response:
        """All facts as they land, as server-sent events."""
        after = wish.after
        if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
            after = min(int(last_event_id), LAST_POSITION)
        allowed = request.scope.get(ALLOWED_KEY, _always)
        return await streams.stream(after, allowed=allowed)


def _always() -> bool:
    return True


def _add_reload(app: FastAPI, reload: Reload | None) -> None:
    @app.post(f"{PREFIX}/reload")
    async def reload_configuration(actor: Actor, nothing: Nothing | None = None) -> Response:
        """Read the configuration again; an unusable one changes nothing."""
        if reload is None:
            raise IllegalCommandError("reload", "this healer was not made from a file")
        return Json(await reload(actor))


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(HealerError)
    async def on_purpose(request: Request, error: HealerError) -> Response:
        return _problem(problem_of(error, request.url.path))

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        return _problem(invalid(error.errors(), request.url.path))

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        details = {404: f"cannot find {path}", 405: f"cannot {request.method} {path}"}
        title = str(error.detail)
        problem = Problem(error.status_code, title, details.get(error.status_code, title), path)
        return _problem(problem, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        _log.error("request_failed", path=request.url.path, exc_info=error)
        detail = "cannot answer: a defect of the healer; its log says more"
        return _problem(Problem(500, "Defect", detail, request.url.path))


def _problem(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(
        problem.body(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers
    )
