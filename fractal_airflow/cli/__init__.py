"""The commands ``airflow fractal …``: this file declares them; each is written in the module that it names."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_WORKFLOW_HELP = "workflow file: as exported from the Fractal web client, or written by hand"
_PACKAGE_HELP = (
    "a task package that the workflow uses: the folder of an installed package, or its __FRACTAL_MANIFEST__.json, "
    "and, after a colon, the Python interpreter that runs its tasks (default: the one of the environment that it "
    "is installed in, else the one beside it, else python3). Once for every package"
)

_NAME = Arg(("name",), help="the dataset's name")
_OUTPUT = Arg(
    ("-o", "--output"), choices=("table", "json"), default="table", help="table (default), or json for scripts"
)
_WORKFLOW = Arg(("--workflow",), required=True, metavar="W.json", help=_WORKFLOW_HELP)
_WORKFLOW_FILE = Arg(("workflow",), metavar="W.json", help=_WORKFLOW_HELP)
_PACKAGE = Arg(
    ("--package",), action="append", required=True, metavar="DIR_OR_MANIFEST[:PYTHON]", help=_PACKAGE_HELP
)

_RUN = ActionCommand(
    name="run",
    help="Run a workflow here and now, without a scheduler",
    description=(
        "Runs a workflow from its first to its last step in this process, with the very operators of a DAG, on a "
        "dataset that is made, or goes on where it was. Prints a line per step and its progress. "
        "The exit code is 0 where every unit of every step succeeded, else 1."
    ),
    epilog=(
        "example: airflow fractal run --workflow nuclei.json --package /opt/core/lib/python3.11/site-packages/"
        "fractal_tasks_core --dataset plate_42 --zarr-dir /data/plate_42"
    ),
    func=lazy_load_command("fractal_airflow.cli.run.run"),
    args=(
        _WORKFLOW,
        _PACKAGE,
        Arg(("--dataset",), required=True, metavar="NAME", help="the dataset; it is made if there is none"),
        Arg(("--zarr-dir",), required=True, metavar="DIR", help="absolute folder under which tasks make OME-Zarrs"),
        Arg(
            ("--images",),
            metavar="IMAGES.json",
            help="the images that a new dataset starts with: a JSON list of images, or a dataset export",
        ),
        Arg(
            ("--attribute-filters",),
            metavar="JSON",
            help='process only images with these attributes, such as \'{"well": ["B03", "B04"]}\'',
        ),
        Arg(
            ("--type-filters",), metavar="JSON", help='the types that the run starts from, such as \'{"is_3D": true}\''
        ),
        Arg(("--first-task-index",), type=int, metavar="N", help="first step that runs, counted from 0"),
        Arg(("--last-task-index",), type=int, metavar="N", help="last step that runs, counted from 0"),
        Arg(
            ("--resource",),
            default="local",
            metavar="NAME",
            help="where units run: an Airflow connection of type fractal (default: local, this machine)",
        ),
        Arg(("--result",), metavar="FILE", help="write what became of images, steps and units to this JSON file"),
    ),
)

_DATASET = GroupCommand(
    name="dataset",
    help="Look at datasets, and take them in and out of the dataset store",
    subcommands=(
        ActionCommand(
            name="list",
            help="List all datasets",
            func=lazy_load_command("fractal_airflow.cli.datasets.list_datasets"),
            args=(_OUTPUT,),
        ),
        ActionCommand(
            name="show",
            help="Show a dataset: its folder, version, and what attributes and types its images have",
            func=lazy_load_command("fractal_airflow.cli.datasets.show"),
            args=(_NAME, _OUTPUT),
        ),
        ActionCommand(
            name="images",
            help="List the images of a dataset",
            func=lazy_load_command("fractal_airflow.cli.datasets.images"),
            args=(
                _NAME,
                Arg(
                    ("--attribute",),
                    action="append",
                    metavar="K=V",
                    help="only images with this attribute; the same key again: or; another key: and",
                ),
                Arg(("--at-version",), type=int, metavar="VERSION", help="as of this version (default: the newest)"),
                _OUTPUT,
            ),
        ),
        ActionCommand(
            name="export",
            help="Print a dataset as Fractal's JSON",
            func=lazy_load_command("fractal_airflow.cli.datasets.export"),
            args=(
                _NAME,
                Arg(("--at-version",), type=int, metavar="VERSION", help="as of this version (default: the newest)"),
            ),
        ),
        ActionCommand(
            name="import",
            help="Make a dataset from Fractal's JSON",
            description="Makes a dataset from a file with name, zarr_dir and images, as `export` prints it.",
            func=lazy_load_command("fractal_airflow.cli.datasets.import_"),
            args=(Arg(("file",), metavar="FILE", help="the JSON file"),),
        ),
        ActionCommand(
            name="versions",
            help="List a dataset's versions: when, by which run and step, and how many images changed",
            func=lazy_load_command("fractal_airflow.cli.datasets.versions"),
            args=(_NAME, _OUTPUT),
        ),
        ActionCommand(
            name="diff",
            help="Show which images differ between two versions",
            func=lazy_load_command("fractal_airflow.cli.datasets.diff"),
            args=(
                _NAME,
                Arg(("a",), type=int, metavar="A", help="the older version"),
                Arg(("b",), type=int, metavar="B", help="the newer version"),
                _OUTPUT,
            ),
        ),
        ActionCommand(
            name="restore",
            help="Make the image list what it was at a version; the versions since then are kept",
            func=lazy_load_command("fractal_airflow.cli.datasets.restore"),
            args=(_NAME, Arg(("to_version",), type=int, metavar="VERSION", help="the version to go back to")),
        ),
        ActionCommand(
            name="delete",
            help="Forget a dataset, its versions and its history; its OME-Zarrs on disk are left alone",
            func=lazy_load_command("fractal_airflow.cli.datasets.delete"),
            args=(_NAME, Arg(("-y", "--yes"), action="store_true", help="do not ask")),
        ),
    ),
)

_WORKFLOW_GROUP = GroupCommand(
    name="workflow",
    help="Check workflows",
    subcommands=(
        ActionCommand(
            name="check",
            help="Check a workflow against its task packages, and name everything that is wrong with it",
            description=(
                "Makes all checks that are made when a DAG file is parsed: tasks and versions, arguments against the "
                "packages' schemas, reserved arguments, type filters, how tasks are to run. The exit code is 0 "
                "where all is well, else 1."
            ),
            func=lazy_load_command("fractal_airflow.cli.workflows.check"),
            args=(_WORKFLOW_FILE, _PACKAGE),
        ),
    ),
)

_PACKAGE_GROUP = GroupCommand(
    name="package",
    help="Look at task packages",
    subcommands=(
        ActionCommand(
            name="show",
            help="List the tasks of a package",
            func=lazy_load_command("fractal_airflow.cli.workflows.show_package"),
            args=(
                Arg(("package",), metavar="DIR", help="folder of an installed package, or its __FRACTAL_MANIFEST__.json"),
                _OUTPUT,
            ),
        ),
    ),
)


def get_commands() -> list[CLICommand]:
    """Return the provider's commands, for Airflow's command line."""
    return [
        GroupCommand(
            name="fractal",
            help="Run Fractal workflows and look after their datasets",
            subcommands=(_RUN, _DATASET, _WORKFLOW_GROUP, _PACKAGE_GROUP),
        )
    ]
