"""What Airflow learns of this provider: its connection type, configuration section and commands."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description; the entry point ``apache_airflow_provider`` names this function."""
    return {
        "package-name": "fractal-airflow",
        "name": "Fractal",
        "description": "Fractal workflows: bioimage analysis of OME-Zarr images.",
        "connection-types": [_CONNECTION_TYPE],
        "config": {"fractal_airflow": _CONFIG_SECTION},
        "cli": ["fractal_airflow.cli.get_commands"],
    }


_CONNECTION_TYPE: dict[str, Any] = {
    "connection-type": "fractal",
    "hook-class-name": "fractal_airflow.hooks.fractal.FractalHook",
    "hook-name": "Fractal resource",
    "ui-field-behaviour": {
        "hidden-fields": ["host", "port", "login", "password", "schema"],
        "relabeling": {},
        "placeholders": {"work_dir": "/data/fractal_runs"},
    },
    "conn-fields": {
        "type": {
            "label": "Type",
            "description": "Where units run. 'local': on the Airflow worker itself.",
            "schema": {"type": "string", "enum": ["local"], "default": "local"},
        },
        "work_dir": {
            "label": "Work folder",
            "description": "Absolute path under which every run gets a folder with arguments, outputs and logs.",
            "schema": {"type": ["string", "null"]},
        },
        "jobs_runner_config": {
            "label": "Jobs runner configuration",
            "description": (
                'As in a Fractal resource; for local: {"parallel_tasks_per_job": 4}, how many units run at once '
                "on one machine (default: its cores)."
            ),
            "schema": {"type": ["object", "null"]},
        },
    },
}

_CONFIG_SECTION: dict[str, Any] = {
    "description": "Settings of the Fractal provider.",
    "options": {
        "dataset_conn_id": {
            "description": (
                "Airflow connection (type postgres or sqlite) of the dataset store. "
                "Empty: the SQLite file that `dataset_file` names."
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": "fractal_datasets",
            "default": "",
        },
        "dataset_file": {
            "description": "SQLite file of the dataset store, where `dataset_conn_id` is empty.",
            "version_added": "0.1.0",
            "type": "string",
            "example": None,
            "default": "{AIRFLOW_HOME}/fractal_datasets.db",
        },
        "work_dir": {
            "description": "Folder for the runs of resources that name none themselves.",
            "version_added": "0.1.0",
            "type": "string",
            "example": None,
            "default": "{AIRFLOW_HOME}/fractal_runs",
        },
        "report_dir": {
            "description": (
                "Folder on the Airflow worker into which every finished step writes what became of its units, "
                "as DAG_ID/RUN_ID/STEP.json. Empty: no such files."
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": "/data/fractal_reports",
            "default": "",
        },
        "clean_after_days": {
            "description": (
                "How many days ago a run must have finished before `airflow fractal clean` removes its folder."
            ),
            "version_added": "0.2.0",
            "type": "float",
            "example": None,
            "default": "30",
        },
    },
}
