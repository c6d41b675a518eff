"""Write a dashboard's spec, and send it to W&B if there is a login."""

from __future__ import annotations

from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import wandb
import wandb_workspaces.workspaces as workspaces

from portraitlab.support.files import read_json, write_json
from portraitlab.tables.dashboard.workspace import WorkspaceContent, build_workspace


def write_dashboard(
    compared: WorkspaceContent, folder: Path, entity: str | None, project: str
) -> tuple[Path, str | None]:
    """Write dashboard.json to a folder, and apply it if W&B has a login.

    entity: W&B's user or team; None for the login's own. A dashboard that was applied before is
    updated in place.

    Returns the spec's path and the workspace's address, None without a login. Raises ValueError if
    there is a login and W&B cannot be reached or does not accept the spec.
    """
    # Write the spec, with the workspace that it was applied to before.
    path = folder / "dashboard.json"
    before = read_json(path) or {}
    workspace = build_workspace(compared, entity or "", project)
    applied = before.get("applied")
    write_json(path, {**_spec(workspace), "applied": applied})
    # Apply it.
    try:
        if not wandb.login(prompt=False, verify=False):
            return path, None
        _reach(str(wandb.setup().settings.base_url))
        wandb.login(prompt=False)
        workspace.entity = entity or str(wandb.Api().default_entity)
        if applied is not None and before["entity"] == workspace.entity:
            workspace._internal_name, workspace._internal_id = applied["name"], applied["id"]
        workspace.save()
    except (wandb.errors.Error, OSError) as error:
        raise ValueError(
            f"the dashboard is written to {path}, and W&B did not take it: {error}; run the same "
            "command again when W&B can be reached"
        ) from error
    applied = {"name": workspace._internal_name, "id": workspace._internal_id}
    write_json(path, {**_spec(workspace), "applied": applied})
    return path, str(workspace.url)


def _reach(address: str) -> None:
    """Check that a server answers at an address; raises OSError otherwise.

    W&B's own client keeps trying, which can delay the end of the process by minutes.
    """
    try:
        urlopen(address, timeout=10).close()
    except HTTPError:  # an answer
        return
    except URLError as error:
        if not isinstance(error.reason, SSLError):  # W&B's client may know the certificate
            raise OSError(f"{address} does not answer ({error.reason})") from error


def _spec(workspace: workspaces.Workspace) -> dict[str, Any]:
    """Return the spec as the library sends it."""
    view = workspace._to_model()
    return {
        "entity": view.entity,
        "project": view.project,
        "name": view.display_name,
        "spec": view.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
