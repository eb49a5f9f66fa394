"""The buttons of task instances, and the plugin with the pages that they lead to."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import pytest

from fractal_airflow.links import PREFIX, DatasetLink, UnitLogsLink
from fractal_airflow.provider import get_provider_info

KEY: Any = SimpleNamespace(dag_id="nuclei", run_id="manual__2026-11-21T15:10:58+00:00/a?b", map_index=-1)
MAPPED: Any = SimpleNamespace(**{**vars(KEY), "map_index": 7})
STEP = SimpleNamespace(step_number=3)
RUN = "/fractal/dags/nuclei/runs/manual__2026-11-21T15%3A10%3A58%2B00%3A00%2Fa%3Fb/steps/3"


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://site.org/airflow/")
    return "https://site.org/airflow"


def test_the_address_of_a_page_says_what_it_is_about(base_url: str) -> None:
    assert UnitLogsLink().get_link(STEP, ti_key=MAPPED) == f"{base_url}{RUN}/units/7"
    assert UnitLogsLink().get_link(STEP, ti_key=KEY) == f"{base_url}{RUN}/command"
    assert DatasetLink().get_link(STEP, ti_key=MAPPED) == f"{base_url}{RUN}/dataset"


def test_the_provider_names_the_buttons() -> None:
    named = get_provider_info()["extra-links"]

    assert [getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in named] == [
        UnitLogsLink,
        DatasetLink,
    ]


def test_airflow_takes_the_plugin_and_its_prefix() -> None:
    from airflow.api_fastapi.app import RESERVED_URL_PREFIXES
    from airflow.plugins_manager import is_valid_plugin

    (entry_point,) = (
        each
        for each in entry_points(group="airflow.plugins")
        if each.dist and each.dist.name == "fractal-airflow"
    )
    plugin = entry_point.load()

    assert is_valid_plugin(plugin)
    assert not any(PREFIX.startswith(reserved) for reserved in RESERVED_URL_PREFIXES)
    (app,) = plugin().fastapi_apps
    assert (app["url_prefix"], app["app"].title) == (PREFIX, "Fractal")


def test_where_airflow_cannot_be_asked_who_may_see_what_there_are_no_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fractal_airflow.plugin import FractalPlugin

    monkeypatch.setitem(sys.modules, "airflow.api_fastapi.core_api.security", None)
    monkeypatch.delitem(sys.modules, "fractal_airflow.web.app", raising=False)

    assert FractalPlugin().fastapi_apps == []


def test_the_plugin_loads_nothing_of_the_web_app_before_it_is_asked_for_it() -> None:
    program = (
        "import sys, json, airflow.sdk.plugins_manager; before = set(sys.modules)\n"
        "import fractal_airflow.plugin as p; p.FractalPlugin()\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded - {"fractal_airflow"} == {"fractal_airflow.plugin"}


def test_no_page_is_without_the_dag_whose_logs_one_must_be_allowed_to_see() -> None:
    from fastapi.routing import APIRoute

    from fractal_airflow.web.app import make_app

    app = make_app()

    assert len(app.router.dependencies) == 1
    assert all(isinstance(route, APIRoute) and "{dag_id}" in route.path for route in app.routes)
    assert {method for route in app.routes for method in getattr(route, "methods", ())} == {"GET"}
