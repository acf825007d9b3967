"""Ray, as far as gptflow needs it: a cluster to join, actors on it, and its errors in our words.

The only module that imports Ray. It is used in a process of its own (`ray_driver`): Ray writes to
the screen, takes over signals, and ends the process that it lives in when its cluster is gone.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from gptflow import __version__
from gptflow.errors import GptflowError, UsageError
from gptflow.runner.modes.ray_actor import Actor, version_here
from gptflow.runner.modes.ray_frames import Size, Wanted

REACH_S = 5.0
"""For a connection to the address."""
TOKEN_S = 5.0
"""For the head node to look at the token."""
ANSWER_S = 40.0
"""For a node to say which gptflow it has: it may have to start a Python first."""
OBJECT_STORE_BYTES = 80 << 20
"""Of a cluster on this machine, the least that Ray takes: nothing of ours goes there."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_LOG_TO_DRIVER": "0",
}
_LONGEST_REASON = 300
_DETAIL = "exit detail: "
_DEFAULT_PORTS = {"ray": 10001}
_SERVER_PORT = 6379
_INSTALL = (
    "every node needs the same gptflow as the driver: put it into the cluster's image, or submit "
    'the job with --runtime-env-json \'{"pip": ["gptflow[ray]==%s"]}\''
)


class Cluster:
    """A cluster that was joined, or that was begun on this machine."""

    def __init__(self, wanted: Wanted) -> None:
        self.address = wanted.address
        """None: it lives on this machine, and ends with this process."""
        self.keys_path = wanted.keys_path
        """Where its nodes have the keys."""
        self.grows = wanted.grows
        """Whether workers are to be added when all are busy."""

    @classmethod
    def join(cls, wanted: Wanted) -> Cluster:
        """Joins the cluster at the address; without one begins one on this machine.

        Raises:
            GptflowError: it cannot be reached, or its nodes have no gptflow, or another.
        """
        os.environ.update({name: word for name, word in QUIET.items() if name not in os.environ})
        address = wanted.address
        if address is None:
            return cls._begin(wanted)
        try:
            _reach(_named(address))
            _check_token(_named(address))
            _init(address=address)
        except GptflowError:
            raise
        except Exception as error:
            raise _unreachable(address, reason(error)) from error
        cluster = cls(wanted)
        cluster.check_version()
        return cluster

    @classmethod
    def _begin(cls, wanted: Wanted) -> Cluster:
        try:
            _init(
                address="local",
                num_cpus=wanted.cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=wanted.folder,
            )
        except Exception as error:
            raise UsageError(
                f"Ray cannot begin a cluster on this machine: {reason(error)}",
                hint="--mode process needs no Ray on a single machine",
            ) from error
        return cls(wanted)

    def check_version(self) -> None:
        """Asks a node for its gptflow.

        Raises:
            UsageError: it has none, or another one.
        """
        import ray

        asked: Any = ray.remote(version_here)
        try:
            found = ray.get(asked.options(num_cpus=0).remote(), timeout=ANSWER_S)
        except ray.exceptions.GetTimeoutError as error:
            raise _unreachable(
                str(self.address), f"no node has begun a worker within {ANSWER_S:.0f} s"
            ) from error
        except Exception as error:
            said = reason(error)
            if "gptflow" not in said:
                raise _unreachable(str(self.address), said) from error
            found = "none, or an older one"
        if found != __version__:
            raise UsageError(
                f"the Ray cluster at {self.address} has another gptflow: {found}, and here it is "
                f"{__version__}",
                hint=_INSTALL % __version__,
            )

    @property
    def size(self) -> Size:
        """What the cluster has at present."""
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        cpus = ray.cluster_resources().get("CPU", 0)  # type: ignore[no-untyped-call]
        return Size(len(alive), int(cpus))

    def new_actor(self) -> Any:
        """An actor, which begins to live when a node has a CPU free for it.

        Ray does not start it again when it has died: it has forgotten by then what it was sent.
        """
        import ray

        made: Any = ray.remote(Actor)
        options = made.options(
            num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        return options.remote()

    def kill(self, actor: Any) -> None:
        """Ends an actor, if it should still live somewhere."""
        import ray

        ray.kill(actor)

    def leave(self) -> None:
        """Leaves the cluster, and ends it if it was begun here."""
        import ray

        ray.shutdown()


def reason(error: BaseException) -> str:
    """What Ray says, in one line: it says more than a person can read."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    module = next((line for line in lines if "No module named" in line), None)
    detail = next((line for line in lines if _DETAIL in line), "").rpartition(_DETAIL)[2]
    said = (module or detail or next(iter(lines), "")).partition(" Some common causes")[0]
    return said.strip()[:_LONGEST_REASON] or type(error).__name__


def ending(error: BaseException) -> str:
    """How an actor has ended, as a person would go on after its name."""
    kind = type(error).__name__
    if kind == "ActorUnavailableError":
        return "was lost, perhaps with its node"
    if kind == "ActorDiedError":
        return f"died: {reason(error)}"
    return f"failed: {reason(error)}"


def _init(**options: Any) -> None:
    import ray

    ray.init(
        log_to_driver=False, configure_logging=False, logging_level=logging.CRITICAL, **options
    )


def _named(address: str) -> str:
    """What "auto" means here. Raises ConnectionError where it means nothing."""
    from ray._private.services import canonicalize_bootstrap_address

    return canonicalize_bootstrap_address(address) or address if address == "auto" else address


def _reach(address: str) -> None:
    """Raises UsageError if nobody listens: Ray itself tries that for more than a minute."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, _SERVER_PORT)
    try:
        socket.create_connection((parts.hostname or "", port), REACH_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None


def _check_token(address: str) -> None:
    """Raises UsageError if the cluster refuses our token: Ray itself takes most of a minute."""
    try:
        import grpc  # type: ignore[import-untyped]
        from ray._private.grpc_utils import init_grpc_channel
    except ImportError:  # a Ray that knows no tokens
        return
    is_client, host = address.startswith("ray://"), address.removeprefix("ray://")
    asked = "RayletDriver/ClusterInfo" if is_client else "NodeInfoGcsService/CheckAlive"
    try:
        with init_grpc_channel(host) as channel:
            channel.unary_unary(f"/ray.rpc.{asked}")(b"", timeout=TOKEN_S)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise UsageError(
                f"the Ray cluster at {address} refuses the token of this machine, or wants one",
                hint="set RAY_AUTH_MODE=token, and put the cluster's token into ~/.ray/auth_token "
                "or RAY_AUTH_TOKEN: docs/ray.md",
            ) from None


def _unreachable(address: str, said: str) -> GptflowError:
    return UsageError(
        f"the Ray cluster at {address} cannot be reached: {said}",
        hint="compare parallelism.ray.address and RAY_ADDRESS with what `ray status` says on its "
        "head node; from a machine outside of it the address is ray://HEAD:10001. A cluster with a "
        "token wants RAY_AUTH_MODE=token and the token: docs/ray.md",
    )
