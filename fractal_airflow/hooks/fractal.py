"""The Airflow connection type ``fractal``: from a connection to a resource."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from fractal_airflow.exceptions import ResourceError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from fractal_airflow.execution.resource import Resource, ResourceConfig

LOCAL = "local"


class FractalHook(BaseHook):
    """
    Gives the resource on which the units of a step run.

    :param fractal_conn_id: an Airflow connection of type ``fractal``. The name ``local`` needs no connection:
        without one it is this machine, with as many units at once as it has cores.
    """

    conn_name_attr = "fractal_conn_id"
    default_conn_name = LOCAL
    conn_type = "fractal"
    hook_name = "Fractal resource"

    def __init__(self, fractal_conn_id: str = LOCAL) -> None:
        super().__init__()
        self.fractal_conn_id = fractal_conn_id

    def get_conn(self) -> Resource:
        """
        Return the resource.

        :raises ResourceError: where there is no such connection, or its fields do not make a resource.
        """
        from fractal_airflow.execution.resource import make_resource

        try:
            return make_resource(self.get_configuration())
        except ResourceError as error:
            raise ResourceError(f"Resource {self.fractal_conn_id!r}: {error}") from error

    def get_configuration(self) -> dict[str, Any]:
        """Return the resource's configuration: the connection's fields; on this machine, with a work folder."""
        try:
            return self._configuration(self.get_connection(self.fractal_conn_id))
        except AirflowNotFoundException:
            return self._without_connection()

    async def aget_config(self) -> ResourceConfig:
        """
        Return the resource's checked configuration, in a trigger, whose event loop must not wait.

        :raises ResourceError: as :meth:`get_conn`.
        """
        from fractal_airflow.execution.resource import load_resource_config

        try:
            configuration = self._configuration(await self.aget_connection(self.fractal_conn_id))
        except AirflowNotFoundException:
            configuration = self._without_connection()
        try:
            return load_resource_config(configuration)
        except ResourceError as error:
            raise ResourceError(f"Resource {self.fractal_conn_id!r}: {error}") from error

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the connection makes a usable resource, for the button in the UI: connect, and ask."""
        try:
            resource = self.get_conn()
        except ResourceError as error:
            return False, str(error)
        if resource.type != LOCAL:
            from fractal_airflow.execution.slurm.checking import look_at

            return look_at(self.get_configuration())
        return (
            True,
            f"A {resource.type} resource, {resource.slots} batches at once, runs in {resource.work_dir}",
        )

    def _configuration(self, connection: Connection) -> dict[str, Any]:
        if connection.conn_type != self.conn_type:
            raise ResourceError(
                f"The Airflow connection {self.fractal_conn_id!r} is of type {connection.conn_type!r}, "
                "not 'fractal'"
            )
        extra = self._extra(connection)
        given = {key: value for key, value in extra.items() if value not in (None, "")}
        # A cluster's work folder is nowhere on this machine. Fractal's own resources call it otherwise.
        if given.get("type", LOCAL) == LOCAL and not {"work_dir", "jobs_remote_dir"} & given.keys():
            given["work_dir"] = conf.get("fractal_airflow", "work_dir")
        return given

    def _extra(self, connection: Connection) -> Mapping[str, Any]:
        """Return the extra field. Airflow itself takes what it cannot read for empty: that would be ``local``."""
        try:
            extra = json.loads((connection.extra or "").strip() or "{}")
        except ValueError as error:
            raise ResourceError(
                f"The extra field of the Airflow connection {self.fractal_conn_id!r} is no JSON: {error}"
            ) from None
        if not isinstance(extra, dict):
            raise ResourceError(
                f"The extra field of the Airflow connection {self.fractal_conn_id!r} is no JSON object"
            )
        return connection.extra_dejson

    def _without_connection(self) -> dict[str, Any]:
        if self.fractal_conn_id != LOCAL:
            raise ResourceError(
                f"There is no Airflow connection {self.fractal_conn_id!r}: "
                "add one of type 'fractal', or use the resource 'local'"
            ) from None
        return {"type": LOCAL, "work_dir": conf.get("fractal_airflow", "work_dir")}
