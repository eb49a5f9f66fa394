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
        "extra-links": ["fractal_airflow.links.UnitLogsLink", "fractal_airflow.links.DatasetLink"],
        "asset-uris": [{"schemes": ["fractal"], "handler": "fractal_airflow.assets.normalise_uri"}],
    }


_CONNECTION_TYPE: dict[str, Any] = {
    "connection-type": "fractal",
    "hook-class-name": "fractal_airflow.hooks.fractal.FractalHook",
    "hook-name": "Fractal resource",
    "ui-field-behaviour": {
        "hidden-fields": ["host", "port", "login", "password", "schema"],
        "relabeling": {},
        "placeholders": {"work_dir": "/shared/fractal_runs", "ssh_conn_id": "hpc_ssh"},
    },
    "conn-fields": {
        "type": {
            "label": "Type",
            "description": (
                "Where units run. local: on the Airflow worker itself. slurm_ssh: on a SLURM cluster, over SSH. "
                "slurm: on a SLURM cluster of which the Airflow worker is a submit host."
            ),
            "schema": {"type": "string", "enum": ["local", "slurm_ssh", "slurm"], "default": "local"},
        },
        "ssh_conn_id": {
            "label": "SSH connection",
            "description": "For slurm_ssh: the Airflow connection, of type ssh, to a login node of the cluster.",
            "schema": {"type": ["string", "null"]},
        },
        "work_dir": {
            "label": "Work folder",
            "description": (
                "Absolute path under which every run gets a folder with arguments, outputs and logs. For SLURM: "
                "on a file system that login and compute nodes share, at the same path."
            ),
            "schema": {"type": ["string", "null"]},
        },
        "jobs_runner_config": {
            "label": "Jobs runner configuration",
            "description": (
                'As in a Fractal resource. For SLURM: {"default_slurm_config": {"partition": "main", '
                '"cpus_per_task": 1, "mem": "4G"}, "gpu_slurm_config": {"partition": "gpu", '
                '"gres": "gpu:1"}, "batching_config": {"target_num_jobs": 20, "max_mem_per_job": "64G"}, '
                '"user_local_exports": {}}. For local: {"parallel_tasks_per_job": 4}, how many units run at '
                "once on one machine (default: its cores)."
            ),
            "schema": {"type": ["object", "null"]},
        },
        "run_as_user": {
            "label": "Run as user",
            "description": "For slurm: the user who submits, by sudo -u. Empty: the user of the Airflow worker.",
            "schema": {"type": ["string", "null"]},
        },
        "python": {
            "label": "Python on the cluster",
            "description": "For SLURM: a Python >= 3.9 there, as a path or a name. Empty: one is looked for.",
            "schema": {"type": ["string", "null"]},
        },
        "poll_interval": {
            "label": "Poll interval",
            "description": "For SLURM: seconds between two looks at the queue (one for all jobs). Empty: 10.",
            "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
        },
        "results_wait": {
            "label": "Wait for results",
            "description": (
                "For SLURM: seconds to wait for results that a slow file system does not show yet. Empty: 60."
            ),
            "schema": {"type": ["number", "null"], "minimum": 0},
        },
        "memory_factor": {
            "label": "Memory factor",
            "description": (
                "For SLURM: units that ran out of memory are tried again with so many times as much. Empty: 2; "
                "1: they are not tried again."
            ),
            "schema": {"type": ["number", "null"], "minimum": 1},
        },
        "time_factor": {
            "label": "Time factor",
            "description": "For SLURM: the same for units that ran past their time limit.",
            "schema": {"type": ["number", "null"], "minimum": 1},
        },
        "use_mem_per_cpu": {
            "label": "Memory by core",
            "description": "For SLURM: ask for memory as --mem-per-cpu, for clusters that want it.",
            "schema": {"type": ["boolean", "null"]},
        },
        "cache_dir": {
            "label": "Cache folder",
            "description": (
                "For SLURM: where the paths of user_local_exports begin. "
                "Empty: .fractal_cache in the work folder."
            ),
            "schema": {"type": ["string", "null"]},
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
            "description": "Folder for the runs of local resources that name none themselves.",
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
        "api_conn_id": {
            "description": (
                "Airflow connection (type http: host, port, login, password) to Airflow's own API server, "
                "through which the report of a run becomes the note of its task. Its user needs the right to "
                "edit task instances. Empty: no such notes."
            ),
            "version_added": "0.3.0",
            "type": "string",
            "example": "airflow_api",
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
