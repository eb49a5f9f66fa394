"""The deployment as ``docker-compose config`` reads it: every variable filled in, every anchor followed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.services.requirements import need

PROJECT = Path(__file__).resolve().parents[2]
DOCKER = PROJECT / "docker"
# The images' entry points, by the folder of their Dockerfile.
ENTRYPOINTS = {
    "fractal-airflow": DOCKER / "airflow/entrypoint.sh",
    "fractal-slurm": DOCKER / "slurm/entrypoint.sh",
}


@dataclass(frozen=True)
class Service:
    """A service: what it runs, and what it sees."""

    name: str
    image: str
    entrypoint: list[str]
    command: list[str]
    environment: dict[str, str]
    healthcheck: list[str]
    volumes: dict[str, str]
    depends_on: dict[str, str]
    settings: dict[str, Any] = field(repr=False)

    @property
    def image_name(self) -> str:
        return self.image.partition(":")[0]


def make_env(path: Path) -> dict[str, str]:
    """Make new secrets in a file, as an administrator does; return them."""
    subprocess.run([sys.executable, DOCKER / "make_env.py", path], check=True, stdout=subprocess.DEVNULL)
    return dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())


def read_compose(env_file: Path) -> subprocess.CompletedProcess[str]:
    """Let docker-compose read the deployment."""
    need("docker-compose", install="docker-compose")
    command = [
        "docker-compose",
        "--file",
        str(DOCKER / "compose.yaml"),
        "--env-file",
        str(env_file),
        "config",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def services(env_file: Path) -> dict[str, Service]:
    """
    Return the services of the deployment.

    :raises AssertionError: where docker-compose finds something wrong.
    """
    read = read_compose(env_file)
    assert read.returncode == 0, read.stderr
    config = _plain(yaml.safe_load(read.stdout))
    return {name: _service(name, settings) for name, settings in config["services"].items()}


def _service(name: str, settings: dict[str, Any]) -> Service:
    depends_on = settings.get("depends_on", {})
    return Service(
        name=name,
        image=settings["image"],
        entrypoint=settings.get("entrypoint", []),
        command=settings.get("command", []),
        environment={key: str(value) for key, value in settings.get("environment", {}).items()},
        healthcheck=settings.get("healthcheck", {}).get("test", []),
        volumes=dict(_volume(each) for each in settings.get("volumes", [])),
        depends_on={other: how["condition"] for other, how in depends_on.items()},
        settings=settings,
    )


def _volume(text: str) -> tuple[str, str]:
    """Return where a volume is seen, and what it is: a name, or a path of the host."""
    source, target, *_ = text.split(":")
    return target, source


def _plain(value: Any) -> Any:
    """Undo the escaping of dollar signs in what docker-compose prints."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.replace("$$", "$") if isinstance(value, str) else value
