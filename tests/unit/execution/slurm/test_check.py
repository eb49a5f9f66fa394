"""What an administrator is told about a cluster, from what the program found out there."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from fractal_airflow.execution.findings import Finding, is_well
from fractal_airflow.execution.resource_config import ResourceConfig, load_resource_config
from fractal_airflow.execution.slurm.check import judge, judge_pending, judge_round_trips

CONFIG: dict[str, Any] = {
    "type": "slurm",
    "work_dir": "/shared/runs",
    "jobs_runner_config": {"default_slurm_config": {"partition": "main", "cpus_per_task": 2, "mem": "2G"}},
}
# As the program told of a cluster of three nodes, one of them with GPUs.
FACTS: dict[str, Any] = {
    "python": "3.11.7",
    "executable": "/usr/bin/python3",
    "user": "fractal",
    "host": "login1",
    "slurm": "22.05.8",
    "commands": {
        **{
            name: {"path": f"/usr/bin/{name}", "seconds": 0.01, "error": None}
            for name in ("sbatch", "scancel", "squeue", "scontrol", "sinfo")
        },
        "sacct": {
            "path": "/usr/bin/sacct",
            "seconds": 0.01,
            "error": "sacct says: Slurm accounting storage is disabled",
        },
    },
    "queue": {"jobs": 3, "seconds": 0.02, "error": None},
    "partitions": [
        {
            **{"name": "main", "default": True, "available": True, "time_limit": 172800},
            **{"nodes": 2, "cpus": 4, "mem_mb": 7900.0, "gres": ""},
        },
        {
            **{"name": "gpu", "default": False, "available": True, "time_limit": None},
            **{"nodes": 1, "cpus": 64, "mem_mb": 512000.0, "gres": "gpu:a100:4"},
        },
    ],
    "limits": {
        **{"MaxJobCount": "10000", "MinJobAge": "300 sec", "DefMemPerNode": "UNLIMITED"},
        **{"SelectTypeParameters": "CR_CORE_MEMORY", "PreemptMode": "OFF"},
    },
    "work_dir": {"writable": True, "error": None, "free_mb": 80498},
}


def config(**jobs: Any) -> ResourceConfig:
    return load_resource_config({**CONFIG, "jobs_runner_config": jobs} if jobs else CONFIG)


def facts(**changes: Any) -> dict[str, Any]:
    """Return the facts with changes; a key like ``limits__MinJobAge`` goes down into them."""
    changed = copy.deepcopy(FACTS)
    for path, value in changes.items():
        place: Any = changed
        *parents, last = path.split("__")
        for key in parents:
            place = place[key]
        place[last] = value
    return changed


def problems(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status != "ok"]


def the_problem(findings: list[Finding]) -> Finding:
    (problem,) = problems(findings)
    assert problem.advice
    return problem


def test_a_cluster_that_is_well_is_described() -> None:
    findings = judge(FACTS, config())

    assert problems(findings) == []
    assert is_well(findings)
    assert {finding.check: finding.message for finding in findings} == {
        "user": "fractal on login1, Python 3.11.7 (/usr/bin/python3)",
        "SLURM": "SLURM 22.05.8; squeue takes 0.02 s",
        "accounting": "no sacct (Slurm accounting storage is disabled): how a job ended is known as long as the "
        "controller remembers it, 300 s (MinJobAge)",
        "partitions": "main (default): 2 nodes of up to 4 cores and 7900 MB, at most 2 days; "
        "gpu: 1 node of up to 64 cores and 512 GB with gpu:a100:4",
        "limits": "MaxJobCount 10000, MinJobAge 300 sec, DefMemPerNode UNLIMITED, PreemptMode OFF",
        "work folder": "/shared/runs can be written, 80 GB free",
    }


def test_commands_that_a_plain_shell_does_not_find() -> None:
    missing = {"path": None, "seconds": None, "error": "there is no squeue on this machine"}
    no_queue = {"jobs": None, "seconds": None, "error": "squeue is not found on login1"}
    found = judge(facts(commands__squeue=missing, commands__sbatch=missing, queue=no_queue), config())

    problem = the_problem(found)
    assert (problem.check, problem.status) == ("SLURM", "error")
    assert problem.message == "login1 has no sbatch, squeue that fractal finds"
    assert "~/.bashrc" in problem.advice


def test_a_controller_that_does_not_answer() -> None:
    said = "squeue: slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    found = judge(facts(queue={"jobs": None, "seconds": None, "error": said}), config())

    problem = the_problem(found)
    assert problem.status == "error"
    assert problem.message == said
    assert "scontrol ping" in problem.advice


def test_commands_that_can_be_done_without() -> None:
    missing = {"path": None, "seconds": None, "error": "there is no sinfo on this machine"}

    problem = the_problem(judge(facts(commands__sinfo=missing, partitions=[]), config()))

    assert problem.status == "warning"
    assert "sinfo cannot be used, so partitions and limits were not checked" in problem.message


def test_a_slow_queue() -> None:
    problem = the_problem(judge(facts(queue__seconds=12.0), config()))

    assert (problem.status, "poll_interval" in problem.advice) == ("warning", True)


def test_a_controller_that_forgets_ends_before_they_are_seen() -> None:
    problem = the_problem(judge(facts(limits__MinJobAge="30 sec"), config()))

    assert (problem.check, problem.status) == ("accounting", "warning")
    assert "30 s (MinJobAge); between two polls are 10 s" in problem.message


def test_with_accounting_the_memory_of_the_controller_does_not_matter() -> None:
    assert problems(judge(facts(limits__MinJobAge="2 sec", commands__sacct__error=None), config())) == []


@pytest.mark.parametrize(
    ("jobs", "status", "said"),
    [
        ({"default_slurm_config": {"partition": "mian", "mem": 100}}, "error", "no partition 'mian'"),
        ({"default_slurm_config": {"partition": "main", "mem": "64G"}}, "error", "64000 MB, and .* 7900 MB"),
        (
            {"default_slurm_config": {"partition": "main", "mem": 100, "cpus_per_task": 8}},
            "error",
            "default_slurm_config: a unit asks for 8 cores, and the nodes of main have 4",
        ),
        (
            {"default_slurm_config": {"partition": "main", "mem": 100, "time": "3-00"}},
            "error",
            "asks for 259200 s, and jobs in main may take 172800 s",
        ),
        (
            {"default_slurm_config": {"mem": 100}, "gpu_slurm_config": {"gres": "gpu:1"}},
            "warning",
            "gpu_slurm_config: no node of main shows a GPU",
        ),
        (
            {"default_slurm_config": {"mem": 100}, "gpu_slurm_config": {"partition": "gpu"}},
            "warning",
            "gpu_slurm_config asks for no GPU",
        ),
        ({"default_slurm_config": {"partition": "main"}}, "warning", r"all of its node's \(DefMemPerNode\)"),
        (
            {"default_slurm_config": {"mem": 100}, "batching_config": {"max_num_jobs": 20000}},
            "warning",
            "allows 20000 jobs a step, the cluster 10000",
        ),
    ],
)
def test_a_configuration_that_the_cluster_cannot_serve(jobs: dict[str, Any], status: str, said: str) -> None:
    problem = the_problem(judge(FACTS, config(**jobs)))

    assert problem.status == status
    assert re.search(said, problem.message)


def test_partitions_that_are_good_for_each_set_are_no_problem() -> None:
    jobs = {
        "default_slurm_config": {"partition": "main,gpu", "mem": "16G", "cpus_per_task": 16, "time": "10-0"},
        "gpu_slurm_config": {"partition": "gpu", "gres": "gpu:2"},
    }
    # One of two partitions has no time limit, the same has the large nodes.
    assert problems(judge(FACTS, config(**jobs))) == []


def test_a_cluster_without_a_default_partition_needs_one_to_be_named() -> None:
    partitions = [{**item, "default": False} for item in FACTS["partitions"]]

    problem = the_problem(judge(facts(partitions=partitions), config(default_slurm_config={"mem": 100})))

    assert problem.message == "the cluster has no default partition, and default_slurm_config names none"
    assert problem.advice == "Set its partition to one of main, gpu"


def test_a_partition_that_is_down() -> None:
    down = {**FACTS["partitions"][0], "available": False}

    problem = the_problem(judge(facts(partitions=[down]), config()))

    assert (problem.status, "partition main is down" in problem.message) == ("error", True)


def test_a_work_folder_that_cannot_be_written() -> None:
    refused = {"writable": False, "error": "Permission denied (/shared/runs)", "free_mb": None}

    problem = the_problem(judge(facts(work_dir=refused), config()))

    assert problem.message == "fractal cannot write to /shared/runs: Permission denied (/shared/runs)"
    assert "install -d -o fractal /shared/runs" in problem.advice


def test_a_work_folder_that_is_nearly_full() -> None:
    problem = the_problem(judge(facts(work_dir__free_mb=200), config()))

    assert (problem.status, "airflow fractal clean" in problem.advice) == ("warning", True)


def test_round_trips() -> None:
    quick = judge_round_trips("fractal@login1:22", 0.412, [0.02, 0.03, 9.0])
    slow = judge_round_trips("fractal@login1:22", 5, [2, 2, 3])

    assert quick == Finding(
        "connection", "ok", "fractal@login1:22 answers in 0.03 s, the first time in 0.41 s"
    )
    assert (slow.status, ".bashrc" in slow.advice) == ("warning", True)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("Resources", "warning"),
        ("Priority", "warning"),
        ("None", "warning"),
        ("AssocGrpCpuLimit", "warning"),
        ("PartitionConfig", "error"),
        ("BadConstraints", "error"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "error"),
        ("JobHeldAdmin", "error"),
        ("PartitionDown", "error"),
        ("InvalidAccount", "error"),
    ],
)
def test_a_job_that_does_not_start(reason: str, status: str) -> None:
    finding = judge_pending("17", reason, 60)

    assert finding.status == status
    assert finding.message.startswith("job 17 ")
    assert finding.message.endswith("; it was cancelled after 60 s")
    assert finding.advice
