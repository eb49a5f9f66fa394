"""The tests' own cluster: what the other tests rely on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.services.daemons import processes, with_variable
from tests.services.login_node import LoginNode
from tests.services.requirements import need
from tests.services.slurm import SlurmCluster, running_slurm


def test_a_cluster_that_is_stopped_leaves_nothing() -> None:
    with running_slurm() as cluster:
        user = cluster.user.pw_name
        job = int(
            cluster.command("sbatch", "--parsable", user=user, stdin="#!/bin/sh\nsleep 600 & sleep 600")
        )
        cluster.wait("it runs", lambda: len(cluster.processes(job)) == 3)
        running = cluster.processes(job)

    assert not set(running) & set(processes())
    assert with_variable("SLURM_CONF", str(cluster.folder / "slurm.conf")) == []
    assert not cluster.folder.exists()


def test_sacct_knows_jobs_where_there_is_accounting() -> None:
    with running_slurm(accounting=True) as cluster:
        user = cluster.user.pw_name
        job = cluster.command("sbatch", "--parsable", user=user, stdin="#!/bin/sh\nexit 3").strip()

        def state() -> str:
            return cluster.command("sacct", "-nX", "-j", job, "-o", "state").strip()

        cluster.wait("sacct says how it ended", lambda: state() == "FAILED")


def test_the_login_node_is_a_submit_host(
    cluster: SlurmCluster, login_node: LoginNode, tmp_path: Path
) -> None:
    ssh = ["ssh", "-i", str(login_node.key_file), "-p", str(login_node.port)]
    ssh += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'hosts'}"]
    ssh += [f"{login_node.user.pw_name}@127.0.0.1"]
    submit = [*ssh, "sbatch --parsable --wrap 'exit 0'"]

    with login_node.held_sbatch("after") as reached:
        process = subprocess.Popen(submit, stdout=subprocess.PIPE, text=True)
        cluster.wait("sbatch has submitted", reached)
        assert process.poll() is None
    job = int(process.communicate()[0])

    assert job in cluster.submitted()
    login_node.stop()
    assert subprocess.run([*ssh, "true"], capture_output=True).returncode == 255
    login_node.start()
    assert subprocess.run([*ssh, "true"], capture_output=True).returncode == 0


def test_what_is_missing_skips_tests_and_fails_them_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"not installed: no-such-program \(apt-get install it\)"):
        need("sh", "no-such-program", install="it")

    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI has to have this: not installed: no-such-program"):
        need("no-such-program")
