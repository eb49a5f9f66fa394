"""What a SLURM job may ask for: the configuration sets of a resource, overlaid with a task's ``meta``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.checked_model import CheckedModel, list_problems
from fractal_airflow.fractal.meta import (
    UNLIMITED,
    check_extra_lines,
    check_gpus,
    check_gres,
    check_nodes,
    check_text,
    parse_memory,
    parse_time,
)
from fractal_airflow.fractal.slurm_options import KNOWN_OPTIONS, header_options

PositiveInt = Annotated[int, Field(ge=1)]
Memory = Annotated[int, BeforeValidator(parse_memory)]  # MB


def _checked(check: Callable[[object], object]) -> AfterValidator:
    def keep(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(keep)


Text = Annotated[str, _checked(check_text)]
Time = Annotated[str, BeforeValidator(lambda value: format_time(parse_time(value)))]


class SlurmOptions(CheckedModel):
    """
    What a job asks for: a configuration set of a resource (``default_slurm_config``, ``gpu_slurm_config``).

    ``cpus_per_task``, ``mem`` and ``time`` are those of one unit; a job asks for as much more as it needs.
    """

    partition: Text | None = None
    nodes: Annotated[int | str, _checked(check_nodes)] | None = None
    cpus_per_task: PositiveInt | None = None
    mem: Memory | None = None
    constraint: Text | None = None
    gres: Annotated[str, _checked(check_gres)] | None = None
    gpus: Annotated[int | str, _checked(check_gpus)] | None = None
    exclude: Text | None = None
    nodelist: Text | None = None
    time: Time | None = None
    account: Text | None = None
    extra_lines: Annotated[list[str], _checked(check_extra_lines)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        for key in data if isinstance(data, Mapping) else ():
            option = str(key).replace("_", "-")
            if key not in cls.model_fields and option in KNOWN_OPTIONS:
                raise ValueError(
                    f"{key!r} is no key of its own: "
                    f"add it to extra_lines, as {f'#SBATCH --{option}={data[key]}'!r}"
                )
        return data

    @property
    def time_s(self) -> int | None:
        """The time limit of a unit in seconds; None where it is left to the cluster."""
        return None if self.time is None else parse_time(self.time)

    def overlaid(self, other: SlurmOptions) -> SlurmOptions:
        """Return these options, replaced key by key by those that the other ones have."""
        chosen = {key: value for key, value in other if value is not None}
        # Both keys ask for GPUs. Together they would ask for what nobody meant.
        if other.gpus is not None and other.gres is None and gpus_of_gres(self.gres):
            chosen["gres"] = None
        if gpus_of_gres(other.gres) and other.gpus is None:
            chosen["gpus"] = None
        return self.model_copy(update=chosen)


class BatchingConfig(CheckedModel):
    """
    How units are put together into jobs.

    Units are put into jobs of up to ``target_*``; where that would make more than ``target_num_jobs`` jobs,
    into jobs of up to ``max_*``; where that would make more than ``max_num_jobs`` jobs, a job runs units in
    turn. A ``target_*`` that is missing is the same as its ``max_*``, and the other way round. Where both are
    missing for cores and memory, a job runs one unit at a time; for jobs, there are up to 100.

    :param max_time_per_job: jobs never ask for a longer time limit than this.
    """

    target_cpus_per_job: PositiveInt | None = None
    max_cpus_per_job: PositiveInt | None = None
    target_mem_per_job: Memory | None = None
    max_mem_per_job: Memory | None = None
    target_num_jobs: PositiveInt | None = None
    max_num_jobs: PositiveInt | None = None
    max_time_per_job: Time | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("cpus_per_job", "mem_per_job", "num_jobs"):
            target, most = getattr(self, f"target_{name}"), getattr(self, f"max_{name}")
            if target is not None and most is not None and target > most:
                raise ValueError(f"target_{name} ({target}) is above max_{name} ({most})")
        return self


def slurm_options(
    default: SlurmOptions | None, gpu: SlurmOptions | None, meta: Mapping[str, Any]
) -> SlurmOptions:
    """
    Return what a unit asks for: a resource's sets, overlaid with the task's ``meta``.

    :param default: ``default_slurm_config`` of the resource.
    :param gpu: its ``gpu_slurm_config``, which replaces keys of the default for tasks that need a GPU.
    :raises ResourceError: where ``meta`` says what SLURM does not know.
    """
    chosen = default or SlurmOptions()
    if meta.get("needs_gpu"):
        chosen = chosen.overlaid(gpu or SlurmOptions())
    asked = _of_meta(meta)
    options = chosen.overlaid(asked)
    lines = [*(chosen.extra_lines or ()), *(asked.extra_lines or ())]
    options = options.model_copy(update={"extra_lines": list(dict.fromkeys(lines)) or None})
    if meta.get("needs_gpu") and gpu is None and not asks_for_gpus(options):
        return options.model_copy(update={"gres": ",".join(filter(None, [options.gres, "gpu:1"]))})
    return options


def _of_meta(meta: Mapping[str, Any]) -> SlurmOptions:
    keys = SlurmOptions.model_fields.keys() - {"partition", "account"}
    try:
        return SlurmOptions.model_validate({key: value for key, value in meta.items() if key in keys})
    except ValidationError as error:
        raise ResourceError(
            f"The task's meta cannot be used: {list_problems(error, SlurmOptions)}"
        ) from error


def asks_for_gpus(options: SlurmOptions) -> bool:
    """Tell whether a job with these options is given GPUs."""
    return gpu_count(options) > 0


def gpu_count(options: SlurmOptions) -> int:
    """Return how many GPUs a job with these options is given."""
    counts = [_sum_of_counts(options.gpus), gpus_of_gres(options.gres)]
    for line in options.extra_lines or ():
        for name, value in header_options(line).items():
            if name in ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"):
                counts.append(_sum_of_counts(value))
            elif name in ("gres", "tres-per-task"):
                counts.append(gpus_of_gres(value))
    return max(counts)


def gpus_of_gres(gres: str | None) -> int:
    """
    Return how many GPUs are among generic resources.

    >>> gpus_of_gres("gpu:a100:2,shard:4"), gpus_of_gres("gpu")
    (2, 1)
    """
    items = [item.removeprefix("gres/").removeprefix("gres:") for item in (gres or "").split(",")]
    return sum(_count(item) for item in items if item.partition(":")[0].partition("=")[0] == "gpu")


def _sum_of_counts(text: str | int | None) -> int:
    return sum(_count(item) for item in str(text).split(",")) if text else 0


def _count(item: str) -> int:
    last = item.replace("=", ":").rpartition(":")[2]
    return int(last) if last.isdecimal() else 1


def format_time(seconds: int) -> str:
    """
    Return a time limit as SLURM writes it.

    >>> format_time(5400), format_time(90061), format_time(0)
    ('01:30:00', '1-01:01:01', 'UNLIMITED')
    """
    if seconds == UNLIMITED:
        return "UNLIMITED"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hours:02}:{minutes:02}:{seconds:02}"
