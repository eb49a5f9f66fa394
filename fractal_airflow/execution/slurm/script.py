"""The batch script of a job. What users wrote as values is quoted; what they wrote as lines stays as it is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from fractal_airflow.execution.slurm.options import format_time
from fractal_airflow.fractal.slurm_options import is_header

# The program runs beside the shell, so that a signal to the shell alone reaches it, too. A signal interrupts
# `wait`, and the program may take its time to end.
_END = """\
set +e
trap 'kill -TERM "$fractal_program" 2>/dev/null' TERM
wait "$fractal_program"
fractal_code=$?
while kill -0 "$fractal_program" 2>/dev/null; do
  wait "$fractal_program"
  fractal_code=$?
done
printf '%s\\n' "$fractal_code" >"$fractal_ended.new" && mv -f -- "$fractal_ended.new" "$fractal_ended"
exit "$fractal_code"
"""


def render_script(
    *,
    python: str,
    program: str,
    label: str = "",
    partition: str | None = None,
    account: str | None = None,
    nodes: int | str | None = None,
    cpus_per_task: int = 1,
    mem_mb: int | None = None,
    mem_per_cpu_mb: int | None = None,
    time_s: int | None = None,
    constraint: str | None = None,
    gres: str | None = None,
    gpus: int | str | None = None,
    nodelist: str | None = None,
    exclude: str | None = None,
    extra_lines: Sequence[str] = (),
    exports: Mapping[str, str] | None = None,
    worker_init: Sequence[str] = (),
) -> str:
    """
    Return the script of a job that runs the batch of the folder that it is submitted from.

    :param python: the Python that runs the program.
    :param program: the runner.
    :param label: what the batch is called, for people.
    :param cpus_per_task: the cores of the whole job, and so ``mem_mb`` and ``time_s``.
    :param extra_lines: those that ``sbatch`` reads become options, which have the last word; others are run.
    :param exports: environment variables.
    :param worker_init: shell lines that run right before the program.
    :raises ValueError: where a value would break its line.
    """
    # Without a number of nodes the job is one process on one node; with one, it is what the user asks for.
    options: dict[str, object] = {
        "partition": partition,
        "account": account,
        "nodes": 1 if nodes is None else nodes,
        "ntasks": 1 if str(nodes or 1) == "1" else None,
        "cpus-per-task": cpus_per_task,
        "mem": None if mem_mb is None else f"{mem_mb}M",
        "mem-per-cpu": None if mem_per_cpu_mb is None else f"{mem_per_cpu_mb}M",
        "time": None if time_s is None else format_time(time_s),
        "constraint": constraint,
        "gres": gres,
        "gpus": gpus,
        "nodelist": nodelist,
        "exclude": exclude,
        "output": "slurm-%j.out",
        "error": "slurm-%j.err",
        "open-mode": "append",
    }
    header = [_option(name, value) for name, value in options.items() if value is not None]
    header += ["#SBATCH --requeue", *(_one_line(line) for line in extra_lines if is_header(line))]
    body = [_export(name, value) for name, value in (exports or {}).items()]
    body += [_one_line(line) for line in extra_lines if not is_header(line)]
    body += [_one_line(line) for line in worker_init]
    return "\n".join(
        [
            "#!/bin/bash",
            "# Runs the units of one batch, in the folder that this was submitted from.",
            *([f"# {_comment(label)}"] if label else []),
            *header,
            "",
            'cd -- "$SLURM_SUBMIT_DIR" || exit 73',
            "fractal_ended=$PWD/job-$SLURM_JOB_ID.exit",
            'rm -f -- "$fractal_ended"',
            *(["", *body] if body else []),
            "",
            'cd -- "$SLURM_SUBMIT_DIR" || exit 73',
            f'{shlex.quote(python)} {shlex.quote(program)} "$PWD" &',
            "fractal_program=$!",
            _END,
        ]
    )


def _option(name: str, value: object) -> str:
    """Return the line of an option; ``sbatch`` reads quotes as a shell does, but backslashes even in them."""
    quoted = shlex.quote(_one_line(str(value))).replace("\\", "\\\\")
    return f"#SBATCH --{name}={quoted}"


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _one_line(text: str) -> str:
    if any(end in text for end in "\n\r\0"):
        raise ValueError(f"{text!r} must be a text of one line")
    return text.strip() if is_header(text) else text


def _comment(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
