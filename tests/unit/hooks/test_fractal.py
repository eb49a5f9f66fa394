from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.resource_config import load_resource_config
from fractal_airflow.hooks.fractal import FractalHook


def set_connection(
    monkeypatch: pytest.MonkeyPatch, name: str, /, conn_type: str = "fractal", **extra: Any
) -> None:
    connection = {"conn_type": conn_type, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


@pytest.fixture(autouse=True)
def work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The work folder of resources that name none."""
    monkeypatch.setenv("AIRFLOW__FRACTAL_AIRFLOW__WORK_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_local_needs_no_connection(work_dir: Path) -> None:
    resource = FractalHook("local").get_conn()

    assert (resource.type, resource.work_dir) == ("local", work_dir)
    assert resource.slots >= 1


def test_a_connection_says_where_and_how_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = {"parallel_tasks_per_job": 6, "units_at_a_time": 2}
    set_connection(monkeypatch, "lab", work_dir=str(tmp_path / "lab"), jobs_runner_config=config)

    resource = FractalHook("lab").get_conn()

    assert (resource.work_dir, resource.slots) == (tmp_path / "lab", 3)


def test_a_connection_may_change_what_local_is(monkeypatch: pytest.MonkeyPatch, work_dir: Path) -> None:
    set_connection(monkeypatch, "local", jobs_runner_config={"parallel_tasks_per_job": 1})

    resource = FractalHook().get_conn()

    assert (resource.slots, resource.work_dir) == (1, work_dir)


def test_fields_that_the_form_leaves_empty_count_as_absent(
    monkeypatch: pytest.MonkeyPatch, work_dir: Path
) -> None:
    set_connection(monkeypatch, "lab", type="local", work_dir="", jobs_runner_config=None)

    assert FractalHook("lab").get_conn().work_dir == work_dir


def test_the_json_of_a_fractal_resource_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    pasted = {"type": "slurm_ssh", "name": "HPC", "host": "login1", "jobs_remote_dir": "/shared/jobs"}
    set_connection(monkeypatch, "hpc", **pasted, ssh_conn_id="hpc_ssh", jobs_local_dir="/srv/jobs")

    config = load_resource_config(FractalHook("hpc").get_configuration())

    assert (config.type, config.work_dir) == ("slurm_ssh", Path("/shared/jobs"))


@pytest.mark.parametrize("extra", ["{type: slurm_ssh}", "[]"])
def test_an_extra_that_is_no_json_is_not_the_local_machine(
    monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HPC", json.dumps({"conn_type": "fractal", "extra": extra}))

    with pytest.raises(ResourceError, match="extra field of the Airflow connection 'hpc' is no JSON"):
        FractalHook("hpc").get_conn()


@pytest.mark.parametrize(
    ("conn_type", "extra", "said"),
    [
        ("ssh", {}, "'lab' is of type 'ssh', not 'fractal'"),
        ("fractal", {"type": "slurm"}, "Resource 'lab': Bad configuration of the resource: work_dir"),
        ("fractal", {"type": "slurm_ssh", "work_dir": "/shared"}, "Resource 'lab'.* ssh_conn_id is missing"),
        ("fractal", {"type": "cloud"}, "Resource 'lab': Bad configuration of the resource: type"),
        ("fractal", {"work_dir": "runs"}, "'runs' is not an absolute path"),
        ("fractal", {"workdir": "/runs"}, "workdir: Extra inputs are not permitted"),
        ("fractal", {"jobs_runner_config": {"parallel_tasks_per_job": 0}}, "parallel_tasks_per_job"),
        ("fractal", {"jobs_runner_config": "six"}, "jobs_runner_config"),
    ],
)
def test_a_bad_connection_is_an_error_that_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, conn_type: str, extra: dict[str, Any], said: str
) -> None:
    set_connection(monkeypatch, "lab", conn_type, **extra)

    with pytest.raises(ResourceError, match=said):
        FractalHook("lab").get_conn()


def test_a_connection_that_does_not_exist_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        ResourceError, match="There is no Airflow connection 'lab': add one of type 'fractal'"
    ):
        FractalHook("lab").get_conn()


def test_the_button_in_the_ui_says_what_the_connection_makes(
    monkeypatch: pytest.MonkeyPatch, work_dir: Path
) -> None:
    set_connection(monkeypatch, "lab", jobs_runner_config={"parallel_tasks_per_job": 4})
    set_connection(monkeypatch, "bad", type="slurm")

    assert FractalHook("lab").test_connection() == (
        True,
        f"A local resource, 4 batches at once, runs in {work_dir}",
    )
    ok, message = FractalHook("bad").test_connection()
    assert not ok
    assert "work_dir" in message
