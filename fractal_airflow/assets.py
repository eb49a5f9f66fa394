"""
Datasets as Airflow sees them: assets, so that a DAG can start when another one has changed a dataset.

Their URI is ``fractal://STORE/NAME``: the dataset store's connection (or ``local``), and the dataset's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote

from airflow.sdk import Asset, AssetAlias, conf

SCHEME = "fractal"
FORM = f"{SCHEME}://STORE/NAME"
LOCAL_STORE = "local"

DATASETS = AssetAlias("fractal_datasets")
"""The outlet of every merge: which dataset a run works on is known only when it runs."""


@dataclass(frozen=True)
class FractalDataset:
    """
    A dataset that a DAG file names: ``schedule=[FractalDataset("raw").asset]``.

    :param name: the dataset's name; it need not exist yet.
    :raises ValueError: where the name is empty.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"FractalDataset: {self.name!r} is not the name of a dataset")

    @property
    def uri(self) -> str:
        """``fractal://STORE/NAME``, where STORE is the setting ``dataset_conn_id``, or ``local``."""
        store = conf.get("fractal_airflow", "dataset_conn_id", fallback="") or LOCAL_STORE
        return f"{SCHEME}://{_quoted(store)}/{_quoted(self.name)}"

    @property
    def asset(self) -> Asset:
        """What Airflow schedules by; the UI shows it as ``dataset NAME``."""
        # No group and no extra: Airflow gives none to the assets that events through an alias make, and a
        # merge's event must be of this very asset.
        return Asset(name=f"dataset {self.name}", uri=self.uri)


def normalise_uri(uri: SplitResult) -> SplitResult:
    """
    Percent-encode the URI of a dataset, so that one dataset has one URI; Airflow calls it for every asset.

    :raises ValueError: where it is not ``fractal://STORE/NAME``.
    """
    store, name = unquote(uri.netloc), unquote(uri.path.removeprefix("/"))
    wrong = ""
    if not store:
        wrong = f"it names no store: write the setting dataset_conn_id, or {LOCAL_STORE!r} where it is empty"
    elif not name.strip():
        wrong = "it names no dataset"
    elif any(each in uri.netloc for each in "@:"):
        wrong = "STORE is the id of a connection, not a host: it has no user, password or port"
    elif uri.query:
        wrong = "a question mark in a dataset's name is written %3F"
    if wrong:
        raise ValueError(f"The asset URI {uri.geturl()!r} is not {FORM}: {wrong}")
    return uri._replace(netloc=_quoted(store), path=f"/{_quoted(name)}")


def _quoted(text: str) -> str:
    return quote(text, safe="")
