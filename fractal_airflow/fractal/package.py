"""Task packages: an installed manifest, and the interpreter that runs its tasks."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.manifest import MANIFEST_FILE, Half, Manifest, TaskManifest, load_manifest


@dataclass(frozen=True)
class TaskPackage:
    """
    A task package and the interpreter that runs its tasks.

    :param name: the package's name, as workflows name it in ``pkg_name``.
    :param version: its version; None where it is not known.
    :param directory: the folder that its manifest's executables are relative to.
    :param manifest: what it says about its tasks.
    :param python: the interpreter.
    """

    name: str
    version: str | None
    directory: Path
    manifest: Manifest = field(repr=False)
    python: str

    @classmethod
    def from_environment(cls, env_dir: str | os.PathLike[str], name: str) -> TaskPackage:
        """
        Return a package that is installed in a Python environment.

        :param env_dir: the environment's folder, which has ``bin/python`` in it.
        :param name: the package's name, in any spelling.
        :raises WorkflowError: where there is no such environment or package, or its manifest is wrong.
        """
        env = Path(env_dir).absolute()
        sites = sorted(env.glob("lib/python3*/site-packages"))
        python = env / "bin" / "python"
        if not sites or not python.exists():
            raise WorkflowError(
                f"{env} is no Python environment: it has no lib/python3*/site-packages or no bin/python"
            )
        for site in sites:
            for distribution in distributions(name=name, path=[str(site)]):
                manifest = _manifest_of(name, distribution, site)
                if manifest is None:
                    raise WorkflowError(
                        f"Package {name} in {env} is no Fractal task package: it has no {MANIFEST_FILE}"
                    )
                return cls._load(manifest, str(python), distribution)
        known = sorted(found.parent.name for site in sites for found in site.glob(f"*/{MANIFEST_FILE}"))
        raise WorkflowError(
            f"There is no package {name} in {env}: install it there; "
            f"it has these Fractal task packages: {', '.join(known) or 'none'}"
        )

    @classmethod
    def from_directory(cls, directory: str | os.PathLike[str], python: str | None = None) -> TaskPackage:
        """
        Return the package of a folder that has a manifest in it.

        :param directory: an installed package's folder, or its ``__FRACTAL_MANIFEST__.json``.
        :param python: the interpreter; default: that of the environment which the folder is in, else one
            beside the folder, else ``python3``.
        :raises WorkflowError: where there is no manifest, or it is wrong.
        """
        path = Path(directory).absolute()
        manifest = path / MANIFEST_FILE if path.is_dir() else path
        if not manifest.is_file():
            raise WorkflowError(
                f"{path} is no task package: give the folder that has a {MANIFEST_FILE} in it"
            )
        folder = manifest.parent
        interpreter = _absolute(python) if python else _python_of(folder)
        return cls._load(manifest, interpreter, _distribution_of(folder))

    @classmethod
    def _load(cls, path: Path, python: str, distribution: Distribution | None) -> TaskPackage:
        manifest = load_manifest(path)
        if distribution is not None:
            name, version = _name_and_version(distribution)
        else:
            # The manifest of a package that was never installed may tell its name and version.
            told = manifest.model_extra or {}
            name, version = told.get("pkg_name"), told.get("version")
        return cls(
            name=str(name or path.parent.name),
            version=None if version is None else str(version),
            directory=path.parent,
            manifest=manifest,
            python=python,
        )

    def command(self, task: TaskManifest, half: Half) -> list[str]:
        """
        Return a task's command, as an argument list.

        :raises WorkflowError: where the task has no such command.
        """
        executable = task.executable(half)
        if executable is not None:
            return [self.python, str(self.directory / executable)]
        command = task.command(half)
        if command is None:
            raise WorkflowError(
                f"Task {task.name!r} of {self.name} is of type {task.type}: it has no {half} command"
            )
        return shlex.split(command)


def _absolute(python: str) -> str:
    # Units run in a folder of their own, where a relative path leads nowhere; a bare name is sought in PATH.
    # Links stay: the interpreter of a virtual environment is one.
    return str(Path(python).absolute()) if "/" in python else python


def canonical_name(name: str) -> str:
    """Return the one spelling of a package's name that all its spellings have (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _name_and_version(distribution: Distribution) -> tuple[str | None, str | None]:
    # The properties of these names would each parse all of the metadata, the package's README too.
    head, _, _ = (distribution.read_text("METADATA") or "").partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    return fields.get("Name"), fields.get("Version")


def _manifest_of(name: str, distribution: Distribution, site: Path) -> Path | None:
    """Return the manifest that came with an installed package."""
    files = distribution.files or []
    for file in files:
        if file.name == MANIFEST_FILE:
            return Path(str(distribution.locate_file(file)))
    folder_name = canonical_name(name).replace("-", "_")
    roots = [site, *(root for file in files if file.suffix == ".pth" for root in _roots(site / file))]
    return next((path for root in roots if (path := root / folder_name / MANIFEST_FILE).is_file()), None)


def _roots(pth_file: Path) -> Iterator[Path]:
    """Return the folders that an editable install points to."""
    if pth_file.is_file():
        for line in pth_file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("/"):
                yield Path(line)


def _distribution_of(folder: Path) -> Distribution | None:
    """Return the installed package that a folder belongs to, if it is known."""
    site = [str(folder.parent)]
    for distribution in distributions(name=folder.name, path=site):
        return distribution
    mine = f"{folder.name}/{MANIFEST_FILE}"
    for distribution in distributions(path=site):
        if mine in (distribution.read_text("RECORD") or ""):
            return distribution
    return None


def _python_of(folder: Path) -> str:
    """Return the interpreter of the environment that a folder is in, or of one beside it."""
    candidates = [folder / "bin", folder / ".venv" / "bin", folder.parent / "bin"]
    if folder.parent.name == "site-packages" and folder.parents[1].name.startswith("python"):
        candidates.insert(0, folder.parents[3] / "bin")
    return next((str(path) for place in candidates if (path := place / "python").exists()), "python3")
