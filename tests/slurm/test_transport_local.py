"""Commands on a submit host that is the Airflow worker itself: as its user, or another through sudo."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fractal_airflow.exceptions import ClusterUnreachableError, ResourceError
from fractal_airflow.execution.slurm.local_transport import AsyncLocalTransport, LocalTransport
from fractal_airflow.execution.slurm.transport import Completed
from tests.services.disks import run_on_tiny_disk
from tests.services.requirements import need
from tests.services.users import processes_of, temporary_user


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    """Where the home folders are."""
    need("sudo", "useradd", root=True, install="sudo")
    with tempfile.TemporaryDirectory(prefix="fractal-homes-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def worker(homes: Path) -> Iterator[pwd.struct_passwd]:
    """The user that an Airflow worker runs as."""
    with temporary_user(homes / "worker") as user:
        yield user


@pytest.fixture(scope="module")
def scientist(homes: Path) -> Iterator[pwd.struct_passwd]:
    """The user as whom jobs are submitted."""
    with temporary_user(homes / "scientist") as user:
        yield user


@pytest.fixture
def rule(worker: pwd.struct_passwd, scientist: pwd.struct_passwd) -> Iterator[None]:
    """Lets the worker do what the scientist may."""
    path = Path("/etc/sudoers.d", f"fractal-tests-{os.getpid()}")
    path.write_text(f"{worker.pw_name} ALL=({scientist.pw_name}) NOPASSWD: ALL\n")
    path.chmod(0o440)
    try:
        yield
    finally:
        path.unlink()


def as_user(user: pwd.struct_passwd, story: Callable[[], str]) -> str:
    """Tell a story in a process of another user; return what it says, errors by their name."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            try:
                said = story()
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writable, said.encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as end:
        said = end.read()
    os.waitpid(child, 0)
    return said


def both(user: str, story: Callable[[Callable[..., Completed]], str]) -> list[str]:
    """Tell a story of a transport through sudo, waiting and asynchronous."""

    def asynchronous(*args: object, **options: object) -> Completed:
        async def run() -> Completed:
            transport = AsyncLocalTransport(run_as_user=user)
            try:
                return await transport.run(*args, **options)  # type: ignore[arg-type]
            finally:
                await transport.close()

        return asyncio.run(run())

    return [story(LocalTransport(run_as_user=user).run), story(asynchronous)]


def test_sudo_runs_commands_as_another_user(
    worker: pwd.struct_passwd, scientist: pwd.struct_passwd, rule: None
) -> None:
    odd = ["it's", "$(id)", "new\nline", "", "-n", "A=b"]

    def story(run: Callable[..., Completed]) -> str:
        assert run(["id", "-un"]).stdout.decode().strip() == scientist.pw_name
        assert run(["printenv", "HOME"]).stdout.decode().strip() == scientist.pw_dir
        assert run(["printf", "%s|", *odd]).stdout.decode() == "|".join(odd) + "|"
        assert run(["cat"], stdin=bytes(1_000_000)).stdout == bytes(1_000_000)
        done = run(["sh", "-c", "echo sudo: no >&2; exit 1"])
        assert (done.code, done.stderr) == (1, b"sudo: no\n")
        return "told"

    assert as_user(worker, lambda: " ".join(both(scientist.pw_name, story))) == "told told"


def test_files_belong_to_the_other_user(
    worker: pwd.struct_passwd, scientist: pwd.struct_passwd, rule: None
) -> None:
    path = Path(scientist.pw_dir, "runs", "file")

    def story() -> str:
        transport = LocalTransport(run_as_user=scientist.pw_name)
        transport.put(str(path), b"content")
        return transport.get(str(path)).decode()

    assert as_user(worker, story) == "content"
    assert path.stat().st_uid == scientist.pw_uid


def test_a_user_whom_sudo_does_not_let(worker: pwd.struct_passwd, scientist: pwd.struct_passwd) -> None:
    def story() -> str:
        return LocalTransport(run_as_user=scientist.pw_name).run(["true"]).complaint

    said = as_user(worker, story)
    assert said.startswith(
        f"ResourceError: {worker.pw_name} cannot run commands as the user '{scientist.pw_name}' on this machine: "
        "sudo: "
    )
    assert f"{worker.pw_name} ALL=({scientist.pw_name}) NOPASSWD: ALL" in said


def test_a_user_who_does_not_exist() -> None:
    need("sudo", root=True, install="sudo")
    with pytest.raises(ResourceError, match="unknown user nobody-here"):
        LocalTransport(run_as_user="nobody-here").run(["true"])


def test_without_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ResourceError, match=r"sudo: No such file or directory\. Install sudo"):
        LocalTransport(run_as_user="root").run(["true"])


def test_a_late_command_of_another_user_is_not_waited_for(
    worker: pwd.struct_passwd, scientist: pwd.struct_passwd, rule: None
) -> None:
    def story() -> str:
        began = time.monotonic()
        try:
            LocalTransport(run_as_user=scientist.pw_name).run(["sleep", "6"], deadline_s=0.5)
        except ClusterUnreachableError:
            return str(time.monotonic() - began < 6)
        return "no error"

    assert as_user(worker, story) == "True"
    while processes_of(scientist.pw_uid):
        time.sleep(0.05)


def test_all_of_a_late_command_is_ended(tmp_path: Path) -> None:
    script = f"sleep 4321 & echo $! > {tmp_path}/pid; trap '' TERM; wait; sleep 4321"
    with pytest.raises(ClusterUnreachableError, match="sh on this machine did not end in time"):
        LocalTransport().run(["sh", "-c", script], deadline_s=0.5)
    pid = (tmp_path / "pid").read_text().strip()
    assert subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True).stdout.strip() in (b"", b"Z")


def test_a_child_that_keeps_the_output_open_is_not_waited_for_for_ever() -> None:
    with pytest.raises(ClusterUnreachableError):
        LocalTransport().run(["sh", "-c", "sleep 4321 & exit 0"], deadline_s=0.5)


def test_a_cancelled_call_goes_on_to_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        transport = AsyncLocalTransport()
        call = asyncio.create_task(transport.run(["sh", "-c", f"sleep 0.3; touch {tmp_path}/done"]))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.6)
        await transport.close()
        assert (await transport.run(["true"])).code == 0
        await transport.close()

    asyncio.run(story())
    assert (tmp_path / "done").exists()


def test_a_full_disk(tmp_path: Path) -> None:
    program = """
import os, sys
from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution.slurm.local_transport import LocalTransport
transport = LocalTransport()
path = sys.argv[1] + "/file"
transport.put(path, b"as it was")
for write in (transport.put, transport.append):
    try:
        write(path, bytes(1_000_000))
    except WorkFolderError as error:
        print("No space left on device" in str(error))
print(transport.get(path), os.listdir(sys.argv[1]))
"""
    said = run_on_tiny_disk(tmp_path, 64, program, str(tmp_path))
    assert said.splitlines() == ["True", "True", "b'as it was' ['file']"]
