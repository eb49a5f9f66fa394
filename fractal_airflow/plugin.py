"""Airflow's plugin: it gives the API server the web app. Every component of Airflow imports this module."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin


class FractalPlugin(AirflowPlugin):
    """The pages that buttons of task instances lead to (see :mod:`fractal_airflow.links`)."""

    name = "fractal"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The web app: made where it is asked for, by the API server alone."""
        from fractal_airflow.links import PREFIX
        from fractal_airflow.web.app import make_app

        return [{"app": make_app(), "url_prefix": PREFIX, "name": "Fractal"}]
