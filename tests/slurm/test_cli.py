"""``airflow fractal resource check`` and ``clean``, and the button of the connection's form, on a real cluster."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.execution.resource import BatchCall
from fractal_airflow.execution.resource_config import load_resource_config
from fractal_airflow.execution.run_folder import run_folder
from fractal_airflow.execution.slurm.resource import SlurmResource
from fractal_airflow.hooks.fractal import FractalHook
from tests.cli.conftest import Ended
from tests.services import dag_calls
from tests.services.airflow import AirflowHome, make_home
from tests.services.login_node import LoginNode
from tests.services.site import PYTHON, connections, fake_tasks, resource
from tests.services.slurm import SlurmCluster
from tests.services.users import open_to

DAY = 86400


@pytest.fixture(scope="module")
def airflow(
    cluster: SlurmCluster,
    login_node: LoginNode,
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Path,
) -> AirflowHome:
    """An Airflow that knows the cluster as the resource ``hpc``."""
    folder = tmp_path_factory.mktemp("airflow") / "home"
    return make_home(folder, migrated_database, **connections(cluster, login_node))


@pytest.fixture(autouse=True)
def _tidy(cluster: SlurmCluster) -> Iterator[None]:
    """No job may be left over."""
    yield
    cluster.wait("no job is left", lambda: not cluster.live())


def call(airflow: AirflowHome, *words: str, **settings: str) -> Ended:
    """Call ``airflow fractal …`` in a process of this Airflow."""
    return Ended(*airflow.call(dag_calls.fractal_command, *words, **settings).result(120))


def changed(cluster: SlurmCluster, **extra: Any) -> dict[str, str]:
    """Return the setting that changes keys of the resource's connection."""
    hpc = {"conn_type": "fractal", "extra": resource(cluster, **extra)}
    return {"AIRFLOW_CONN_HPC": json.dumps(hpc)}


def asking_for(**options: Any) -> dict[str, Any]:
    """Return what the jobs of a resource ask for."""
    return {"jobs_runner_config": {"default_slurm_config": {"partition": "main", "mem": 100, **options}}}


def findings(ended: Ended) -> dict[str, dict[str, str]]:
    """Return the worst finding of each check."""
    told: dict[str, dict[str, str]] = {}
    for finding in json.loads(ended.out)["findings"]:
        if told.get(finding["check"], {}).get("status") != "error":
            told[finding["check"]] = finding
    return told


def check_folders(cluster: SlurmCluster) -> list[Path]:
    return list((cluster.shared / "runs" / ".fractal" / "check").glob("*"))


def test_a_cluster_that_works(airflow: AirflowHome, cluster: SlurmCluster) -> None:
    before = set(cluster.submitted())

    ended = call(airflow, "resource", "check", "hpc", "--output", "json")

    assert ended.code == 0, ended
    told = findings(ended)
    assert {check: finding["status"] for check, finding in told.items()} == dict.fromkeys(
        ("connection", "user", "SLURM", "accounting", "partitions", "limits", "work folder", "job"), "ok"
    )
    assert told["user"]["message"].startswith(f"{cluster.user.pw_name} on ")
    assert f"{cluster.shared}/runs can be written" in told["work folder"]["message"]
    assert "main (default): 3 nodes of up to 2 cores and 4000 MB" in told["partitions"]["message"]
    (job,) = set(cluster.submitted()) - before
    assert told["job"]["message"].startswith(f"job {job} ran on ")
    assert json.loads(ended.out)["facts"]["limits"]["MaxJobCount"]
    assert check_folders(cluster) == []

    shown = call(airflow, "resource", "check", "hpc", "--no-job")
    assert shown.code == 0
    assert shown.out.startswith(f"hpc: a resource of type slurm_ssh, work folder {cluster.shared}/runs\n")
    assert shown.out.endswith("\nAll is well\n")
    assert len(set(cluster.submitted()) - before) == 1


def test_a_gpu_is_asked_for_where_one_is_wanted(airflow: AirflowHome, cluster: SlurmCluster) -> None:
    jobs = {
        "default_slurm_config": {"partition": "main", "mem": 100},
        "gpu_slurm_config": {"partition": "gpu", "gres": "gpu:1"},
    }
    ended = call(
        *(airflow, "resource", "check", "hpc", "--gpu", "-o", "json"),
        **changed(cluster, jobs_runner_config=jobs),
    )

    assert (ended.code, findings(ended)["GPU job"]["status"]) == (0, "ok"), ended


@pytest.mark.parametrize(
    ("extra", "check", "said", "advised"),
    [
        (asking_for(partition="mian"), "partitions", "no partition 'mian'", "Choose among main, gpu"),
        (asking_for(partition="mian"), "job", "Invalid partition name specified", "default_slurm_config"),
        (asking_for(nodelist="n7"), "job", "Invalid node name specified", "default_slurm_config"),
        (asking_for(mem="64G"), "partitions", "64000 MB, and the nodes of main have 4000 MB", "mem"),
        (asking_for(mem="64G"), "job", "Requested node configuration is not available", "SLURM's own words"),
        (asking_for(extra_lines=["#SBATCH --hold"]), "job", "is held by its user", "mend what it names"),
        ({"work_dir": "/proc/runs"}, "work folder", "/proc/runs", ""),
        ({"ssh_conn_id": "nowhere"}, "connection", "no Airflow connection 'nowhere'", ""),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    airflow: AirflowHome, cluster: SlurmCluster, extra: dict[str, Any], check: str, said: str, advised: str
) -> None:
    command = ("resource", "check", "hpc", "--wait", "3", "-o", "json")
    ended = call(airflow, *command, **changed(cluster, **extra))

    assert ended.code == 1
    finding = findings(ended)[check]
    assert finding["status"] == "error"
    assert said in finding["message"]
    assert advised in finding["advice"]


def test_a_login_node_that_does_not_answer(
    airflow: AirflowHome, cluster: SlurmCluster, login_node: LoginNode
) -> None:
    login_node.stop()
    try:
        ended = call(airflow, "resource", "check", "hpc")
    finally:
        login_node.start()

    assert ended.code == 1
    assert "No SSH connection to" in ended.out
    assert "→ Try `ssh` with the same host, port and user" in ended.out
    assert ended.out.endswith("\nIt cannot be used as it is: 1 of 1 checks failed\n")


def test_a_controller_that_does_not_answer(airflow: AirflowHome, cluster: SlurmCluster) -> None:
    cluster.stop_controller()
    try:
        ended = call(airflow, "resource", "check", "hpc", "-o", "json")
    finally:
        cluster.start_controller()

    assert ended.code == 1
    assert "Unable to contact slurm controller" in findings(ended)["SLURM"]["message"]
    assert "scontrol ping" in findings(ended)["SLURM"]["advice"]
    assert "job" not in findings(ended)


def test_a_resource_that_does_not_exist(airflow: AirflowHome) -> None:
    ended = call(airflow, "resource", "check", "hcp")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: Resource 'hcp': There is no Airflow connection 'hcp'")


def test_the_button_of_the_form_connects_and_asks(
    cluster: SlurmCluster, login_node: LoginNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in connections(cluster, login_node).items():
        monkeypatch.setenv(name, value)

    ok, message = FractalHook("hpc").test_connection()
    assert ok, message
    assert "SLURM 2" in message
    assert "can be written" in message

    monkeypatch.setenv(*changed(cluster, **asking_for(partition="mian")).popitem())
    ok, message = FractalHook("hpc").test_connection()
    assert not ok
    assert message.startswith("Default_slurm_config: the cluster shows no partition 'mian'. Choose among ")


def test_old_runs_on_the_cluster_are_removed_but_none_with_a_job(
    airflow: AirflowHome, cluster: SlurmCluster, login_node: LoginNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in connections(cluster, login_node).items():
        monkeypatch.setenv(name, value)
    work_dir = cluster.shared / "to_clean"
    hpc = SlurmResource(load_resource_config(resource(cluster, work_dir=str(work_dir))))
    runs = {}
    for run_id in ("with-a-job", "without"):
        folder = run_folder(work_dir, "nuclei", run_id, 0, "Measure") / f"0000-{0:012x}"
        runs[run_id] = folder.parent.parent
        call_ = BatchCall([{}], ("/bin/sh", "-c", "sleep 600"), str(folder), "first", {})
        hpc.submit(call_, log=logging.getLogger(__name__))
        cluster.wait("it runs", lambda: all(job.state == "RUNNING" for job in cluster.live()))
    hpc.cancel()
    cluster.wait("one job is left", lambda: len(cluster.live()) == 1)
    for path in work_dir.rglob("*"):
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    command = ("clean", "--resource", "hpc", "--older-than", "30d")
    settings = changed(cluster, work_dir=str(work_dir))

    shown = call(airflow, *command, "--dry-run", **settings)
    assert runs["without"].exists()
    ended = call(airflow, *command, **settings)

    assert (shown.code, ended.code) == (0, 0), (shown, ended)
    assert "Would remove 1 run folder" in shown.out
    assert "Removed 1 run folder" in ended.out
    assert f"{runs['with-a-job']} is old, but something still runs in it" in ended.out
    assert (runs["with-a-job"].exists(), runs["without"].exists()) == (True, False)
    cluster.cancel_all()


@pytest.fixture
def home(
    cluster: SlurmCluster, login_node: LoginNode, tmp_path: Path, migrated_database: Path
) -> AirflowHome:
    """An Airflow with two images that jobs can write, whose connections are in its database alone."""
    data = open_to(cluster.shared / "data" / tmp_path.name, cluster.user)
    home = make_home(tmp_path / "home", migrated_database)
    home = AirflowHome(home.home, home.settings, str(data), fake_tasks(cluster), PYTHON)
    known = {name: json.loads(text) for name, text in connections(cluster, login_node).items()}
    file = tmp_path / "connections.json"
    file.write_text(json.dumps({name.removeprefix("AIRFLOW_CONN_").lower(): known[name] for name in known}))
    home.cli("connections", "import", str(file))
    home.add_images("B/03", "B/04")
    for path in data.rglob("*"):
        os.chown(path, cluster.user.pw_uid, cluster.user.pw_gid)
    return home


def run_command(home: AirflowHome, *tasks: dict[str, Any]) -> list[str]:
    """Return the command that runs a workflow on the cluster, without a scheduler."""
    workflow = home.write_workflow("nuclei", *tasks)
    return [
        *("fractal", "run", "--workflow", str(workflow), "--package", f"{home.package}:{PYTHON}"),
        *("--dataset", "plate", "--zarr-dir", str(home.data), "--resource", "hpc"),
    ]


def test_a_workflow_runs_on_the_cluster_without_a_scheduler(home: AirflowHome) -> None:
    done = home.cli(*run_command(home, {"name": "Measure"}), check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert home.measured("B/03", "B/04") == [1, 1]
    assert "Submitted job " in done.stdout


def test_a_run_that_is_stopped_takes_its_job_along(home: AirflowHome, cluster: SlurmCluster) -> None:
    command = run_command(home, {"name": "Measure", "args_parallel": {"seconds": 600}})
    airflow = str(Path(sys.executable).parent / "airflow")
    process = subprocess.Popen([airflow, *command], env=home.environment(), stderr=subprocess.PIPE, text=True)
    cluster.wait("its job runs", lambda: any(job.state == "RUNNING" for job in cluster.live()))

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (1, "error: stopped by SIGINT\n")
    cluster.wait("its job is gone", lambda: not cluster.live(), timeout_s=15)
