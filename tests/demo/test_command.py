from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import INTERRUPTIONS, DemoError, only_one, run_command


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def fail() -> None:
    raise DemoError("the plate is broken")


def fail_in_a_program() -> None:
    subprocess.run(["false"], check=True)


def be_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


@pytest.mark.parametrize(
    ("action", "exit_code", "text"),
    [
        (lambda: None, 0, ""),
        (fail, 1, "The demo failed: the plate is broken"),
        (fail_in_a_program, 1, "The demo failed: exit code 1 of false"),
        (be_terminated, 130, "Stopped."),
    ],
)
def test_command_ends_with_an_exit_code_and_a_reason(
    action: Callable[[], None], exit_code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(action) == exit_code
    assert capsys.readouterr().err.strip() == text


def test_folder_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        only_one(tmp_path),
        pytest.raises(DemoError, match="another `make demo` or `make ui`"),
        only_one(tmp_path),
    ):
        pass

    with only_one(tmp_path):
        pass
