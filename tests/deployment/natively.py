"""The services of docker/compose.yaml as processes of this machine: same commands, settings and health checks.

Only what containers would give them is put in their place: names of hosts, ports and paths.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fractal_airflow.dataset import DatasetStore
from tests.deployment.compose import DOCKER, ENTRYPOINTS, Service, make_env, services
from tests.services.airflow import FAKE_TASKS, AirflowHome
from tests.services.daemons import Daemon, kill_all, with_variable
from tests.services.ports import free_ports
from tests.services.postgres import PostgresServer, running_postgres
from tests.services.requirements import need
from tests.services.scheduler import RunningAirflow
from tests.services.users import open_to, temporary_user

PROGRAMS = (
    "docker-compose",
    "redis-server",
    "munged",
    "slurmctld",
    "slurmd",
    "sbatch",
    "sshd",
    "psql",
    "pg_isready",
)
PACKAGES = "docker-compose redis-server munge slurmctld slurmd slurm-client openssh-server postgresql"
START_TIMEOUT_S = 180
COMMAND_TIMEOUT_S = 120

_MARK = "FRACTAL_TESTS_DEPLOYMENT"
_PORTS = {"postgres": 5432, "redis": 6379, "api-server": 8080, "login": 22}
_CONTAINER_PATHS = ("/opt/airflow", "/home/fractal", "/etc/ssh/cluster", "/etc/slurm", "/run/munge", "/data")
_SLURM_PATHS = ("/run/", "/var/spool/", "/var/log/slurm")
_GRACE_S = 10


@dataclass(frozen=True)
class DeployedHome(AirflowHome):
    """What tests put into the deployment: DAG files, and datasets in its PostgreSQL."""

    store_url: str = ""

    @property
    def store(self) -> DatasetStore:
        return DatasetStore(self.store_url)


class NativeDeployment:
    """The deployment's services, each in a folder of its own that stands for its container."""

    def __init__(self, folder: Path, user: pwd.struct_passwd, postgres: PostgresServer) -> None:
        """
        :param folder: one that any user can enter.
        :param user: the one who submits jobs.
        """
        self.folder = folder
        self.user = user
        env_file = folder / "env"
        self.secrets = make_env(env_file)
        self.services = services(env_file)
        node_names = [name for name in self.services if name.startswith("node")]
        ports = free_ports(len(_PORTS) + len(node_names) + 4)
        self.ports = dict(zip([*_PORTS, "controller", *node_names], ports, strict=False)) | {
            "postgres": postgres.port
        }
        self._log_ports = iter(ports[-3:])
        self.postgres = postgres
        self.daemons: dict[str, Daemon] = {}
        self.airflow_home = folder / "airflow"
        self.home = DeployedHome(
            self.airflow_home,
            {"AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{self.ports['api-server']}"},
            data_name=str(self.shared / "data"),
            package=self.shared / "fake_tasks",
            python="/usr/bin/python3",  # one that the cluster's user may run, too
            store_url=self._natively("api-server", self._dataset_url()).replace(
                "postgresql:", "postgresql+psycopg:"
            ),
        )
        self.airflow = RunningAirflow(self.home, components=self.daemons)
        open_to(self.shared, self.user)
        open_to(self.home.data, self.user)
        shutil.copytree(FAKE_TASKS, self.home.package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dags", "logs"):
            (self.airflow_home / name).mkdir(parents=True)

    @property
    def shared(self) -> Path:
        """The volume that the whole cluster and Airflow see."""
        return self.folder / "volumes" / "shared"

    def _dataset_url(self) -> str:
        return self.services["api-server"].environment["AIRFLOW_CONN_FRACTAL_DATASETS"]

    def job_states(self) -> list[str]:
        """Return how jobs ended, as the cluster's own log of them says."""
        log = self.folder / "controller/var/log/slurm/jobcomp.log"
        return re.findall(r"JobState=(\w+)", log.read_text(encoding="utf-8")) if log.exists() else []

    # Starting and stopping

    def start(self) -> None:
        """Start every service as its dependencies allow, as docker-compose does."""
        self._make_databases()
        waiting = {name: service for name, service in self.services.items() if name != "postgres"}
        done = {"postgres"}
        while waiting:
            ready = [name for name, service in waiting.items() if set(service.depends_on) <= done]
            assert ready, f"The dependencies of {', '.join(waiting)} never come up"
            for name in ready:
                self._start(waiting.pop(name))
            for name in ready:
                self._wait_for(name)
                done.add(name)
        self.airflow.wait("the API server takes the administrator's password", self._log_in)

    def stop(self) -> None:
        """Stop all services; nothing that they started is left."""
        running = [daemon.process for daemon in self.daemons.values() if daemon.is_running()]
        for process in running:
            assert process is not None
            process.terminate()
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and any(process and process.poll() is None for process in running):
            time.sleep(0.1)
        for daemon in self.daemons.values():
            daemon.kill()
        kill_all(with_variable(_MARK, str(self.folder)))

    def health(self, name: str) -> str:
        """Run a service's own health check; return what it says where the service is not healthy."""
        kind, *words = [self._natively(name, word) for word in self.services[name].healthcheck]
        try:
            done = self.execute(name, *(["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words))
        except subprocess.TimeoutExpired as error:
            return str(error)
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout}{done.stderr}"

    def execute(self, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command as `docker compose exec` does: beside a service, with its environment."""
        return subprocess.run(
            argv,
            env=self._environment(self.services[name]),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )

    def _start(self, service: Service) -> None:
        name = service.name
        self._make_container(service)
        entrypoint = service.entrypoint or [str(ENTRYPOINTS[service.image_name])]
        argv = [self._natively(name, word) for word in [*entrypoint, *service.command]]
        daemon = Daemon(
            [*argv, *self._more_options(name)],
            log=self.home.home / f"{name}.log",
            environment=self._environment(service),
        )
        self.daemons[name] = daemon
        daemon.start()

    def _wait_for(self, name: str) -> None:
        """Wait for what others wait for; the others come up meanwhile."""
        conditions = {service.depends_on.get(name) for service in self.services.values()}
        if "service_completed_successfully" in conditions:
            process = self.daemons[name].process
            assert process is not None
            assert process.wait(START_TIMEOUT_S) == 0, self.daemons[name].log_tail()
        elif "service_healthy" in conditions:
            deadline = time.monotonic() + START_TIMEOUT_S
            while problem := self.health(name):
                if not self.daemons[name].is_running() or time.monotonic() > deadline:
                    raise AssertionError(
                        f"{name} does not come up: {problem}\n{self.daemons[name].log_tail()}"
                    )
                time.sleep(0.2)

    def _log_in(self) -> bool:
        body = {"username": "admin", "password": self.secrets["ADMIN_PASSWORD"]}
        self.airflow.token = self.airflow.call("POST", "/auth/token", body)["access_token"]
        return True

    def _make_databases(self) -> None:
        """Do what PostgreSQL's image does with the scripts of its folder."""
        service = self.services["postgres"]
        scripts = [source for target, source in service.volumes.items() if "initdb.d" in target]
        server = self.postgres
        for script in scripts:
            subprocess.run(
                ["psql", "--set=ON_ERROR_STOP=1", "--no-psqlrc", f"--file={script}", server.url("postgres")],
                env={**_plain_environment(), **service.environment},
                check=True,
                stdout=subprocess.DEVNULL,
            )

    # What stands for a container

    def _make_container(self, service: Service) -> None:
        """Make the folders that the image and its volumes have."""
        root = self.folder / service.name
        for path in ("opt/airflow", "home/fractal", "data"):
            (root / path).mkdir(parents=True)
        for source in service.volumes.values():
            if not source.startswith("/"):
                (self.folder / "volumes" / source).mkdir(parents=True, exist_ok=True)
        if service.image_name == "fractal-slurm":
            self._make_machine(service)

    def _make_machine(self, service: Service) -> None:
        root = self.folder / service.name
        slurm = pwd.getpwnam("slurm")
        for path in ("run", "var/spool/slurmd", "etc/slurm", "etc/ssh/cluster"):
            (root / path).mkdir(parents=True)
        open_to(root / "var/log/slurm", slurm)
        open_to(self.folder / "volumes" / "slurm-state", slurm)
        shutil.copy(DOCKER / "slurm/sshd_config", root / "etc/ssh/cluster")
        text = (DOCKER / "slurm/slurm.conf").read_text(encoding="utf-8")
        (root / "etc/slurm/slurm.conf").write_text(self._slurm_conf(service.name, text), encoding="utf-8")

    def _slurm_conf(self, name: str, text: str) -> str:
        """Let all machines be this one, each with a port of its own."""
        for path in _SLURM_PATHS:
            text = re.sub(rf"=(?={path})", f"={self.folder / name}", text)
        state = self.folder / "volumes" / "slurm-state"
        text = re.sub(r"StateSaveLocation=\S+", f"StateSaveLocation={state}", text)
        port = self.ports["controller"]
        text = re.sub(
            r"SlurmctldHost=\S+",
            f"SlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort={port}\nDebugFlags=NO_CONF_HASH",
            text,
        )
        return re.sub(
            r"^NodeName=(\S+)",
            lambda match: f"{match[0]} NodeHostname=localhost NodeAddr=127.0.0.1 Port={self.ports[match[1]]}",
            text,
            flags=re.MULTILINE,
        )

    def _more_options(self, name: str) -> list[str]:
        """Return what sshd has to know of this machine."""
        if name != "login":
            return []
        conf = self.folder / name / "etc/slurm/slurm.conf"
        options = [
            "ListenAddress=127.0.0.1",
            f"AllowUsers={self.user.pw_name}",
            f"SetEnv=SLURM_CONF={conf}",
            "StrictModes=no",  # anybody may write to /tmp
            "PidFile=none",
        ]
        return [word for option in options for word in ("-o", option)]

    def _environment(self, service: Service) -> dict[str, str]:
        settings = {key: self._natively(service.name, text) for key, text in service.environment.items()}
        if "AIRFLOW_CONN_HPC_SSH" in settings:
            settings["AIRFLOW_CONN_HPC_SSH"] = self._ssh_connection(settings["AIRFLOW_CONN_HPC_SSH"])
            settings["SSH_KNOWN_HOSTS"] = settings["SSH_KNOWN_HOSTS"].replace(
                "login ", f"[127.0.0.1]:{self.ports['login']} ", 1
            )
        for key, text in settings.items():
            left = re.search(rf"\b({'|'.join(self.services)}):\d", text) or re.search(
                r"(^|[^\w/.-])/(opt|shared|home)/", text
            )
            assert not left, f"{key} of {service.name} still names something of a container: {text}"
        root = self.folder / service.name
        return {**_plain_environment(), "HOME": str(root / "home/fractal"), **settings, **self._mine(service)}

    def _mine(self, service: Service) -> dict[str, str]:
        """Return what only services need that share one machine."""
        mine = {_MARK: str(self.folder)}
        if service.name.startswith("worker"):
            mine["AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"] = self._log_port(service.name)
        if service.name == "triggerer":
            mine["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] = self._log_port(service.name)
        if service.image_name == "fractal-airflow":
            mine["AIRFLOW__API__BASE_URL"] = f"http://127.0.0.1:{self.ports['api-server']}"
        return mine

    def _log_port(self, name: str) -> str:
        if name not in self.ports:
            self.ports[name] = next(self._log_ports)
        return str(self.ports[name])

    def _ssh_connection(self, text: str) -> str:
        connection = json.loads(text)
        assert (connection["host"], connection["port"], connection["login"]) == ("login", 22, "fractal")
        return json.dumps(
            {**connection, "host": "127.0.0.1", "port": self.ports["login"], "login": self.user.pw_name}
        )

    def _natively(self, name: str, text: str) -> str:
        """Put this machine's hosts, ports and paths in the place of the containers'."""
        for host, port in _PORTS.items():
            text = text.replace(f"{host}:{port}", f"127.0.0.1:{self.ports[host]}")
        text = text.replace("0.0.0.0", "127.0.0.1")
        own = _PORTS.get(name)
        if own is not None:
            text = re.sub(rf"(^|--port |-p |127\.0\.0\.1:){own}(?!\w)", rf"\g<1>{self.ports[name]}", text)
        for path, place in self._places(name):
            text = re.sub(rf"(?<![\w/.-]){re.escape(path)}(?=$|[/\"'\s,])", str(place), text)
        return text

    def _places(self, name: str) -> list[tuple[str, Path]]:
        """Return where each path of a container is, the longest first."""
        places = {path: self.folder / name / path.lstrip("/") for path in _CONTAINER_PATHS}
        for target, source in self.services[name].volumes.items():
            places[target] = Path(source) if source.startswith("/") else self.folder / "volumes" / source
        places["/opt/airflow/dags"] = self.airflow_home / "dags"
        places["/opt/airflow/logs"] = self.airflow_home / "logs"
        return sorted(places.items(), key=lambda item: -len(item[0]))


@contextmanager
def running_deployment(write_dags: Callable[[DeployedHome], None]) -> Iterator[NativeDeployment]:
    """
    Run all services of docker/compose.yaml until the block ends.

    :param write_dags: writes the DAG files that are there from the beginning.
    """
    need(*PROGRAMS, root=True, install=PACKAGES)
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        folder = Path(tempfile.mkdtemp(prefix="fractal-deployment-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        user = stack.enter_context(temporary_user(folder / "home"))
        deployment = NativeDeployment(folder, user, postgres)
        write_dags(deployment.home)
        stack.callback(deployment.stop)
        deployment.start()
        yield deployment


def _plain_environment() -> dict[str, str]:
    """The environment of a new container, with this project's Python."""
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    return {"PATH": os.pathsep.join(path), "LANG": "C.UTF-8"}
