"""The text of batch scripts, pinned by the files in golden/ (FRACTAL_WRITE_GOLDEN=1 writes them anew)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.execution.slurm.script import render_script

GOLDEN = Path(__file__).parent / "golden"
RUNNER = "/shared/fractal/.fractal/runner-0123.pyz"

SCRIPTS: dict[str, dict[str, Any]] = {
    "least": {"python": "python3", "program": RUNNER},
    "everything": {
        "python": "/opt/tasks/bin/python",
        "program": RUNNER,
        "label": "B/03/0 … B/12/0 (10)",
        "partition": "main,long",
        "account": "lab",
        "nodes": "1",
        "cpus_per_task": 8,
        "mem_mb": 32000,
        "time_s": 93784,
        "constraint": "haswell|broadwell",
        "nodelist": "n1",
        "exclude": "n2",
        "extra_lines": ["#SBATCH --nice=10 -v  # be kind", "module load cuda || exit 1", "#SBATCH --no-requeue"],
        "exports": {"CELLPOSE_LOCAL_MODELS_PATH": "/home/me/.cache/cellpose", "NAPARI_CONFIG": "/home/me/n.json"},
        "worker_init": ["source /etc/profile", "export OMP_NUM_THREADS=4"],
    },
    "gpus": {
        "python": "python3",
        "program": RUNNER,
        "partition": "gpu",
        "cpus_per_task": 4,
        "mem_mb": 16000,
        "gres": "gpu:a100:2",
        "time_s": 0,
    },
    "memory_per_cpu": {
        "python": "python3",
        "program": RUNNER,
        "cpus_per_task": 3,
        "mem_per_cpu_mb": 1334,
        "time_s": 90,
    },
    "two_nodes": {"python": "python3", "program": RUNNER, "nodes": "2-3", "gpus": "a100:4"},
    "hostile": {
        "python": "/opt/it's here/$(touch x)/python",
        "program": "/shared/my data/`id`/\"runner\".pyz",
        "label": "a'b\n#SBATCH --partition=stolen\n$(touch x)",
        "partition": "main' --hold",
        "account": 'my "lab"; $(touch x)',
        "constraint": "a\\b & c # d",
        "exports": {"CACHE": "/home/o'brien/$(touch x)\nexport B=1"},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_text_of_a_script(name: str) -> None:
    script = render_script(**SCRIPTS[name])

    golden = GOLDEN / f"{name}.sh"
    if os.environ.get("FRACTAL_WRITE_GOLDEN"):
        golden.write_text(script, encoding="utf-8")
    assert script == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n", GOLDEN / f"{name}.sh"], check=True)


@pytest.mark.parametrize("name", ["partition", "account", "constraint", "gres", "nodelist", "exclude"])
def test_a_value_cannot_begin_a_line_of_its_own(name: str) -> None:
    value: Any = "a\n#SBATCH --partition=stolen"
    with pytest.raises(ValueError, match="one line"):
        render_script(python="python3", program=RUNNER, **{name: value})


class Job:
    """Runs scripts as SLURM does: in the folder of the batch, with the variables of a job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a batch's folder"
        self.folder.mkdir()
        self.program = self.folder / "run ner.sh"
        self.ended = self.folder / "job-17.exit"

    def start(self, program: str, **options: Any) -> subprocess.Popen[str]:
        """Start a job whose program is a shell script."""
        self.program.write_text(program)
        script = self.folder / "job.sh"
        script.write_text(render_script(python="/bin/sh", program=str(self.program), **options))
        environment = {**os.environ, "SLURM_SUBMIT_DIR": str(self.folder), "SLURM_JOB_ID": "17"}
        return subprocess.Popen(
            ["bash", script], env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip

    def run(self, program: str, **options: Any) -> tuple[int, str]:
        """Run such a job; return its exit code and what it printed."""
        process = self.start(program, **options)
        output = process.communicate(timeout=30)[0]
        return process.returncode, output


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


class TestRunning:
    def test_the_program_is_given_the_folder_and_runs_in_it(self, job: Job) -> None:
        assert job.run('echo "$1"; pwd') == (0, f"{job.folder}\n" * 2)

    @pytest.mark.parametrize("code", [0, 1, 74, 137])
    def test_the_exit_code_is_the_programs_and_is_written_down(self, job: Job, code: int) -> None:
        assert job.run(f"exit {code}")[0] == code
        assert job.ended.read_text() == f"{code}\n"

    def test_a_program_that_is_missing_is_no_success(self, job: Job) -> None:
        assert job.run("", worker_init=['rm -- "run ner.sh"'])[0] != 0
        assert job.ended.read_text() != "0\n"

    def test_what_a_former_start_wrote_is_gone_when_it_starts(self, job: Job) -> None:
        job.ended.write_text("0\n")
        assert job.run(f'ls "{job.ended}" || exit 3')[0] == 3

    def test_the_users_lines_come_first_whatever_they_leave_behind(self, job: Job) -> None:
        lines = ["export A=1", "set -eu", "cd /"]
        code, output = job.run('echo "$A $B $C"; pwd; exit 5', worker_init=lines, extra_lines=["C=$B export C"],
                               exports={"B": "it's $(here)"})  # fmt: skip
        assert (code, output) == (5, f"1 it's $(here) {'it' + chr(39) + 's $(here)'}\n{job.folder}\n")
        assert job.ended.read_text() == "5\n"

    def test_a_users_line_that_ends_the_script_leaves_no_word_of_an_end(self, job: Job) -> None:
        assert job.run("exit 0", worker_init=["exit 9"])[0] == 9
        assert not job.ended.exists()

    def test_a_folder_that_is_gone_is_no_success(self, job: Job) -> None:
        process = job.start("exit 0")
        process.communicate()
        (job.folder / "job.sh").rename(job.folder.parent / "job.sh")
        environment = {"SLURM_SUBMIT_DIR": "/nowhere", "SLURM_JOB_ID": "17"}
        assert subprocess.run(["bash", job.folder.parent / "job.sh"], env=environment).returncode == 73

    def test_a_signal_to_the_shell_alone_reaches_the_program_which_may_take_its_time(self, job: Job) -> None:
        process = job.start("trap 'sleep 0.5; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 7
        assert job.ended.read_text() == "7\n"
