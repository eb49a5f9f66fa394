"""Finding task packages in environments and folders, and the commands of their tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.package import TaskPackage
from tests.unit.fractal.packages import (
    install,
    make_environment,
    manifest_of,
    project_task,
    segment_task,
    write_manifest,
)

MANIFEST = manifest_of(segment_task(), project_task())


@pytest.mark.parametrize("name", ["fractal-demo-tasks", "Fractal_Demo.Tasks", "FRACTAL--demo_tasks"])
def test_an_installed_package_is_found_by_any_spelling_of_its_name(tmp_path: Path, name: str) -> None:
    folder = install(make_environment(tmp_path), "fractal-demo-tasks", "1.2.3", MANIFEST)

    package = TaskPackage.from_environment(tmp_path, name)

    assert (package.name, package.version) == ("fractal-demo-tasks", "1.2.3")
    assert package.directory == folder
    assert package.python == str(tmp_path / "bin" / "python")
    assert package.manifest.task_names == ["Segment", "Project"]


def test_a_package_whose_folder_has_another_name_is_found(tmp_path: Path) -> None:
    folder = install(make_environment(tmp_path), "demo-tasks", "1.0", MANIFEST, folder="tasks_of_the_lab")

    assert TaskPackage.from_environment(tmp_path, "demo-tasks").directory == folder
    assert TaskPackage.from_directory(folder).name == "demo-tasks"


def test_an_editable_install_is_found(tmp_path: Path) -> None:
    site = make_environment(tmp_path / "env")
    source = write_manifest(tmp_path / "source" / "src" / "demo_tasks", MANIFEST).parent
    install(site, "demo-tasks", "1.0.dev1", None, folder="other")
    (site / "_demo_tasks.pth").write_text(f"import sys\n{source.parent}\n")
    with (site / "demo_tasks-1.0.dev1.dist-info" / "RECORD").open("a") as record:
        record.write("\n_demo_tasks.pth,,\n")

    package = TaskPackage.from_environment(tmp_path / "env", "demo-tasks")

    assert (package.directory, package.version) == (source, "1.0.dev1")


def test_a_package_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    install(make_environment(tmp_path), "demo-tasks", "1.0", MANIFEST)

    with pytest.raises(
        WorkflowError, match=r"no package demo-task in .*has these Fractal task packages: demo_tasks"
    ):
        TaskPackage.from_environment(tmp_path, "demo-task")


def test_a_package_without_a_manifest_is_refused(tmp_path: Path) -> None:
    install(make_environment(tmp_path), "numpy", "2.0", None)

    with pytest.raises(WorkflowError, match=r"numpy in .* is no Fractal task package"):
        TaskPackage.from_environment(tmp_path, "numpy")


def test_an_environment_without_an_interpreter_is_refused(tmp_path: Path) -> None:
    install(make_environment(tmp_path, python=False), "demo-tasks", "1.0", MANIFEST)

    with pytest.raises(WorkflowError, match=r"no Python environment.* no bin/python"):
        TaskPackage.from_environment(tmp_path, "demo-tasks")


def test_a_folder_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="nowhere is no Python environment"):
        TaskPackage.from_environment(tmp_path / "nowhere", "demo-tasks")


@pytest.mark.parametrize("of_manifest", [False, True])
def test_the_folder_of_an_installed_package_knows_its_name_version_and_interpreter(
    tmp_path: Path, of_manifest: bool
) -> None:
    folder = install(make_environment(tmp_path), "Demo-Tasks", "2.0", MANIFEST)

    package = TaskPackage.from_directory(folder / "__FRACTAL_MANIFEST__.json" if of_manifest else folder)

    assert (package.name, package.version) == ("Demo-Tasks", "2.0")
    assert package.directory == folder
    assert package.python == str(tmp_path / "bin" / "python")


@pytest.mark.parametrize("place", ["package/bin", "package/.venv/bin", "bin"])
def test_an_interpreter_beside_a_folder_is_taken(tmp_path: Path, place: str) -> None:
    write_manifest(tmp_path / "package", MANIFEST)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "python").touch()

    assert TaskPackage.from_directory(tmp_path / "package").python == str(tmp_path / place / "python")


def test_a_folder_alone_is_named_after_itself_and_run_by_python3(tmp_path: Path) -> None:
    write_manifest(tmp_path / "my_tasks", MANIFEST)

    package = TaskPackage.from_directory(str(tmp_path / "my_tasks"))

    assert (package.name, package.version, package.python) == ("my_tasks", None, "python3")


def test_a_manifest_may_tell_the_name_and_version_of_its_package(tmp_path: Path) -> None:
    write_manifest(tmp_path / "src", manifest_of(segment_task(), pkg_name="lab-tasks", version="0.3"))

    package = TaskPackage.from_directory(tmp_path / "src")

    assert (package.name, package.version) == ("lab-tasks", "0.3")


def test_the_given_interpreter_is_taken(tmp_path: Path) -> None:
    folder = install(make_environment(tmp_path), "demo-tasks", "1.0", MANIFEST)

    assert TaskPackage.from_directory(folder, python="/opt/python").python == "/opt/python"


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_a_manifest_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkflowError, match="is no task package: give the folder"):
        TaskPackage.from_directory(tmp_path / name)


def test_a_command_is_the_interpreter_and_the_script_whatever_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "it's $(my) tasks"
    write_manifest(folder, MANIFEST)
    package = TaskPackage.from_directory(folder, python="/opt/my python")

    assert package.command(package.manifest.task("Project"), "non_parallel") == [
        "/opt/my python",
        f"{folder}/tasks/init.py",
    ]


def test_a_command_written_by_hand_is_split_into_arguments_and_runs_without_a_shell(tmp_path: Path) -> None:
    command = "/opt/r/bin/Rscript --vanilla '/opt/my tasks/segment.R' $(reboot)"
    write_manifest(tmp_path, manifest_of(segment_task(executable_parallel=..., command_parallel=command)))
    package = TaskPackage.from_directory(tmp_path)

    assert package.command(package.manifest.task("Segment"), "parallel") == [
        "/opt/r/bin/Rscript",
        "--vanilla",
        "/opt/my tasks/segment.R",
        "$(reboot)",
    ]


def test_a_command_that_a_task_does_not_have_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    package = TaskPackage.from_directory(tmp_path)

    with pytest.raises(
        WorkflowError, match=r"'Segment' .* is of type parallel: it has no non_parallel command"
    ):
        package.command(package.manifest.task("Segment"), "non_parallel")


def test_a_relative_interpreter_is_that_of_the_folder_in_which_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path / "tasks", MANIFEST)
    monkeypatch.chdir(tmp_path)

    package = TaskPackage.from_directory("tasks", python="env/bin/python")

    assert package.python == str(tmp_path / "env" / "bin" / "python")
