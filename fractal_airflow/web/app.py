"""The web app: who may see what, and its addresses. Pages are made in :mod:`fractal_airflow.web.pages`."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.links import airflow_url
from fractal_airflow.web import pages
from fractal_airflow.web.lookup import (
    NothingFoundError,
    asset_id_of,
    find_step,
    log_of,
    units_of_command,
    units_of_instance,
)

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_STEP = "/dags/{dag_id}/runs/{run_id}/steps/{step}"


def make_app() -> FastAPI:
    """
    Return the app. Whoever may see the task logs of a DAG may see the logs of its units, and nobody else.

    An address never holds a path of a file: it names a step of a run and one of its units, and where their
    logs are is known to the dataset store and the resource.
    """
    app = FastAPI(
        title="Fractal",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Of the whole app: there is no address without it. The DAG is that of the path.
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))],
    )
    app.add_api_route(f"{_STEP}/units/{{map_index}}", show_units)
    app.add_api_route(f"{_STEP}/units/{{map_index}}/{{unit}}", show_unit_log)
    app.add_api_route(f"{_STEP}/command", show_command)
    app.add_api_route(f"{_STEP}/command/log", show_command_log)
    app.add_api_route(f"{_STEP}/dataset", go_to_dataset)
    app.add_exception_handler(NothingFoundError, _not_found)
    app.add_exception_handler(FractalAirflowError, _not_now)
    return app


def show_units(dag_id: str, run_id: str, step: int, map_index: int) -> Response:
    """Show the units of a mapped task instance."""
    found = find_step(dag_id, run_id, step)
    return _page(pages.units_page(units_of_instance(found, map_index)))


def show_unit_log(dag_id: str, run_id: str, step: int, map_index: int, unit: int) -> Response:
    """Show the log of one of its units."""
    return _text(log_of(find_step(dag_id, run_id, step), map_index, unit))


def show_command(dag_id: str, run_id: str, step: int) -> Response:
    """Show the command over all images: a non-parallel task, or the init half of a compound one."""
    return _page(pages.units_page(units_of_command(find_step(dag_id, run_id, step))))


def show_command_log(dag_id: str, run_id: str, step: int) -> Response:
    """Show its log."""
    return _text(log_of(find_step(dag_id, run_id, step), None, 0))


def go_to_dataset(dag_id: str, run_id: str, step: int) -> Response:
    """Lead to the asset page of a step's dataset; Airflow makes the asset at the first merge."""
    name = find_step(dag_id, run_id, step).dataset
    number = asset_id_of(name)
    if number is None:
        return _page(pages.no_asset_page(name))
    return RedirectResponse(airflow_url(f"/assets/{number}"), status_code=303, headers=_HEADERS)


def _page(html: str, status: int = 200) -> Response:
    return HTMLResponse(html, status_code=status, headers=_HEADERS)


def _text(text: str) -> Response:
    return PlainTextResponse(text, headers=_HEADERS)


def _not_found(_request: Request, error: Exception) -> Response:
    return _page(pages.message_page("Nothing found", str(error)), 404)


def _not_now(_request: Request, error: Exception) -> Response:
    return _page(pages.message_page("This cannot be shown", str(error)), 502)
