"""How commands speak, and what they say of themselves."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from fractal_airflow.cli.output import command, counted, print_error, print_rows
from fractal_airflow.exceptions import DatasetError
from tests.cli.conftest import Call

ROWS = [{"name": "[bold]:smile:", "types": {"is_3D": True}, "origin": None, "long": "x" * 500, "more": 1}]


def test_a_table_is_not_cut_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, ("name", "types", "origin", "long"))

    (line,) = [line for line in capfd.readouterr().out.splitlines() if "x" * 500 in line]
    assert line.split() == ["[bold]:smile:", "is_3D=yes", "x" * 500]


def test_json_has_what_the_table_leaves_out(capfd: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, ("name",), "json")

    assert json.loads(capfd.readouterr().out) == ROWS


def test_an_error_keeps_its_brackets_and_newlines(capfd: pytest.CaptureFixture[str]) -> None:
    print_error("[red]no[/red] such\nthing :smile: " + "x" * 300)

    assert capfd.readouterr().err == "error: [red]no[/red] such\nthing :smile: " + "x" * 300 + "\n"


@pytest.mark.parametrize(
    ("problem", "told"),
    [(DatasetError("no store"), "error: no store\n"), (KeyboardInterrupt(), "error: stopped\n")],
)
def test_a_command_ends_with_exit_code_1_and_a_line(
    call: Call, capfd: pytest.CaptureFixture[str], problem: BaseException, told: str
) -> None:
    @command
    def fail(args: object) -> None:
        raise problem

    with pytest.raises(SystemExit) as end:
        fail(SimpleNamespace())

    assert end.value.code == 1
    assert capfd.readouterr().err == told


def test_counted() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run"],
        *(
            ["dataset", name]
            for name in ("", "list", "show", "images", "export", "import", "versions", "diff")
        ),
        *(["dataset", name] for name in ("restore", "delete")),
        ["clean"],
        ["resource"],
        ["resource", "check"],
        ["workflow", "check"],
        ["package", "show"],
    ],
)
def test_every_command_has_a_help_text_that_fits_a_terminal(call: Call, words: list[str]) -> None:
    shown = call(*(word for word in words if word), "--help")

    assert shown.code == 0
    assert shown.out.startswith("Usage: ")
    assert max(len(line) for line in shown.out.splitlines()) <= 120


def test_a_command_that_is_called_wrongly_ends_with_exit_code_2(call: Call) -> None:
    assert call("run", "--workflow", "w.json").code == 2
