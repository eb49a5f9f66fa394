from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_airflow.execution.slurm.framing import after_marker, command_line, marked, new_marker

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def test_the_line_is_what_every_shell_takes() -> None:
    assert command_line(["squeue", "--name=it's"], "==mark==") == (
        "exec /bin/sh -c 'eval \"$(echo ZXhlYyAvYmluL3NoIC1jICdwcmludGYgJXMgIiQxIjsgcHJpbnRmICVzICIkMSIgPiYyCnNoaWZ0C"
        "iIkQCIKZXhpdCAkPycgc2ggPT1tYXJrPT0gc3F1ZXVlICctLW5hbWU9aXQnIiciJ3Mn | base64 -d)\"'"
    )


@given(st.lists(TEXTS, max_size=5))
def test_a_shell_hands_on_every_text_as_it_is(arguments: list[str]) -> None:
    marker = new_marker()
    line = command_line(["printf", "%s\\0", "first", *arguments], marker)
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    texts = ["first", *arguments]
    assert after_marker(done.stdout, marker) == "".join(f"{text}\0" for text in texts).encode()
    assert after_marker(done.stderr, marker) == b""


def test_what_the_login_shell_printed_is_cut_off() -> None:
    assert after_marker(b"Welcome!\n==m==out ==m==", "==m==") == b"out ==m=="
    assert after_marker(b"Welcome!\n", "==m==") is None


def test_every_marker_is_another() -> None:
    assert new_marker() != new_marker()


def test_an_argument_list_can_be_marked_without_a_shell_that_reads_it() -> None:
    assert marked(["id"], "==m==")[-2:] == ["==m==", "id"]


def test_arguments_that_no_command_can_have() -> None:
    with pytest.raises(ValueError, match="NUL"):
        command_line(["a\0b"], "m")
    with pytest.raises(ValueError, match="too long for SSH"):
        command_line(["x" * 200_000], "m")
