"""The configuration of a resource: the extra of an Airflow connection, or the JSON of a Fractal resource."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.checked_model import CheckedModel, list_problems
from fractal_airflow.execution.slurm.options import BatchingConfig, PositiveInt, SlurmOptions

CACHE_FOLDER = ".fractal_cache"

Factor = Annotated[float, Field(ge=1, allow_inf_nan=False)]

# Fractal's names for keys of ours, and its keys that mean nothing here.
_ALIASES = {
    "jobs_remote_dir": "work_dir",
    "jobs_slurm_python_worker": "python",
    "jobs_poll_interval": "poll_interval",
}
_IGNORED = frozenset(
    """
    host id jobs_local_dir name resource_id resource_type tasks_local_dir tasks_pip_cache_dir tasks_pixi_config
    tasks_python_config timestamp_created
    """.split()  # noqa: SIM905 - reads better than a list
)
_NOT_IN_OUTPUT_PATHS = frozenset("%\\\n\r")  # SLURM replaces %j, and takes backslashes out
_LOCAL_KEYS = ("parallel_tasks_per_job", "units_at_a_time")
_SLURM_KEYS = ("default_slurm_config", "gpu_slurm_config", "batching_config", "user_local_exports")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]*\$?", re.ASCII)


class JobsRunnerConfig(CheckedModel):
    """How jobs are run; the SLURM keys are those that Fractal administrators already have.

    :param parallel_tasks_per_job: on ``local``, how many units run at once on this machine.
    :param units_at_a_time: on ``local``, how many units one batch runs at a time.
    :param default_slurm_config: on SLURM, what a unit asks for where its task does not say.
    :param gpu_slurm_config: replaces keys of it for tasks that need a GPU.
    :param batching_config: how units are put together into jobs.
    :param user_local_exports: environment variables of the units, whose values are paths relative to the
        resource's cache folder.
    """

    parallel_tasks_per_job: PositiveInt | None = None
    units_at_a_time: PositiveInt = 1
    default_slurm_config: SlurmOptions | None = None
    gpu_slurm_config: SlurmOptions | None = None
    batching_config: BatchingConfig | None = None
    user_local_exports: dict[str, str] | None = None

    @field_validator("user_local_exports")
    @classmethod
    def _names(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, path in (value or {}).items():
            if not _ENVIRONMENT_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an environment variable")
            if "\0" in path:
                raise ValueError(f"{name}: {path!r} is no path")
        return value


class ResourceConfig(CheckedModel):
    """The configuration of a resource.

    :param type: ``local``: on the Airflow worker. ``slurm_ssh``: on a SLURM cluster, over SSH. ``slurm``: the
        Airflow worker is itself a machine from which jobs are submitted.
    :param work_dir: the absolute folder under which run folders are made; for SLURM, on a file system that the
        cluster's machines share.
    :param ssh_conn_id: for ``slurm_ssh``, the Airflow connection of type ``ssh``.
    :param run_as_user: for ``slurm``, the user that submits, through ``sudo -u``.
    :param python: a Python >= 3.9 on the cluster; default: one is looked for.
    :param poll_interval: seconds between two looks at the jobs.
    :param results_wait: seconds to wait for results that a slow file system does not show yet.
    :param memory_factor: units that ran out of memory get this many times as much; 1: they are not tried again.
    :param time_factor: the same for those that ran out of time.
    :param use_mem_per_cpu: whether memory is asked for by core, for clusters that want it.
    :param cache_dir: where ``user_local_exports`` begin; default: ``WORK_DIR/.fractal_cache``.
    """

    type: Literal["local", "slurm", "slurm_ssh"] = "local"
    work_dir: Path
    ssh_conn_id: str | None = None
    run_as_user: str | None = None
    python: str | None = None
    poll_interval: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    results_wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    memory_factor: Factor = 2.0
    time_factor: Factor = 2.0
    use_mem_per_cpu: bool = False
    cache_dir: Path | None = None
    jobs_runner_config: JobsRunnerConfig = Field(default_factory=JobsRunnerConfig)

    @model_validator(mode="before")
    @classmethod
    def _read_fractal(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = {key: value for key, value in data.items() if value is not None and key not in _IGNORED}
        if given.pop("prevent_new_submissions", False):
            raise ValueError("prevent_new_submissions is true: this resource takes no new jobs")
        for alias, name in _ALIASES.items():
            if alias in given:
                value = given.pop(alias)
                if given.setdefault(name, value) != value:
                    raise ValueError(f"{alias} and {name} are the same, and have different values")
        if given.get("type") == "slurm_sudo":
            given["type"] = "slurm"
        return given

    @field_validator("jobs_runner_config", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        # A field of the connection's form may hold text.
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"is no JSON: {error}") from error

    @field_validator("run_as_user")
    @classmethod
    def _user_name(cls, value: str | None) -> str | None:
        if value is not None and not _USER_NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no name of a user")
        return value

    @field_validator("python")
    @classmethod
    def _program(cls, value: str | None) -> str | None:
        if value is not None and ("/" in value or value.startswith("-")) and not value.startswith("/"):
            raise ValueError(f"{value!r} must be an absolute path, or the name of a program")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse what has no effect: whoever wrote it expects one."""
        if self.type == "slurm_ssh" and not self.ssh_conn_id:
            raise ValueError("ssh_conn_id is missing: a resource of type 'slurm_ssh' needs an SSH connection")
        if self.type != "slurm_ssh" and self.ssh_conn_id:
            raise ValueError(f"ssh_conn_id belongs to the type 'slurm_ssh', not {self.type!r}")
        if self.type != "slurm" and self.run_as_user:
            raise ValueError(f"run_as_user belongs to the type 'slurm', not {self.type!r}")
        others = _SLURM_KEYS if self.type == "local" else _LOCAL_KEYS
        for key in others:
            if getattr(self.jobs_runner_config, key) != JobsRunnerConfig.model_fields[key].default:
                raise ValueError(
                    f"jobs_runner_config.{key} has no effect on a resource of type {self.type!r}"
                )
        for name in ("work_dir", "cache_dir"):
            path = getattr(self, name)
            # Only what is on this machine has a home folder that is known here.
            path = path.expanduser() if path and self.type == "local" else path
            if path and not path.is_absolute():
                raise ValueError(f"{name}: {str(path)!r} is not an absolute path")
            setattr(self, name, path)
        if self.type != "local" and (wrong := sorted(set(str(self.work_dir)) & _NOT_IN_OUTPUT_PATHS)):
            raise ValueError(
                f"work_dir: {str(self.work_dir)!r} has {', '.join(map(repr, wrong))} in it: "
                "there, SLURM cannot write the output of jobs"
            )
        return self

    @property
    def exports_dir(self) -> Path:
        """Where the paths of ``user_local_exports`` begin."""
        return self.cache_dir or self.work_dir / CACHE_FOLDER


def load_resource_config(data: Mapping[str, Any]) -> ResourceConfig:
    """Check a resource's configuration.

    :raises ResourceError: naming every key that is wrong.
    """
    try:
        return ResourceConfig.model_validate(dict(data))
    except ValidationError as error:
        problems = list_problems(error, ResourceConfig)
        raise ResourceError(f"Bad configuration of the resource: {problems}") from error
