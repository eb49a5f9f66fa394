"""How the commands ``airflow fractal …`` are called; each is written in the module that it names."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

_WORKFLOW_HELP = "a workflow file: exported from the Fractal web client, or written by hand"
_FOLDER_HELP = "the folder of an installed package, or the __FRACTAL_MANIFEST__.json in it"
_PACKAGE_HELP = f"""\
a task package of the workflow; give the option once for each:
{_FOLDER_HELP},
then, after a colon, the Python that runs its tasks (default: that of
the environment which the package is in, else one beside it, else python3)"""

_NAME = Arg(("name",), metavar="NAME", help="the dataset's name")
_OUTPUT = Arg(
    ("-o", "--output"),
    choices=("table", "json"),
    default="table",
    help="default: table; json is for scripts",
)
_AT_VERSION = Arg(
    ("--at-version",), type=int, metavar="VERSION", help="as of this version (default: the newest)"
)
_WORKFLOW = Arg(("--workflow",), required=True, metavar="W.json", help=_WORKFLOW_HELP)
_WORKFLOW_FILE = Arg(("workflow",), metavar="W.json", help=_WORKFLOW_HELP)
_PACKAGE = Arg(
    ("--package",), action="append", required=True, metavar="DIR_OR_MANIFEST[:PYTHON]", help=_PACKAGE_HELP
)

_RUN = ActionCommand(
    name="run",
    help="Run a workflow here and now, without a scheduler",
    description="""\
Runs a workflow in this process, with the very operators of a DAG, on a dataset
that is made if there is none. Nothing runs where the workflow, an argument or a
filter is wrong. A step whose unit fails is the last one, but with --on-failure
continue; what its other units returned is kept, and a later run can go on with
--first-task-index, or --process failed.

Shows each step and how far it is. The exit code is 0 where all units of all
steps succeeded, else 1. Ctrl-C ends the units that run.

Airflow's own database is only read, and only for connections. Arguments may be
templates; the variables and connections in them come from the environment
(AIRFLOW_VAR_…, AIRFLOW_CONN_…).""",
    epilog="""\
example:
  airflow fractal run --workflow nuclei.json --dataset plate_42 --zarr-dir /data/plate_42 \\
    --package /opt/core/lib/python3.11/site-packages/fractal_tasks_core""",
    func=lazy_load_command("fractal_airflow.cli.run.run"),
    args=(
        _WORKFLOW,
        _PACKAGE,
        Arg(("--dataset",), required=True, metavar="NAME", help="the dataset; it is made if there is none"),
        Arg(
            ("--zarr-dir",),
            required=True,
            metavar="DIR",
            help="the dataset's folder (absolute, or s3://…), below which tasks make OME-Zarrs",
        ),
        Arg(
            ("--images",),
            metavar="IMAGES.json",
            help="the images that a new dataset starts with: a JSON list of images,\nor a dataset export",
        ),
        Arg(
            ("--attribute-filters",),
            metavar="JSON",
            help='process only images with these attributes: \'{"well": ["B03", "B04"]}\'',
        ),
        Arg(
            ("--type-filters",),
            metavar="JSON",
            help="the types that the first step's images have: '{\"is_3D\": true}'",
        ),
        Arg(
            ("--process",),
            choices=("all", "pending", "failed"),
            default="all",
            help="which of the images that pass the filters: all; pending, not yet done or\n"
            "changed since; or those that failed (default: all)",
        ),
        Arg(
            ("--on-failure",),
            choices=("stop", "continue"),
            default="stop",
            help="after a step with failed images: stop, or continue without them (default: stop)",
        ),
        Arg(
            ("--arguments",),
            metavar="JSON",
            help="arguments for this run alone, named as in the trigger form:\n"
            '\'{"0_project.args_parallel.method": "mean"}\'',
        ),
        Arg(("--first-task-index",), type=int, metavar="N", help="the first step that runs, counted from 0"),
        Arg(("--last-task-index",), type=int, metavar="N", help="the last step that runs, counted from 0"),
        Arg(
            ("--resource",),
            default="local",
            metavar="NAME",
            help="where units run: an Airflow connection of type fractal\n(default: local, this machine)",
        ),
        Arg(
            ("--result",),
            metavar="FILE",
            help="write what became of images, steps and units to this file, as JSON:\n"
            '{"status": "done" or "failed", "error", "images", "steps": [{"index",\n'
            '"name", "status", "units": [{"zarr_urls", "status", "error"?}]}]}',
        ),
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
            help="Show a dataset: its folder, its version, which attributes and types its images have",
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
                    help="only images with this attribute; given again, the same key adds a value,\n"
                    "and another key narrows the list further",
                ),
                _AT_VERSION,
                _OUTPUT,
            ),
        ),
        ActionCommand(
            name="export",
            help="Print a dataset as Fractal's JSON",
            description="Prints a dataset as JSON: its name, zarr_dir and images. `import` reads it.",
            func=lazy_load_command("fractal_airflow.cli.datasets.export"),
            args=(_NAME, _AT_VERSION),
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
            help="List a dataset's versions: when, by which run and task, and how many images changed",
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
            help="Forget a dataset, its versions and its history; its OME-Zarrs on disk stay",
            func=lazy_load_command("fractal_airflow.cli.datasets.delete"),
            args=(_NAME, Arg(("-y", "--yes"), action="store_true", help="do not ask")),
        ),
    ),
)

_STEP = Arg(("--step",), metavar="STEP", help="only this step: its number, or its name or its task's")
_RUN_ID = Arg(("--run",), metavar="RUN", help="only this run, by its Airflow run id")
_DAG_ID = Arg(
    ("--dag",), metavar="DAG", help="only runs of this DAG: those of two DAGs may have the same run ids"
)

_HISTORY = ActionCommand(
    name="history",
    help="Show what became of a dataset's images at every step",
    description="""\
Shows the newest record for each step and image: its status, the run and the try,
when it began, how long it took and how much memory, the fingerprint of what the
result depends on, how many warnings are in its log, why it failed, and where the
log is. Statuses: submitted (a run works on it), done, failed; unset: the image has
no record at the step.

Before it shows, images that were submitted to a run which has ended since, killed,
say, become failed.""",
    epilog="""\
examples:
  airflow fractal history plate_42 --status failed
  airflow fractal history plate_42 --image B/03/0 --all""",
    func=lazy_load_command("fractal_airflow.cli.history.history"),
    args=(
        _NAME,
        Arg(("--image",), metavar="IMAGE", help="only this image: its zarr_url, or the end of it, as B/03/0"),
        _STEP,
        _RUN_ID,
        _DAG_ID,
        Arg(("--status",), choices=("submitted", "done", "failed", "unset"), help="only this status"),
        Arg(("--all",), action="store_true", help="every run, not only the newest record of each image"),
        _OUTPUT,
    ),
)

_LOGS = ActionCommand(
    name="logs",
    help="Print the log of the unit that processed an image",
    description="""\
Prints the log of the unit that processed an image last: at the last step that the
image came to. The log is read where it lies: on this machine, or on the cluster.""",
    epilog="""\
example:
  airflow fractal logs plate_42 B/03/0 --step "Measure Features\"""",
    func=lazy_load_command("fractal_airflow.cli.logs.logs"),
    args=(
        _NAME,
        Arg(
            ("image",),
            nargs="?",
            metavar="IMAGE",
            help="its zarr_url, or the end of it, as B/03/0; none for a step without images: a converter",
        ),
        _STEP,
        _RUN_ID,
        _DAG_ID,
    ),
)

_WORKFLOW_GROUP = GroupCommand(
    name="workflow",
    help="Check workflows",
    subcommands=(
        ActionCommand(
            name="check",
            help="Check a workflow against its task packages, and name everything that is wrong with it",
            description="""\
Makes all checks that are made when a DAG file is parsed: tasks and their versions,
arguments against the packages' schemas, reserved arguments, type filters, how tasks
are to run. The exit code is 0 where nothing is wrong, else 1.""",
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
            args=(Arg(("package",), metavar="DIR", help=_FOLDER_HELP), _OUTPUT),
        ),
    ),
)

_CLEAN = ActionCommand(
    name="clean",
    help="Remove the folders of runs that finished long ago",
    description="""\
Removes run folders (WORK_DIR/DAG_ID/RUN_ID: arguments, outputs and logs of units)
of runs that finished long enough ago, and in which nothing was written since.
Datasets, images and Airflow's own runs and logs are not touched.

A run that Airflow's metadata database has as not finished is never touched,
nor one with a live job. A run that it does not know (it was deleted there, or
was one of `airflow fractal run`) goes once it is old. So run this where the
scheduler's settings are; and for the resource `local`, on the worker.

The exit code is 1 where something could not be cleaned. Meant for cron.""",
    epilog="""\
example:
  airflow fractal clean --older-than 30d --dry-run""",
    func=lazy_load_command("fractal_airflow.cli.clean.clean"),
    args=(
        Arg(
            ("--older-than",),
            metavar="AGE",
            help="30d, 12h or 2w (default: [fractal_airflow] clean_after_days)",
        ),
        Arg(
            ("--resource",),
            action="append",
            metavar="NAME",
            help="clean this resource; give the option once for each (default: local\nand all "
            "connections of type fractal of the database and the environment)",
        ),
        Arg(("--dry-run",), action="store_true", help="only show what would be removed"),
        Arg(
            ("--no-airflow",),
            action="store_true",
            help="there is no Airflow but `airflow fractal run`: all old folders are finished",
        ),
        _OUTPUT,
    ),
)

_RESOURCE_GROUP = GroupCommand(
    name="resource",
    help="Look at resources: where units run",
    subcommands=(
        ActionCommand(
            name="check",
            help="Check whether a resource works, and say what to do where it does not",
            description="""\
Connects, runs every SLURM command that will be needed, has a one-second job run,
and shows versions, partitions, limits and round-trip times. What is wrong is said
with what can be done about it.

The exit code is 1 where the resource cannot be used, else 0. Run it where Airflow
workers run, and as their user.""",
            epilog="""\
example:
  airflow fractal resource check hpc""",
            func=lazy_load_command("fractal_airflow.cli.resource_check.check"),
            args=(
                Arg(("name",), metavar="NAME", help="an Airflow connection of type fractal, or: local"),
                Arg(("--no-job",), action="store_true", help="submit no job"),
                Arg(
                    ("--gpu",),
                    action="store_true",
                    help="submit a second job, which asks for a GPU (gpu_slurm_config)",
                ),
                Arg(("--account",), metavar="ACCOUNT", help="the account that the job is charged to"),
                Arg(
                    ("--wait",),
                    type=float,
                    default=60.0,
                    metavar="SECONDS",
                    help="how long the job may wait for its start (default: 60)",
                ),
                _OUTPUT,
            ),
        ),
    ),
)

FRACTAL = GroupCommand(
    name="fractal",
    help="Run Fractal workflows and look after their datasets",
    subcommands=(_RUN, _DATASET, _HISTORY, _LOGS, _WORKFLOW_GROUP, _PACKAGE_GROUP, _RESOURCE_GROUP, _CLEAN),
)
