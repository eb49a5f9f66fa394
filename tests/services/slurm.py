"""A real SLURM of our own on this machine: munge, a controller, compute nodes, and their job log."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.accounting import Accounting
from tests.services.daemons import (
    Daemon,
    command_line,
    descendants,
    kill_all,
    with_variable,
)
from tests.services.ports import free_ports
from tests.services.requirements import need, program
from tests.services.users import temporary_user

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
PACKAGES = "munge slurmctld slurmd slurm-client"
LIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "STOPPED", "RESIZING")

_MARK = "FRACTAL_TESTS_CLUSTER"
_COMMAND_TIMEOUT_S = 60
_LOGGED = re.compile(
    r"^JobId=(\d+) .*? Name=(.*) JobState=(\w+) Partition=.* WorkDir=(.*) ReservationName=", re.MULTILINE
)
_NODES = ("n1", "n2", "n3")

_CONF = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire={requeue_delay_s}
MpiDefault=none
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.log
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge={min_job_age_s}
MessageTimeout={message_timeout_s}
KillWait={kill_wait_s}
SlurmdTimeout={slurmd_timeout_s}
SlurmdParameters=config_overrides
GresTypes=gpu
{more}
{nodes}
PartitionName=main Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n3 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=n[1-3] MaxTime=INFINITE State=UP PriorityTier=10
"""
_NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 {gres}"


@dataclass(frozen=True)
class Job:
    """A job, as the queue or the job-completion log shows it."""

    id: int
    name: str
    state: str
    folder: str
    reason: str = ""
    nodes: str = ""

    @property
    def is_live(self) -> bool:
        return self.state in LIVE


@dataclass(frozen=True)
class SlurmTimes:
    """How fast a cluster notices things; :meth:`SlurmCluster.reconfigure` changes them while it runs."""

    min_job_age_s: int = 300  # how long `squeue` knows a job that has ended
    message_timeout_s: int = 5
    kill_wait_s: int = 2
    slurmd_timeout_s: int = 6
    requeue_delay_s: int = 5


class SlurmCluster:
    """
    A running cluster of three nodes with two CPUs and 4000 MB each, the third one with two GPUs of paper.

    What a program needs to be a submit host of it is in ``environment``.
    """

    def __init__(
        self,
        folder: Path,
        user: pwd.struct_passwd,
        *,
        times: SlurmTimes | None = None,
        accounting: bool = False,
    ) -> None:
        """
        :param user: the ordinary user who submits jobs.
        :param accounting: whether there is a slurmdbd, so that ``sacct`` knows jobs.
        """
        self.folder = folder
        self.times = times or SlurmTimes()
        self.user = user
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.accounting = Accounting(folder) if accounting else None
        self._controller_port, *node_ports = free_ports(1 + len(_NODES))
        self._node_ports = dict(zip(_NODES, node_ports, strict=True))
        environment = {**_plain_environment(), **self.environment, _MARK: str(folder)}
        self.munge = Daemon(self._munge_command(), log=folder / "munge" / "out.log", user="munge")
        self.controller = Daemon(
            [_path("slurmctld"), "-D"], log=folder / "slurmctld.out", environment=environment
        )
        self.nodes = {
            name: Daemon(
                [_path("slurmd"), "-D", "-N", name],
                log=folder / f"slurmd-{name}.out",
                environment={**environment, _MARK: f"{folder}/{name}"},
            )
            for name in _NODES
        }

    @property
    def shared(self) -> Path:
        """A folder of the ordinary user's, for all that jobs read and write."""
        return self.folder / "shared"

    @property
    def job_log(self) -> str:
        """What SLURM's job-completion log says."""
        path = self.folder / "jobcomp.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    # Starting and stopping

    def start(self) -> None:
        """Start all of it, and wait until every node takes jobs."""
        for name in ("state", *(f"spool-{node}" for node in _NODES)):
            (self.folder / name).mkdir()
        self.shared.mkdir()
        os.chown(self.shared, self.user.pw_uid, self.user.pw_gid)
        for device in ("gpu0", "gpu1"):  # another /dev/null each: SLURM takes nothing but devices
            os.mknod(self.folder / device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        self._write_conf()
        self._start_munge()
        if self.accounting is not None:
            self.accounting.start()
            for user in ("root", self.user.pw_name):
                self.accounting.add_user(user)
        self.start_controller()
        for node in self.nodes.values():
            node.start()
        self.wait("all nodes take jobs", lambda: self._node_states() == {"idle"})

    def stop(self) -> None:
        """Stop all of it; no process of it, and none of its jobs, is left."""
        for daemon in (*self.nodes.values(), self.controller, self.munge):
            if daemon.is_running():
                daemon.thaw()
        self.controller.kill()
        for name in self.nodes:
            self.kill_node(name)
        if self.accounting is not None:
            self.accounting.stop()
        self.munge.stop()
        kill_all(with_variable(_MARK, str(self.folder)))

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it answers."""
        self.controller.start()
        self.controller.wait_until(self.answers)

    def stop_controller(self) -> None:
        """Stop slurmctld, which saves its state; commands are then refused a connection."""
        self.controller.stop(grace_s=10)

    def kill_controller(self) -> None:
        """Kill slurmctld, which saves nothing any more."""
        self.controller.kill()

    @contextmanager
    def frozen_controller(self) -> Iterator[None]:
        """While the block runs, commands wait for slurmctld and end with `Socket timed out`."""
        self.controller.freeze()
        try:
            yield
        finally:
            self.controller.thaw()

    def kill_node(self, name: str) -> None:
        """Let a compute node die with all that runs on it."""
        stepds = with_variable(_MARK, f"{self.folder}/{name}")
        self.nodes[name].kill()
        kill_all([*descendants(*stepds), *stepds])

    def start_node(self, name: str, *, wait: bool = True) -> None:
        """Let a node come up again."""
        self.nodes[name].start()
        if wait:
            self.wait(f"{name} takes jobs", lambda: self._node_states(name) <= {"idle", "mixed", "allocated"})

    def mend(self) -> None:
        """Start again whatever does not run."""
        self.controller.thaw()
        if not self.controller.is_running():
            self.start_controller()
        for name, node in self.nodes.items():
            if not node.is_running():
                self.start_node(name)

    def reconfigure(self, times: SlurmTimes) -> None:
        """Change how fast the cluster notices things."""
        self.times = times
        self._write_conf()
        self.command("scontrol", "reconfigure")

    # Asking and telling

    def command(self, *argv: str, user: str | None = None, check: bool = True, stdin: str = "") -> str:
        """
        Run a command of SLURM's as root, or as another user; return what it prints.

        :raises AssertionError: where it fails.
        """
        done = subprocess.run(
            argv,
            env={**_plain_environment(), **self.environment},
            cwd=self.shared,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def answers(self) -> bool:
        """Whether slurmctld answers."""
        try:
            return "UP" in self.command("scontrol", "ping", check=False)
        except subprocess.TimeoutExpired:
            return False

    def queue(self, part: str = "") -> list[Job]:
        """
        Return the jobs that ``squeue`` knows, those that have ended included.

        :param part: only jobs that have this in their name or folder, for example ``/DAG_ID/``.
        """
        text = self.command("squeue", "-h", "-t", "all", "-o", "%A|%T|%r|%N|%j|%Z")
        fields = [line.split("|", 5) for line in text.splitlines()]
        jobs = [
            Job(int(number), name, state, folder, reason, nodes)
            for number, state, reason, nodes, name, folder in fields
        ]
        return [job for job in jobs if part in f"{job.folder}/ {job.name}"]

    def live(self, part: str = "") -> list[Job]:
        """Return the jobs that wait, run, or end just now."""
        return [job for job in self.queue(part) if job.is_live]

    def ended(self, part: str = "") -> list[Job]:
        """Return what the job-completion log says, one entry a job and end: a requeue ends a job, too."""
        jobs = [Job(int(number), *rest) for number, *rest in _LOGGED.findall(self.job_log)]
        return [job for job in jobs if part in f"{job.folder}/ {job.name}"]

    def submitted(self, part: str = "") -> dict[int, str]:
        """Return the folder of every job that was ever accepted, from the job log and the queue."""
        return {job.id: job.folder for job in [*self.ended(part), *self.queue(part)]}

    def cancel(self, *job_ids: int) -> None:
        """Cancel jobs by hand."""
        self.command("scancel", *map(str, job_ids))

    def cancel_all(self) -> None:
        """Cancel every job, and wait until none is left."""
        self.command("scancel", *(str(job.id) for job in self.live()), check=False)
        self.wait("no job is left", lambda: not self.live())

    def update(self, *words: str) -> None:
        """Run ``scontrol update``, for example with ``jobid=1``, ``timelimit=1``."""
        self.command("scontrol", "update", *words)

    def processes(self, job_id: int | None = None) -> list[int]:
        """Return the processes of jobs, without SLURM's own."""
        stepds = [pid for name in _NODES for pid in with_variable(_MARK, f"{self.folder}/{name}")]
        title = "slurmstepd: [" if job_id is None else f"slurmstepd: [{job_id}."
        return descendants(*(pid for pid in stepds if command_line(pid).startswith(title)))

    def logs(self) -> str:
        """Return the ends of all logs."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def _node_states(self, name: str = "") -> set[str]:
        chosen = ("-n", name) if name else ()
        text = self.command("sinfo", "-h", "-p", "main", "-N", *chosen, "-o", "%T", check=False)
        return {line.strip() for line in text.splitlines()}

    def wait(self, what: str, condition: Callable[[], object], timeout_s: float = 60) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"In {timeout_s:.0f} s it did not come to this: {what}\n{self.logs()}")
            time.sleep(0.1)

    # Configuration

    def _write_conf(self) -> None:
        (self.folder / "gres.conf").write_text(f"NodeName=n3 Name=gpu File={self.folder}/gpu[0-1]\n")
        nodes = [
            _NODE.format(name=name, port=port, gres="Gres=gpu:2" if name == "n3" else "")
            for name, port in self._node_ports.items()
        ]
        text = _CONF.format(
            folder=self.folder,
            controller_port=self._controller_port,
            nodes="\n".join(nodes),
            more=self.accounting.slurm_conf if self.accounting else "",
            **vars(self.times),
        )
        (self.folder / "slurm.conf").write_text(text)

    def _munge_command(self) -> list[str]:
        folder = self.folder / "munge"
        files = [f"--{name}-file={folder / name}" for name in ("key", "log", "pid", "seed")]
        return [_path("munged"), "--foreground", f"--socket={folder / 'socket'}", *files]

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        (folder / "key").touch(mode=0o600)
        (folder / "key").write_bytes(secrets.token_bytes(128))
        munge = pwd.getpwnam("munge")
        for path in (folder, folder / "key"):
            os.chown(path, munge.pw_uid, munge.pw_gid)
        self.munge.start()
        self.munge.wait_until((folder / "socket").exists)


@contextmanager
def running_slurm(*, times: SlurmTimes | None = None, accounting: bool = False) -> Iterator[SlurmCluster]:
    """
    Run a cluster until the block ends; nothing of it is left then.

    Tests are skipped where it cannot run, see :func:`tests.services.requirements.need`.

    :param accounting: whether there is a slurmdbd with its database, so that ``sacct`` knows jobs.
    """
    need(*PROGRAMS, root=True, install=PACKAGES)
    # Not pytest's folders: those are closed to all but one user, and too deep for the name of a socket.
    folder = Path(tempfile.mkdtemp(prefix="fractal-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with temporary_user(folder / "home") as user:
            cluster = SlurmCluster(folder, user, times=times, accounting=accounting)
            try:
                cluster.start()
                yield cluster
            finally:
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _path(name: str) -> str:
    return program(name) or name


def _plain_environment() -> dict[str, str]:
    """An administrator's environment: nothing of Airflow, of Python, or of another cluster is in it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    return {**kept, "PATH": f"{kept.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
