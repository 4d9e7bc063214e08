"""Finds the other processes of a program, from arguments and the environment or from the cluster that started it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from research.errors import RequestError, one_line, require

STARTING_SECONDS = 300
"""Seconds that the processes wait for one another at the start."""


class Joining(NamedTuple):
    """The place of a process among the others of its program.

    Attributes:
      coordinator: HOST:PORT of process 0.
      processes: the number of processes.
      process: the number of this one.
      devices: numbers of the GPUs of this host that the process uses; None uses all.
    """

    coordinator: str
    processes: int
    process: int
    devices: tuple[int, ...] | None = None


def joining(
    processes: int | None, process: int | None, coordinator: str | None, environment: Mapping[str, str] = os.environ
) -> Joining | None:
    """Returns the place of this process among the others; None if it is alone.

    Arguments are those of `hosts.start`; missing ones are read from ESPALIER_PROCESSES, ESPALIER_PROCESS and
    JAX_COORDINATOR_ADDRESS, and then from the cluster.

    Raises:
      RequestError: this process would train alone although several are expected, or something is missing.
    """
    processes = _number(environment, "ESPALIER_PROCESSES") if processes is None else processes
    process = _number(environment, "ESPALIER_PROCESS") if process is None else process
    coordinator = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    if processes == 1:
        return None
    if process is None and coordinator is None:
        return _of_cluster(processes, environment)
    given = {"--processes N": processes, "--process I": process, "--coordinator HOST:PORT": coordinator}
    if missing := [option for option, value in given.items() if value is None]:
        raise RequestError(f"this process would train alone: expected {' and '.join(missing)} too, or --processes 1")
    require(0 <= process < processes, f"--process {process}: expected 0 to {processes - 1}, of --processes {processes}")
    host, _, port = coordinator.rpartition(":")
    require(bool(host) and port.isdecimal(), f"--coordinator {coordinator}: expected HOST:PORT of process 0")
    return Joining(coordinator, processes, process)


def _of_cluster(processes: int | None, environment: Mapping[str, str]) -> Joining | None:
    """Returns the place that the cluster gives this process; None if it started this process alone."""
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster, OmpiCluster, SlurmCluster

    clusters = {"SLURM": SlurmCluster, "Open MPI": OmpiCluster, "GKE": GkeTpuCluster, "Cloud TPU": GceTpuCluster}
    name = next((name for name, cluster in clusters.items() if cluster.is_env_present()), None)
    if name is None:
        tasks = environment.get("SLURM_NTASKS", "1")
        if processes is None and tasks.isdecimal() and int(tasks) > 1:
            raise RequestError(
                f"this process would train alone: SLURM gives the job {tasks} tasks, and this process is none of them; "
                "start it with srun, or give --processes 1"
            )
        if processes is None:
            return None
        raise RequestError(
            f"--processes {processes}: this process would train alone, as neither {', '.join(clusters)} started it; "
            "expected --process I and --coordinator HOST:PORT too"
        )
    cluster = clusters[name]
    try:
        found = cluster.get_process_count()
        if processes not in (None, found):
            raise RequestError(f"--processes {processes}: {name} starts {found}; expected the same number")
        if found == 1:
            return None
        port = environment.get("JAX_COORDINATOR_PORT")
        address = cluster.get_coordinator_address(timeout_secs=STARTING_SECONDS, override_coordinator_port=port)
        return Joining(address, found, cluster.get_process_id(), _devices(cluster, environment))
    except RequestError:
        raise
    except Exception as error:  # a metadata server, or a variable of the cluster
        said = f"{name} does not say which processes run this program ({one_line(error)})"
        raise RequestError(f"{said}; expected --processes N, --process I and --coordinator HOST:PORT") from error


def _devices(cluster: Any, environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """The GPUs of a process that shares its host with others; None if it has the host, or its GPUs, to itself."""
    local = cluster.get_local_process_id()
    visible = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if local is None or "JAX_LOCAL_DEVICE_IDS" in environment or len(visible) == 1:
        return None
    here = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", ""))
    beside = int(here.partition("(")[0].partition(",")[0] or 1)
    if beside == 1:
        return None
    each = max(1, len(visible) // beside)
    return tuple(range(local * each, (local + 1) * each))


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    require(text is None or text.isdecimal(), f"{name}={text}: expected a whole number")
    return None if text is None else int(text)
