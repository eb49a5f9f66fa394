"""Units that start from a process with their modules loaded, and differ in nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.execution.batches import UNIT_TASK, run_batch, script, starts

WARM_AND_COLD = pytest.mark.parametrize("warm_start", [True, False], ids=["warm", "cold"])


def reports(tmp_path: Path, count: int = 3, **how: Any) -> list[dict[str, Any]]:
    units = [{"report": str(tmp_path / f"report-{index}")} for index in range(count)]
    ran = run_batch(tmp_path, units, **how)
    ran.attempt.folder.rename(tmp_path / "done")
    shutil.rmtree(tmp_path / "done")
    assert ran.statuses == ["done"] * count
    return [json.loads((tmp_path / f"report-{index}").read_text()) for index in range(count)]


def test_warm_units_have_what_a_python_of_their_own_has(tmp_path: Path) -> None:
    warm, cold = (reports(tmp_path, warm_start=warm_start)[2] for warm_start in (True, False))
    for key in ("path", "argv", "file", "main", "cwd", "stdin", "environment", "temporary", "fds"):
        assert warm[key] == cold[key]
    assert warm["path"][0] == str(Path(UNIT_TASK[1]).parent)
    assert warm["fds"] == []
    assert warm["modules"] != cold["modules"]  # else this compared two cold ones


def test_every_unit_is_a_process_and_a_session_of_its_own(tmp_path: Path) -> None:
    found = reports(tmp_path)
    assert len({report["pid"] for report in found}) == 3
    assert all(report["session"] == report["pid"] for report in found)


def test_every_unit_has_its_own_random_numbers(tmp_path: Path) -> None:
    assert len({report["random"] for report in reports(tmp_path)}) == 3


GUARDED = """
import json, sys
{top}
def work():
{body}
if __name__ == "__main__":
    work()
"""


def guarded(folder: Path, body: str, top: str = "") -> tuple[str, str]:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return script(folder, GUARDED.format(top=top, body=lines))


def module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")


def test_modules_are_imported_once(tmp_path: Path) -> None:
    module(tmp_path, "heavy", f"open({str(tmp_path / 'imports')!r}, 'a').write('x\\n')")
    command = guarded(tmp_path, "pass", top="import heavy")
    assert run_batch(tmp_path, [{}] * 5, command=command).statuses == ["done"] * 5
    assert starts(tmp_path / "imports") == 1


def test_modules_that_the_task_imports_on_its_way_are_learned_from_the_first_unit(tmp_path: Path) -> None:
    module(tmp_path, "lazy", f"open({str(tmp_path / 'imports')!r}, 'a').write('x\\n')")
    command = guarded(tmp_path, "import lazy")
    assert run_batch(tmp_path, [{}] * 6, command=command).statuses == ["done"] * 6
    assert starts(tmp_path / "imports") == 2  # by the first unit, and by the second generation


def test_a_learned_module_that_fails_when_it_is_imported_ahead_costs_nothing(tmp_path: Path) -> None:
    module(tmp_path, "moody", "import sys\nassert getattr(sys, 'ready', False)")
    module(tmp_path, "good", f"open({str(tmp_path / 'imports')!r}, 'a').write('x\\n')")
    command = guarded(tmp_path, "sys.ready = True\nimport moody, good")
    ran = run_batch(tmp_path, [{}] * 6, command=command)
    assert ran.statuses == ["done"] * 6
    assert "importing moody failed" in ran.runner_log
    assert starts(tmp_path / "imports") <= 4  # the other modules are still learned


def test_a_learned_module_that_starts_a_thread_costs_nothing(tmp_path: Path) -> None:
    module(
        tmp_path,
        "threaded",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(.2,)).start()",
    )
    command = guarded(tmp_path, "import threaded")
    ran = run_batch(tmp_path, [{}] * 3, command=command)
    assert ran.statuses == ["done"] * 3
    assert "importing threaded started a thread" in ran.runner_log


def test_a_learned_module_that_kills_its_process_costs_nothing(tmp_path: Path) -> None:
    module(tmp_path, "deadly", "import os, sys\nif not hasattr(sys, 'ready'): os._exit(9)")
    command = guarded(tmp_path, "sys.ready = True\nimport deadly")
    assert run_batch(tmp_path, [{}] * 4, command=command).statuses == ["done"] * 4


def test_a_module_of_the_same_name_from_elsewhere_is_not_taken_for_the_learned_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    module(tmp_path / "elsewhere", "twin", "name = 'elsewhere'")
    module(tmp_path, "twin", "name = 'here'")
    body = f"sys.path.insert(0, {str(tmp_path / 'elsewhere')!r})\nimport twin\nprint(twin.name)"
    ran = run_batch(tmp_path, [{}] * 4, command=guarded(tmp_path, body))
    assert [ran.log(index).splitlines()[-1] for index in range(4)] == ["elsewhere"] * 4


def test_a_script_that_fails_to_import_is_started_unit_by_unit(tmp_path: Path) -> None:
    command = guarded(tmp_path, "pass", top="import no_such_module")
    ran = run_batch(tmp_path, [{}] * 2, command=command)
    assert ran.error(0).endswith("ModuleNotFoundError: No module named 'no_such_module'")
    assert "no warm start: importing" in ran.runner_log


def test_a_script_whose_imports_leave_threads_running_is_started_unit_by_unit(tmp_path: Path) -> None:
    module(
        tmp_path,
        "threaded",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(.3,)).start()",
    )
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, "pass", top="import threaded"))
    assert ran.statuses == ["done"] * 2
    assert "no warm start: importing its modules leaves threads running" in ran.runner_log


def test_a_script_that_exits_when_imported_is_started_unit_by_unit(tmp_path: Path) -> None:
    command = guarded(tmp_path, "print('works')", top="if __name__ != '__main__': sys.exit(1)")
    ran = run_batch(tmp_path, [{}] * 2, command=command)
    assert ran.statuses == ["done"] * 2


def test_a_script_without_a_main_guard_does_its_work_once_a_unit(tmp_path: Path) -> None:
    text = f"import json\nprint('work')\nopen({str(tmp_path / 'works')!r}, 'a').write('x\\n')"
    ran = run_batch(tmp_path, [{}] * 3, command=script(tmp_path, text))
    assert ran.statuses == ["done"] * 3
    assert starts(tmp_path / "works") == 3
    assert ran.runner_log == ""


def test_settings_before_an_import_are_made_before_it(tmp_path: Path) -> None:
    module(tmp_path, "library", "import os\nthreads = os.environ['LIBRARY_THREADS']")
    top = "import os\nos.environ['LIBRARY_THREADS'] = '1'\nimport library"
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, "print(library.threads)", top=top))
    assert ran.log(1).splitlines()[-1] == "1"


@pytest.mark.parametrize("name", ["select", "pkgutil"])  # pkgutil is what Python runs archives with
def test_a_folder_with_modules_named_as_the_standard_ones_gets_its_own(tmp_path: Path, name: str) -> None:
    module(tmp_path, name, "name = 'mine'")
    command = guarded(tmp_path, f"print({name}.name)", top=f"import {name}")
    ran = run_batch(tmp_path, [{}] * 2, command=command)
    assert ran.log(1).splitlines()[-1] == "mine"


@pytest.mark.parametrize(("units", "warm_start"), [(1, True), (2, False)])
def test_one_unit_or_a_task_that_does_not_want_it_gets_no_warm_start(
    tmp_path: Path, units: int, warm_start: bool
) -> None:
    top = f"open({str(tmp_path / 'names')!r}, 'a').write(__name__ + '\\n')"
    run_batch(tmp_path, [{}] * units, command=guarded(tmp_path, "pass", top=top), warm_start=warm_start)
    assert (tmp_path / "names").read_text().split() == ["__main__"] * units


def test_a_unit_that_failed_is_tried_again_without_warm_start(tmp_path: Path) -> None:
    top = f"open({str(tmp_path / 'names')!r}, 'a').write(__name__ + '\\n')"
    command = guarded(tmp_path, "assert len(open(sys.argv[2]).read()) < 10", top=top)
    units = [{}, {"long": "arguments"}, {"long": "arguments"}]
    run_batch(tmp_path, units, command=command)
    (tmp_path / "names").unlink()
    run_batch(tmp_path, units, command=command)
    assert (tmp_path / "names").read_text().split() == ["__main__"] * 2


EXIT_WORK = """
import atexit, io, logging, threading, time
logging.basicConfig(level=logging.INFO)
atexit.register(lambda: print("exit handler"))
kept = open(sys.argv[2] + ".kept", "w")
kept.write("kept open")
def later():
    time.sleep(0.1)
    print("thread")
threading.Thread(target=later).start()
sys.stdout.write("no newline ")
"""


@WARM_AND_COLD
def test_everything_that_happens_at_a_programs_end_happens(tmp_path: Path, warm_start: bool) -> None:
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, EXIT_WORK), warm_start=warm_start)
    assert ran.statuses == ["done"] * 2
    for index in range(2):
        assert ran.log(index).splitlines()[1:] == ["no newline thread", "exit handler"]
        assert (ran.attempt.folder / f"{index}-args.json.kept").read_text() == "kept open"


@WARM_AND_COLD
def test_what_a_library_in_c_prints_is_in_the_log(tmp_path: Path, warm_start: bool) -> None:
    body = "import ctypes\nctypes.CDLL(None).printf(b'from C')"
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, body), warm_start=warm_start)
    assert ran.log(1).splitlines()[1:] == ["from C"]


@WARM_AND_COLD
def test_daemon_threads_say_nothing_at_the_end(tmp_path: Path, warm_start: bool) -> None:
    top = "import threading\ncount = 0\ndef spin():\n    global count\n    while True:\n        count += 1"
    body = "threading.Thread(target=spin, daemon=True).start()\nprint('work')"
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, body, top=top), warm_start=warm_start)
    assert ran.log(1).splitlines()[1:] == ["work"]


@WARM_AND_COLD
def test_files_that_a_module_keeps_open_are_written(tmp_path: Path, warm_start: bool) -> None:
    module(tmp_path, "holder", "files = []")
    body = (
        "import holder\nholder.files.append(open(sys.argv[2] + '.held', 'w'))\nholder.files[0].write('held')"
    )
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, body), warm_start=warm_start)
    assert (ran.attempt.folder / "1-args.json.held").read_text() == "held"


@WARM_AND_COLD
def test_exit_handlers_of_modules_run_in_every_unit(tmp_path: Path, warm_start: bool) -> None:
    module(tmp_path, "tidy", "import atexit\natexit.register(lambda: print('tidy'))")
    command = guarded(tmp_path, "print('work')", top="import tidy")
    ran = run_batch(tmp_path, [{}] * 2, command=command, warm_start=warm_start)
    assert ran.log(1).splitlines()[1:] == ["work", "tidy"]


def test_temporary_folders_of_modules_live_as_long_as_any_unit_needs_them(tmp_path: Path) -> None:
    text = """
import atexit, os, shutil, tempfile
one = tempfile.TemporaryDirectory()
two = tempfile.mkdtemp()
atexit.register(shutil.rmtree, two)
"""
    module(tmp_path, "temporary", text)
    body = "import os, temporary\nassert os.path.isdir(temporary.one.name) and os.path.isdir(temporary.two)"
    body += "\nprint(temporary.one.name, temporary.two, sep='\\n')"
    ran = run_batch(tmp_path, [{}] * 3, command=guarded(tmp_path, body, top="import temporary"))
    assert ran.statuses == ["done"] * 3
    assert ran.runner_log == ""
    one, two = ran.log(2).splitlines()[1:]
    assert not Path(one).exists()
    assert not Path(two).exists()


@WARM_AND_COLD
def test_processes_that_a_unit_starts_itself_work(tmp_path: Path, warm_start: bool) -> None:
    top = "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing"
    body = """
for method in ("fork", "spawn"):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(sum(pool.map(abs, [-1, -2, -3])))
"""
    command = guarded(tmp_path, body, top=top)
    ran = run_batch(tmp_path, [{}] * 2, command=command, warm_start=warm_start)
    assert ran.log(1).splitlines()[1:] == ["6", "6"]


@WARM_AND_COLD
def test_classes_of_the_script_can_be_pickled(tmp_path: Path, warm_start: bool) -> None:
    top = "import pickle\nfrom dataclasses import dataclass\n@dataclass\nclass Nucleus:\n    area: 'int'"
    body = "print(pickle.loads(pickle.dumps(Nucleus(3))))"
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, body, top=top), warm_start=warm_start)
    assert ran.log(1).splitlines()[1:] == ["Nucleus(area=3)"]


def test_prints_of_an_import_are_not_in_the_logs_of_units(tmp_path: Path) -> None:
    ran = run_batch(tmp_path, [{}] * 2, command=guarded(tmp_path, "print('work')", top="print('import')"))
    assert [ran.log(index).splitlines()[1:] for index in range(2)] == [["import", "work"]] * 2
    assert ran.runner_log == "import\n"


def test_several_units_at_a_time_start_warm(tmp_path: Path) -> None:
    module(tmp_path, "lazy", f"open({str(tmp_path / 'imports')!r}, 'a').write('x\\n')")
    command = guarded(tmp_path, "import lazy, time\ntime.sleep(0.02)")
    ran = run_batch(tmp_path, [{}] * 30, command=command, parallel=3)
    assert ran.statuses == ["done"] * 30
    assert starts(tmp_path / "imports") <= 6


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_unit_that_takes_its_generation_down_is_lost_but_the_others_are_not(
    tmp_path: Path, parallel: int
) -> None:
    quick = [{"started": str(tmp_path / f"{index}")} for index in range(8)]
    quick[4]["kill_parent"] = str(tmp_path / "killed")
    ran = run_batch(tmp_path, quick, parallel=parallel)
    assert ran.statuses == ["done"] * 8
    assert starts(tmp_path / "4") == 2


def test_the_interpreter_of_another_environment_runs_its_own_units(tmp_path: Path) -> None:
    found = reports(tmp_path, command=UNIT_TASK)
    assert {report["argv"][0] for report in found} == {UNIT_TASK[1]}
    assert sys.executable == UNIT_TASK[0]
