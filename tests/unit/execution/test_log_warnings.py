"""Which lines of a unit's log are warnings: as real programs print them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractal_airflow.execution.runner import log_warnings
from fractal_airflow.execution.runner.log_warnings import warnings_in
from tests.unit.execution.batches import run_batch

NUMPY = """\
/opt/core/lib/python3.11/site-packages/numpy/lib/nanfunctions.py:1215: RuntimeWarning: Mean of empty slice
  return np.nanmean(a, axis, out=out, keepdims=keepdims)
"""
ANNDATA = """\
/opt/core/lib/python3.11/site-packages/anndata/_core/aligned_df.py:68: ImplicitModificationWarning: \
Transforming to str index.
  warnings.warn("Transforming to str index.", ImplicitModificationWarning)
"""


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (NUMPY, "nanfunctions.py:1215: RuntimeWarning: Mean of empty slice"),
        (ANNDATA, "aligned_df.py:68: ImplicitModificationWarning: Transforming to str index."),
        ("<string>:1: DeprecationWarning: old", "<string>:1: DeprecationWarning: old"),
        ("sys:1: ResourceWarning: unclosed file", "sys:1: ResourceWarning: unclosed file"),
        ("UserWarning: no place is known", "UserWarning: no place is known"),
        ("WARNING:root:no nuclei", "WARNING:root:no nuclei"),
        ("WARNING:fractal_tasks_core.roi:no ROI", "WARNING:fractal_tasks_core.roi:no ROI"),
        ("WARNING: no nuclei", "WARNING: no nuclei"),
        ("[WARNING] no nuclei", "[WARNING] no nuclei"),
        ("WARNING  no nuclei", "WARNING  no nuclei"),
        ("2024-05-01 12:00:00,123 - roi - WARNING - no ROI", "roi - WARNING - no ROI"),
        ("2024-05-01 12:00:00,123; WARNING; no ROI", "WARNING; no ROI"),
        ("2024-05-01 12:00:00,123 WARNING no ROI", "WARNING no ROI"),
        ("2024-05-01 12:00:00,123 roi WARNING no ROI", "roi WARNING no ROI"),
        ("[2024-05-01 12:00:00] WARN no ROI", "WARN no ROI"),
        ("2024-05-01 12:00:00.123 | WARNING  | main:run:7 - no ROI", "WARNING  | main:run:7 - no ROI"),
        ("\x1b[33mWARNING\x1b[0m: yellow", "WARNING: yellow"),
        ("2024-05-01T12:00:00Z roi:WARNING: no ROI", "roi:WARNING: no ROI"),
    ],
)
def test_lines_that_are_warnings(text: str, warning: str) -> None:
    assert warnings_in(text) == [warning]


@pytest.mark.parametrize(
    "line",
    [
        "2024-05-01 12:00:00,123 - roi - INFO - WARNING: is what the level was set to",
        "ERROR:root:WARNING: a level of a level",
        "set the level to WARNING now",
        "warning: in lower case, as compilers have it by the hundred",
        "import warnings; warnings.simplefilter('error', UserWarning)",
        '  warnings.warn("Transforming", ImplicitModificationWarning)',
        "WARNING",
        "FOREWARNING: not the word",
        "",
    ],
)
def test_lines_that_are_none(line: str) -> None:
    assert warnings_in(line) == []


def test_of_many_the_first_few_are_kept_each_once_and_cut() -> None:
    repeated = "".join(f"2024-05-01 12:00:{second:02} WARNING slow\n" for second in range(60))
    many = "".join(f"WARNING: {number} {'x' * 300}\n" for number in range(20))

    found = warnings_in(repeated + many)

    assert found[0] == "WARNING slow"
    assert [line[:10] for line in found[1:]] == [f"WARNING: {number}" for number in range(4)]
    assert {len(line) for line in found[1:]} == {200}
    assert found[1].endswith("x …")


def test_a_log_of_many_megabytes_is_looked_through_at_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    filling = b"a line of a log that says nothing, WARNING neither\n" * 400_000
    path.write_bytes(b"WARNING: first\n" + filling + b"WARNING: amid\n" + filling + b"WARNING: last\n")

    found = log_warnings.log_warnings(str(path), start=2)

    assert found == ["WARNING: last"]
    assert log_warnings.log_warnings(str(path)) == ["WARNING: first", "WARNING: last"]


def test_a_log_that_is_gone_has_no_warnings(tmp_path: Path) -> None:
    assert log_warnings.log_warnings(str(tmp_path / "none")) == []


@pytest.mark.parametrize("warm_start", [True, False], ids=["warm", "cold"])
def test_the_outcome_of_a_unit_has_the_warnings_of_its_own_try(tmp_path: Path, warm_start: bool) -> None:
    units = [
        {"say": "WARNING: out of focus", "output": {}},
        {"say": "all is well"},
        {"say": "WARNING: too dark", "exit": 3},
    ]
    run_batch(tmp_path, units, warm_start=warm_start)

    ran = run_batch(tmp_path, units, warm_start=warm_start)  # the failed one once more, into the same log

    assert ran.log(2).count("WARNING: too dark") == 2
    assert [outcome.warnings for outcome in ran.outcomes] == [
        ("WARNING: out of focus",),
        (),
        ("WARNING: too dark",),
    ]
