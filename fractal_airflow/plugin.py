"""Airflow's plugin: it gives the API server the web app. Every component of Airflow imports this module."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)


class FractalPlugin(AirflowPlugin):
    """The pages that buttons of task instances lead to (see :mod:`fractal_airflow.links`)."""

    name = "fractal"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The web app: made where it is asked for, by the API server alone."""
        try:
            from fractal_airflow.web.app import make_app
        except ImportError:  # of another Airflow, in which access is asked for in another way
            log.exception("The pages of unit logs are not there")
            return []
        from fractal_airflow.links import PREFIX

        return [{"app": make_app(), "url_prefix": PREFIX, "name": "Fractal"}]
