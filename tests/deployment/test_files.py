"""The files of docker/: complete, pinned, without a secret, and understood by the programs that read them."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deployment.compose import DOCKER, ENTRYPOINTS, PROJECT, Service, make_env, read_compose, services
from tests.services.airflow import make_home
from tests.services.requirements import need, program
from tests.services.task_environments import core_tasks

SCRIPTS = sorted(DOCKER.rglob("*.sh"))
DOCKERFILES = sorted(DOCKER.rglob("Dockerfile"))


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new .env."""
    return tmp_path_factory.mktemp("deployment") / ".env"


@pytest.fixture(scope="module")
def secrets(env_file: Path) -> dict[str, str]:
    """The secrets of the new .env."""
    return make_env(env_file)


@pytest.fixture(scope="module")
def deployed(env_file: Path, secrets: dict[str, str]) -> dict[str, Service]:
    """The services as docker-compose reads them."""
    return services(env_file)


class TestEnvFile:
    """What make_env.py writes."""

    def test_only_its_owner_can_read_it(self, env_file: Path, secrets: dict[str, str]) -> None:
        assert stat.S_IMODE(env_file.stat().st_mode) == 0o600

    def test_it_is_never_written_over(self, env_file: Path, secrets: dict[str, str]) -> None:
        before = env_file.read_text()

        again = subprocess.run(
            [sys.executable, DOCKER / "make_env.py", env_file], capture_output=True, text=True
        )

        assert again.returncode == 1
        assert "stays as it is" in again.stderr
        assert env_file.read_text() == before

    def test_all_secrets_differ_from_each_other_and_from_others(
        self, secrets: dict[str, str], tmp_path: Path
    ) -> None:
        others = make_env(tmp_path / ".env")

        assert len(set(secrets.values()) | set(others.values())) == 2 * len(secrets)

    def test_the_deployment_uses_each_of_them(self, secrets: dict[str, str]) -> None:
        text = (DOCKER / "compose.yaml").read_text()

        assert set(re.findall(r"\$\{(\w+)", text)) == set(secrets)

    def test_without_it_docker_compose_says_what_to_run(self, tmp_path: Path) -> None:
        (tmp_path / ".env").touch()

        read = read_compose(tmp_path / ".env")

        assert read.returncode != 0
        assert "run make_env.py" in read.stderr

    @pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="this is no checkout")
    def test_git_does_not_take_it(self) -> None:
        assert subprocess.run(["git", "check-ignore", "-q", "docker/.env"], cwd=PROJECT).returncode == 0


class TestCompose:
    """What docker-compose reads."""

    def test_images_are_pinned_to_a_whole_version(self, deployed: dict[str, Service]) -> None:
        for service in deployed.values():
            assert re.fullmatch(r"[a-z-]+:\d+\.\d+(\.\d+)?(-\w+)?", service.image), service

    def test_images_that_are_built_here_have_the_entry_point_that_the_tests_run(
        self, deployed: dict[str, Service]
    ) -> None:
        built = {service.image_name: service.settings for service in deployed.values()}
        for image, script in ENTRYPOINTS.items():
            build = built[image]["build"]
            dockerfile = Path(build["context"], build.get("dockerfile", "Dockerfile")).resolve()
            assert dockerfile == script.with_name("Dockerfile")
            text = dockerfile.read_text()
            assert f"{script.name} /usr/local/bin/{script.name}" in text
            assert f'ENTRYPOINT ["/usr/local/bin/{script.name}"]' in text

    def test_every_service_that_goes_on_has_a_health_check_and_is_started_again(
        self, deployed: dict[str, Service]
    ) -> None:
        for service in deployed.values():
            if service.name != "migrate":
                assert service.healthcheck, service.name
                assert service.settings["restart"] == "unless-stopped", service.name

    def test_no_secret_stands_on_a_command_line(
        self, deployed: dict[str, Service], secrets: dict[str, str]
    ) -> None:
        for service in deployed.values():
            words = [*service.entrypoint, *service.command, *service.healthcheck]
            assert not [word for word in words for secret in secrets.values() if secret in word], service.name

    def test_services_get_only_the_secrets_of_their_own_part(
        self, deployed: dict[str, Service], secrets: dict[str, str]
    ) -> None:
        def seen(name: str) -> set[str]:
            text = "\n".join(deployed[name].environment.values())
            return {key for key, secret in secrets.items() if secret in text}

        assert seen("redis") == {"REDIS_PASSWORD"}
        assert seen("postgres") == {"POSTGRES_PASSWORD", "AIRFLOW_DB_PASSWORD", "DATASETS_DB_PASSWORD"}
        assert seen("node1") == seen("node2") == seen("controller") == {"MUNGE_KEY"}
        assert seen("login") == {"MUNGE_KEY", "SSH_HOST_KEY", "SSH_USER_PUBLIC_KEY"}
        assert not seen("worker-1") & {"POSTGRES_PASSWORD", "MUNGE_KEY", "SSH_HOST_KEY", "ADMIN_PASSWORD"}

    def test_nothing_but_the_web_interface_is_open_and_only_to_this_machine(
        self, deployed: dict[str, Service]
    ) -> None:
        ports = {service.name: service.settings.get("ports", []) for service in deployed.values()}

        assert {name: open_ports for name, open_ports in ports.items() if open_ports} == {
            "api-server": ["127.0.0.1:8080:8080/tcp"]
        }


class TestImages:
    """What the images are made of."""

    def test_they_start_from_a_release_of_debian(self) -> None:
        bases = {re.search(r"^FROM (\S+)$", file.read_text(), re.MULTILINE)[1] for file in DOCKERFILES}  # type: ignore[index]

        assert bases == {"debian:12.8-slim"}

    def test_debian_packages_are_pinned(self) -> None:
        for file in DOCKERFILES:
            installed = re.search(r"apt-get install (.*?)&&", file.read_text(), re.DOTALL)
            assert installed is not None
            names = [word for word in installed[1].split() if not word.startswith("-") and word != "\\"]
            assert names
            assert all(re.fullmatch(r"'[a-z0-9-]+=[\d:.p]+-\*'", name) for name in names), names

    @pytest.mark.skipif(not shutil.which("apt-cache"), reason="this is no Debian")
    def test_debian_has_these_versions(self) -> None:
        for file in DOCKERFILES:
            for name, version in re.findall(r"'([a-z0-9-]+)=([\d:.p]+)-\*'", file.read_text()):
                known = subprocess.run(["apt-cache", "madison", name], capture_output=True, text=True).stdout
                if known:  # the lists of packages may not be here
                    assert f" {version}-" in known, name

    def test_python_packages_are_pinned_to_what_the_project_wants(self) -> None:
        lines = (DOCKER / "airflow" / "requirements.txt").read_text().splitlines()
        pins = [Requirement(line) for line in lines if not line.startswith("#")]
        versions = {canonicalize_name(pin.name): Version(str(pin.specifier)[2:]) for pin in pins}
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
        extras = project["project"]["optional-dependencies"]

        assert all(str(pin.specifier).startswith("==") for pin in pins)
        wanted = [*project["project"]["dependencies"], *extras["celery"], *extras["postgres"]]
        for requirement in map(Requirement, [*wanted, *project["build-system"]["requires"]]):
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement

    def test_they_get_what_the_build_needs_and_no_more(self) -> None:
        kept = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
        text = (DOCKER / "airflow" / "Dockerfile").read_text()
        copied = {
            word
            for line in re.findall(r"^COPY (?:--\S+ )?(.*) \S+$", text, re.MULTILINE)
            for word in line.split()
        }

        assert all(any(word == each or word.startswith(f"{each}/") for each in kept) for word in copied)
        assert all(any(word == each or word.startswith(f"{each}/") for word in copied) for each in kept)


class TestScripts:
    """The shell scripts and configuration inside the images."""

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
    def test_they_stop_at_an_error_and_at_a_missing_variable(self, script: Path) -> None:
        assert subprocess.run(["sh", "-n", script]).returncode == 0
        assert "\nset -eu\n" in script.read_text()
        assert script.stat().st_mode & stat.S_IXUSR

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
    def test_shellcheck_has_nothing_to_say(self, script: Path) -> None:
        need("shellcheck", install="shellcheck")

        checked = subprocess.run(["shellcheck", script], capture_output=True, text=True)

        assert checked.returncode == 0, checked.stdout

    def test_sshd_takes_its_configuration(self, tmp_path: Path) -> None:
        need("sshd", "ssh-keygen", install="openssh-server")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)

        checked = subprocess.run(
            [
                str(program("sshd")),
                "-t",
                "-f",
                DOCKER / "slurm/sshd_config",
                "-o",
                f"HostKey={tmp_path / 'key'}",
            ],
            capture_output=True,
            text=True,
        )

        assert (checked.returncode, checked.stderr) == (0, "")

    def test_an_unknown_role_is_refused(self, tmp_path: Path) -> None:
        script = DOCKER / "slurm" / "entrypoint.sh"

        refused = subprocess.run([script, "queen"], env={}, capture_output=True, text=True)

        assert refused.returncode == 2
        assert "controller, node NAME or login" in refused.stderr

    def test_a_task_package_is_asked_for_by_name_and_version(self) -> None:
        script = DOCKER / "slurm" / "install-task-package.sh"

        refused = subprocess.run([script, "fractal-tasks-core"], capture_output=True, text=True)

        assert refused.returncode == 2
        assert "usage: install-task-package NAME VERSION" in refused.stderr


def test_its_dag_can_be_imported_once_the_task_package_is_there(tmp_path: Path) -> None:
    (tmp_path / "no.db").touch()
    airflow = make_home(tmp_path / "home", tmp_path / "no.db")
    (tmp_path / "fractal-tasks-core-2.1.0").symlink_to(core_tasks().folder)
    shutil.copy(DOCKER / "dags" / "nuclei.json", airflow.dags)
    text = (DOCKER / "dags" / "nuclei.py").read_text(encoding="utf-8")
    airflow.write_dag("nuclei", text.replace("/shared/environments", str(tmp_path)))

    assert airflow.import_errors() == {}
