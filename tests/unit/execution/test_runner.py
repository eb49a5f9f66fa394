"""The runner program, run as it is on a worker or a cluster node."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fractal_airflow.execution import runner
from fractal_airflow.execution.archive import write_runner
from fractal_airflow.execution.run_folder import Attempt, attempt_outcomes
from fractal_airflow.execution.units import Work
from tests.unit.execution.batches import UNIT_TASK, open_batch, run_batch, script, starts

WARM_AND_COLD = pytest.mark.parametrize("warm_start", [True, False], ids=["warm", "cold"])


def run_runner(attempt: Attempt, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, str(write_runner(attempt.folder.parent)), str(attempt.folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@WARM_AND_COLD
def test_outcomes_are_in_the_order_of_the_units(tmp_path: Path, warm_start: bool) -> None:
    units = [{"output": {"image_list_removals": [f"/d/{index}"]}} for index in range(20)]
    ran = run_batch(tmp_path, units, parallel=4, warm_start=warm_start)
    assert [outcome.output for outcome in ran.outcomes] == [unit["output"] for unit in units]


@WARM_AND_COLD
def test_a_unit_that_exits_with_an_error_failed_in_the_task(tmp_path: Path, warm_start: bool) -> None:
    units = [{"output": {}}, {"say": "hello", "raise": "no nuclei"}, {"exit": 3}, {"exit": "a message"}]
    ran = run_batch(tmp_path, units, warm_start=warm_start)
    assert ran.statuses == ["done", "failed", "failed", "failed"]
    assert ran.error(1).startswith("task: the task ended with exit code 1\nLast lines of ")
    assert ran.error(1).endswith("ValueError: no nuclei")
    assert "exit code 3" in ran.error(2)
    assert ran.error(3).endswith("a message")


@WARM_AND_COLD
def test_a_traceback_shows_the_task_and_nothing_of_the_runner(tmp_path: Path, warm_start: bool) -> None:
    log = run_batch(tmp_path, [{"raise": "no nuclei"}] * 2, warm_start=warm_start).log(0)
    assert 'unit_task.py", line' in log
    assert "_fractal_runner" not in log
    assert ".pyz" not in log


@WARM_AND_COLD
def test_a_killed_unit_failed_in_its_job(tmp_path: Path, warm_start: bool) -> None:
    ran = run_batch(
        tmp_path, [{"kill": "SIGKILL"}, {"kill": "SIGSEGV"}, {"output": {}}], warm_start=warm_start
    )
    assert ran.statuses == ["failed", "failed", "done"]
    assert ran.error(0).startswith(f"job: killed by SIGKILL on {os.uname().nodename} (out of memory")
    assert ran.error(1).startswith("job: killed by SIGSEGV on ")


@WARM_AND_COLD
@pytest.mark.parametrize(
    "raw",
    [
        "{",
        "",
        "nul",
        '{"a": 1} x',
        '{"a": NaN}',
        '{"a": "\\udcff"}',
        '{"a": "\\u0000"}',
        "\x00",
        "[" * 100_000,
    ],
)
def test_output_that_is_not_json_fails_its_unit_alone(tmp_path: Path, warm_start: bool, raw: str) -> None:
    ran = run_batch(tmp_path, [{"raw_output": raw}, {"output": {}}], warm_start=warm_start)
    assert ran.statuses == ["failed", "done"]
    assert ran.error(0).startswith("output: the output file ")
    assert " is not JSON" in ran.error(0)


@WARM_AND_COLD
def test_a_log_that_is_no_text_still_makes_an_error_that_databases_take(
    tmp_path: Path, warm_start: bool
) -> None:
    raw = '{"image_list_removals": ["/d/\\\\u0000"]}'  # a backslash and five characters
    ran = run_batch(tmp_path, [{"exit": "at byte \0"}, {"raw_output": raw}], warm_start=warm_start)
    assert ran.statuses == ["failed", "done"]
    assert ran.error(0).endswith("at byte \N{REPLACEMENT CHARACTER}")


def test_missing_and_null_output_are_no_output(tmp_path: Path) -> None:
    ran = run_batch(tmp_path, [{}, {"output": None}])
    assert [(outcome.status, outcome.output) for outcome in ran.outcomes] == [("done", None)] * 2


@WARM_AND_COLD
def test_each_unit_has_a_log_of_its_own(tmp_path: Path, warm_start: bool) -> None:
    ran = run_batch(tmp_path, [{"say": "first"}, {"say": "second"}], warm_start=warm_start)
    assert ran.log(0).splitlines()[1:] == ["first"]
    assert ran.log(1).splitlines()[1:] == ["second"]
    assert "1-args.json" in ran.log(1).splitlines()[0]


@WARM_AND_COLD
def test_units_are_measured(tmp_path: Path, warm_start: bool) -> None:
    for outcome in run_batch(tmp_path, [{}, {}], warm_start=warm_start).outcomes:
        assert outcome.seconds is not None
        assert 0 < outcome.seconds < 60
        assert outcome.cpu_seconds is not None
        assert outcome.cpu_seconds > 0
        assert outcome.max_rss_mb is not None
        assert 1 < outcome.max_rss_mb < 1000
        assert outcome.host == os.uname().nodename
        assert outcome.started_at is not None


def test_units_with_a_good_result_are_not_run_again(tmp_path: Path) -> None:
    units = [{"started": str(tmp_path / f"{index}")} for index in range(4)]
    attempt = open_batch(tmp_path, Work(UNIT_TASK, units))
    lines = [
        '{"index": 0, "status": "done"}',
        '{"index": 2, "status": "failed"}',
        '{"index": 3, "status": "do',
    ]
    (attempt.folder / "results.jsonl").write_text("\n".join(lines))
    assert run_runner(attempt).returncode == 0
    assert [starts(tmp_path / f"{index}") for index in range(4)] == [0, 1, 1, 1]
    assert [outcome.status for outcome in attempt_outcomes(attempt.folder, 4)] == ["done"] * 4


def test_a_rejected_unit_runs_again(tmp_path: Path) -> None:
    units = [{"started": str(tmp_path / f"{index}")} for index in range(2)]
    ran = run_batch(tmp_path, units)
    ran.attempt.reject(1, "the output has an unknown key")
    run_batch(tmp_path, units)
    assert [starts(tmp_path / f"{index}") for index in range(2)] == [1, 2]


def test_a_retry_appends_to_the_log_and_removes_the_old_output(tmp_path: Path) -> None:
    units = [{"say": "try", "output": {}, "wait_for": str(tmp_path)}] * 2
    attempt = open_batch(tmp_path, Work(UNIT_TASK, units))
    (attempt.folder / "0-out.json").write_text("half of an out")
    (attempt.folder / "0-log.txt").write_text("the first try\n")
    run_runner(attempt)
    outcomes = attempt_outcomes(attempt.folder, 2)
    assert outcomes[0].status == "done"
    assert (attempt.folder / "0-log.txt").read_text().startswith("the first try\n===")


def test_the_end_of_the_log_in_an_error_is_that_of_the_last_try(tmp_path: Path) -> None:
    attempt = open_batch(tmp_path, Work(UNIT_TASK, [{"exit": 2}]))
    (attempt.folder / "0-log.txt").write_text("old trouble\n")
    run_runner(attempt)
    error = attempt_outcomes(attempt.folder, 1)[0].error
    assert error is not None
    assert "old trouble" not in error.message


def test_only_the_end_of_a_long_log_is_in_the_error(tmp_path: Path) -> None:
    text = "\n".join(f"line {number} " + "x" * 80 for number in range(10_000))
    ran = run_batch(tmp_path, [{"say": text, "exit": 1}])
    assert "line 9999" in ran.error(0)
    assert len(ran.error(0)) < 6000


ODD_NAMES = [
    "with space",
    "quo'te",
    'dou"ble',
    "$(touch hacked)",
    "`id`",
    "new\nline",
    "ünï-码",
    "-rf",
    "a;b&c|d",
]


@pytest.mark.parametrize("name", ODD_NAMES)
@WARM_AND_COLD
def test_odd_paths_simply_work(tmp_path: Path, warm_start: bool, name: str) -> None:
    command = script(tmp_path / name / "code", Path(UNIT_TASK[1]).read_text())
    units = [{"zarr_url": f"/d/{name}", "output": {"image_list_removals": [f"/d/{name}"]}}] * 2
    ran = run_batch(tmp_path / name, units, command=command, warm_start=warm_start)
    assert [outcome.output for outcome in ran.outcomes] == [unit["output"] for unit in units]
    assert ran.runner_log == ""


def test_a_command_that_does_not_exist_says_so(tmp_path: Path) -> None:
    ran = run_batch(tmp_path, [{}, {}], command=("/no/such/python", "task.py"))
    assert ran.error(0).startswith("job: command '/no/such/python' does not exist")


def test_a_command_that_is_not_found_in_path_says_so(tmp_path: Path) -> None:
    ran = run_batch(tmp_path, [{}], command=("no-such-command",))
    assert ran.error(0).startswith("job: command 'no-such-command' is not found in PATH")


def test_a_command_that_is_not_executable_says_so(tmp_path: Path) -> None:
    (tmp_path / "task").write_text("#!/bin/sh\n")
    ran = run_batch(tmp_path, [{}], command=(str(tmp_path / "task"),))
    assert "task' is not executable: give it execute permission" in ran.error(0)


def test_a_command_that_is_a_folder_says_so(tmp_path: Path) -> None:
    assert "is a folder" in run_batch(tmp_path, [{}], command=(str(tmp_path),)).error(0)


def executable(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_script_whose_interpreter_is_missing_says_so(tmp_path: Path) -> None:
    command = executable(tmp_path / "task", "#!/no/such/interpreter\n")
    assert "the interpreter that its first line names does not exist" in run_batch(
        tmp_path, [{}], command=(command,)
    ).error(0)


def test_a_script_without_an_interpreter_says_so(tmp_path: Path) -> None:
    command = executable(tmp_path / "task", "echo hello\n")
    assert "neither a program nor a script" in run_batch(tmp_path, [{}], command=(command,)).error(0)


def test_a_missing_script_is_an_error_of_its_interpreter(tmp_path: Path) -> None:
    ran = run_batch(tmp_path, [{}, {}], command=(sys.executable, "/no/such/task.py"))
    assert "can't open file '/no/such/task.py'" in ran.error(0)


def test_any_program_can_be_a_task(tmp_path: Path) -> None:
    command = executable(
        tmp_path / "task", '#!/bin/sh\necho "$1" && echo \'{"image_list_removals": []}\' > "$4"\n'
    )
    ran = run_batch(tmp_path, [{}, {}], command=(command,))
    assert ran.log(0).splitlines()[1:] == ["--args-json"]
    assert ran.outcomes[1].output == {"image_list_removals": []}


def test_arguments_of_the_command_come_before_those_of_the_unit(tmp_path: Path) -> None:
    command = script(tmp_path, "import sys\nprint(sys.argv[1:3])")
    ran = run_batch(tmp_path, [{}, {}], command=(*command, "--mode=x y"))
    assert ran.log(1).splitlines()[1:] == ["['--mode=x y', '--args-json']"]


def test_a_log_that_cannot_be_opened_fails_its_unit_alone(tmp_path: Path) -> None:
    for warm_start in (True, False):
        attempt = open_batch(tmp_path / str(warm_start), Work(UNIT_TASK, [{}, {}], warm_start=warm_start))
        (attempt.folder / "0-log.txt").mkdir()
        run_runner(attempt)
        failed, done = attempt_outcomes(attempt.folder, 2)
        assert done.status == "done"
        assert failed.error is not None
        assert failed.error.message.startswith("the unit cannot be started: ")


def test_two_runners_do_not_work_in_one_folder(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    attempt = open_batch(
        tmp_path, Work(UNIT_TASK, [{"wait_for": str(gate), "started": str(tmp_path / "starts")}])
    )
    program = write_runner(tmp_path)
    impatient = tmp_path / "impatient"
    shutil.unpack_archive(program, impatient, "zip")
    guard = impatient / "_fractal_runner" / "guard.py"
    guard.write_text(guard.read_text().replace("LOCK_SECONDS = 15.0", "LOCK_SECONDS = 0.3"))
    first = subprocess.Popen([sys.executable, str(program), str(attempt.folder)])
    try:
        while not (tmp_path / "starts").exists():
            assert first.poll() is None
        second = subprocess.run([sys.executable, str(impatient), str(attempt.folder)], stderr=subprocess.PIPE)
        assert second.returncode == runner.EXIT_LOCKED
        assert b"another runner works in" in second.stderr
    finally:
        gate.touch()
        assert first.wait(20) == 0
    assert starts(tmp_path / "starts") == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    ran = run_runner(Attempt(tmp_path / "nothing", 1))
    assert ran.returncode == runner.EXIT_WRITING_FAILED
    assert str(tmp_path / "nothing") in ran.stderr
