"""``understudy ui``: Dagster's UI and daemon, and MLflow's UI, on 127.0.0.1, until interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipelines import workspaces
from pipelines.definitions import WORKSPACE_VARIABLE
from pipelines.tracking import Tracker
from pipelines.versioning import Versioning

HOST = "127.0.0.1"


def commands(root: Path, dagster_port: int, mlflow_port: int) -> dict[str, list[str]]:
    """The two servers' command lines."""
    from ops.core.paths import Workspace

    uri = Tracker(Workspace(root)).prepare()
    beside = Path(sys.executable).parent
    servers = {
        "Dagster": [str(beside / "dagster"), "dev", "-m", "pipelines.definitions", "-h", HOST, "-p", str(dagster_port)],
        "MLflow": [
            str(beside / "mlflow"),
            "server",
            "--backend-store-uri",
            uri,
            "--host",
            HOST,
            "--port",
            str(mlflow_port),
        ],
    }
    if uri.startswith(("http://", "https://")):  # somebody else's server: nothing to serve here
        print(f"MLflow is at {uri}")
        del servers["MLflow"]
    return servers


def serve(root: Path, dagster_port: int, mlflow_port: int) -> int:
    """Start both and wait; when one ends or Ctrl-C is pressed, end the other. Returns the exit code."""
    Versioning(root)
    workspaces.dagster_home(root)
    signal.signal(signal.SIGTERM, _interrupt)
    environment = {**os.environ, WORKSPACE_VARIABLE: str(root), "MLFLOW_DISABLE_TELEMETRY": "true"}
    servers = {
        name: subprocess.Popen(command, env=environment, cwd=root)
        for name, command in commands(root, dagster_port, mlflow_port).items()
    }
    print(f"Dagster http://{HOST}:{dagster_port} · MLflow http://{HOST}:{mlflow_port} · Ctrl-C ends both", flush=True)
    try:
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.5)
        ended = next(name for name, server in servers.items() if server.poll() is not None)
        print(f"{ended} ended with exit code {servers[ended].returncode}; stopping the other", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers.values():
            server.terminate()
        for server in servers.values():
            _end(server)


def _interrupt(*_: object) -> None:
    """SIGTERM ends the servers as Ctrl-C does."""
    raise KeyboardInterrupt


def _end(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
