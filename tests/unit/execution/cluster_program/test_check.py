"""Checking a cluster."""

from __future__ import annotations

import os

from fractal_airflow.execution.runner.cluster.check import parse_limits, parse_partitions
from tests.unit.execution.cluster_program.calls import Program
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm

SINFO = """\
main*|up|infinite|3|2|4000|(null)
gpu|down|1-00:00:00|2|16+|64000+|gpu:a100:4
"""
CONFIG = """\
Configuration data as of 2026-11-21T11:54:06
ClusterName             = test
MaxJobCount             = 10000
SlurmdPort              = 6818
SelectTypeParameters    = CR_CORE_MEMORY
"""


def test_everything_is_tried(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("squeue", out="slurm-wlm 22.05.8\n", times=1)
    slurm.say("sinfo", out=SINFO)
    slurm.say("scontrol", out=CONFIG)
    slurm.say("sacct", code=1, err="Slurm accounting storage is disabled\n")
    reply = program.ask("check", work_dir=str(program.work_dir))
    assert reply["slurm"] == "22.05.8"
    assert reply["commands"]["sbatch"]["path"] == str(slurm.bin / "sbatch")
    assert reply["commands"]["sacct"]["error"] == "sacct says: Slurm accounting storage is disabled"
    assert reply["queue"]["jobs"] == 0
    assert reply["limits"]["MaxJobCount"] == "10000"
    assert [partition["name"] for partition in reply["partitions"]] == ["main", "gpu"]
    assert reply["work_dir"]["writable"]


def test_what_fails_stops_nothing_else(program: Program, slurm: FakeSlurm) -> None:
    program.work_dir.touch()
    slurm.remove_command("sbatch")
    slurm.say("squeue", code=1, err="slurm_load_jobs error: Unable to contact slurm controller\n")
    reply = program.ask("check", work_dir=str(program.work_dir))
    assert "there is no sbatch" in reply["commands"]["sbatch"]["error"]
    assert "Unable to contact" in reply["queue"]["error"]
    assert not reply["work_dir"]["writable"]


def test_what_failed_checks_have_left_goes_after_an_hour(program: Program, slurm: FakeSlurm) -> None:
    old, young = (program.work_dir / ".fractal" / "check" / name for name in ("old", "young"))
    for folder in (old, young):
        (folder / "job" / "1").mkdir(parents=True)
    os.utime(old, (0, 0))
    program.ask("check", work_dir=str(program.work_dir))
    assert (old.exists(), young.exists()) == (False, True)


def test_partitions_are_read() -> None:
    main, gpu = parse_partitions(SINFO)
    assert (main["default"], main["time_limit"], main["mem_mb"], main["gres"]) == (True, None, 4000.0, "")
    assert (gpu["available"], gpu["cpus"], gpu["time_limit"], gpu["gres"]) == (False, 16, 86400, "gpu:a100:4")


def test_limits_are_read() -> None:
    limits = {"ClusterName": "test", "MaxJobCount": "10000", "SelectTypeParameters": "CR_CORE_MEMORY"}
    assert parse_limits(CONFIG) == limits
