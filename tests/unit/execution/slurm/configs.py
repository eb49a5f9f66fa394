"""Configurations of SLURM resources for tests."""

from __future__ import annotations

from typing import Any

from fractal_airflow.execution.resource_config import ResourceConfig, load_resource_config


def slurm_config(
    batching: dict[str, Any] | None = None,
    *,
    default: dict[str, Any] | None = None,
    gpu: dict[str, Any] | None = None,
    exports: dict[str, str] | None = None,
    **keys: Any,
) -> ResourceConfig:
    """Return the configuration of a resource."""
    jobs = {
        "default_slurm_config": default,
        "gpu_slurm_config": gpu,
        "batching_config": batching,
        "user_local_exports": exports,
    }
    return load_resource_config(
        {"type": "slurm", "work_dir": "/shared/fractal", "jobs_runner_config": jobs, **keys}
    )
