from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.airflow import AirflowHome
from tests.services.login_node import LoginNode, running_login_node
from tests.services.postgres import running_postgres
from tests.services.site import Site, running_site
from tests.services.slurm import SlurmCluster, running_slurm
from tests.services.trial import Trial


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    """A SLURM cluster of three nodes."""
    with running_slurm() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def login_node(cluster: SlurmCluster) -> Iterator[LoginNode]:
    """The cluster's login node."""
    with running_login_node(cluster) as node:
        yield node


@pytest.fixture(scope="session")
def shared_site(
    cluster: SlurmCluster, login_node: LoginNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A real Airflow beside the cluster, for all tests."""
    folder = tmp_path_factory.mktemp("site") / "home"
    with running_postgres() as postgres, running_site(folder, cluster, login_node, postgres) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The Airflow and its cluster, all of it running; what a test breaks is mended after it."""
    yield shared_site
    shared_site.mend()


@pytest.fixture
def home(site: Site, request: pytest.FixtureRequest) -> AirflowHome:
    """The home of the running Airflow, with image paths of this test's own, which jobs can write."""
    return site.home(request.node.name)


@pytest.fixture(scope="session")
def undisturbed(shared_site: Site) -> Any:
    """The image list of a trial that nothing disturbs."""
    trial = Trial(shared_site, "undisturbed").start()
    trial.finish()
    images = trial.images()
    trial.check(images)
    assert trial.measured() == [1, 1, 1, 1]
    return images


@pytest.fixture
def trial(site: Site, undisturbed: Any, request: pytest.FixtureRequest) -> Trial:
    """A run of this test's own."""
    return Trial(site, request.node.name.removeprefix("test_").replace("[", "_").rstrip("]"))
