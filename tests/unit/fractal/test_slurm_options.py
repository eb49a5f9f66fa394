"""Lines of ``extra_lines``: which of them ``sbatch`` reads, and what it knows."""

from __future__ import annotations

import pytest

from fractal_airflow.fractal.slurm_options import KNOWN_OPTIONS, check_extra_line, header_options, is_header


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("#SBATCH --qos=high", {"qos": "high"}),
        ("  #SBATCH   --qos   high  ", {"qos": "high"}),
        (
            "#SBATCH -p main -x n[1-2] --exclusive",
            {"partition": "main", "exclude": "n[1-2]", "exclusive": None},
        ),
        ("#SBATCH -Hvpmain", {"hold": None, "verbose": None, "partition": "main"}),
        ("#SBATCH --exclusive=user --nice", {"exclusive": "user", "nice": None}),
        ("#SBATCH --comment='it is # here' --hold  # --foo", {"comment": "it is # here", "hold": None}),
        ("#SBATCH --reserv=x", {"reservation": "x"}),
        ("#SBATCH", {}),
        ("module load cuda", {}),
    ],
)
def test_the_options_of_a_line(line: str, options: dict[str, str | None]) -> None:
    assert header_options(line) == options


@pytest.mark.parametrize(
    "line", ["##SBATCH --foo", "# SBATCH --foo", "export A=1", "#SBATCHx", "echo #SBATCH --x"]
)
def test_other_lines_are_the_shells(line: str) -> None:
    assert not is_header(line)
    check_extra_line(line)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("#SBATCH --gress=gpu:1", r"'--gress' is no option of sbatch; did you mean '--gres'\?"),
        ("#SBATCH --cpus_per_gpu=4", r"did you mean '--cpus-per-gpu'\?"),
        (
            "#SBATCH --frobnicate",
            r"'--frobnicate' is no option of sbatch\. The valid ones: --acctg-freq, .*--wckey",
        ),
        ("#SBATCH --gpus-per=1", "'--gpus-per' is no option"),
        ("#SBATCH -X", "'-X' is no option of sbatch"),
        ("#SBATCH -p", "-p needs a value"),
        ("#SBATCH --qos", "--qos needs a value"),
        ("#SBATCH --hold=yes", "--hold takes no value"),
        ("#SBATCH qos=high", "'qos=high' is no option: options begin with"),
        ("#SBATCH", "has no option"),
        ("#SBATCH --comment='open", "cannot be read: No closing quotation"),
        ("#SBATCH --mem=4G", "--mem is worked out .* give that as 'mem'"),
        ("#SBATCH -c4", "--cpus-per-task is worked out .* as 'cpus_per_task'"),
        ("#SBATCH --time=1:00", "as 'time'"),
        ("#SBATCH -A lab", "an account belongs to the resource"),
        ("#SBATCH --array=1-9", "--array is set by the system"),
        ("#SBATCH -o /tmp/out", "--output is set by the system"),
        ("#SBATCH --wrap=true", "--wrap is set by the system"),
    ],
)
def test_what_sbatch_does_not_know_or_must_not_be_told_is_refused(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_extra_line(line)


def test_what_is_listed_as_valid_is_accepted() -> None:
    for name in KNOWN_OPTIONS:
        check_extra_line(f"#SBATCH --{name} x" if needs_value(name) else f"#SBATCH --{name}")


def needs_value(name: str) -> bool:
    try:
        header_options(f"#SBATCH --{name}")
    except ValueError:
        return True
    return False
