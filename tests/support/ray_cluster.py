"""A Ray cluster of two nodes on this machine: ``python -m tests.support.ray_cluster`` says its address; a line "lose" on its
input takes one node away and, once that is noticed, adds another; at the end of the input it ends.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leptonai.core import settings

ROOT = Path(__file__).parents[2]
_STORE = 100 << 20  # bytes of shared memory of a node
_SECOND = "127.0.0.2"  # so that whoever asks from this machine does so by way of the head


class TwoNodes:
    """A cluster that runs."""

    def __init__(self, process: "subprocess.Popen[str]", address: str, home: Path):
        self.address = address
        self.home = home
        self._process = process

    def lose(self) -> None:
        """Kill the node that is not the head with all on it, and have another one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("lose", file=self._process.stdin, flush=True)
        assert self._process.stdout.readline().strip() == "lost"


@contextmanager
def two_nodes(home: Path) -> Iterator[TwoNodes]:
    """Have a cluster, with a token, and what this process starts know of it. `home`: of the nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.support.ray_cluster"],
            cwd=ROOT, env=settings.environment(LEPTONAI_HOME=str(home)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            patch.setenv("LEPTONAI_EXECUTOR", f"ray:{address}")
            yield TwoNodes(process, address, home)
        finally:
            process.communicate(timeout=60)


def main() -> None:
    from ray.cluster_utils import Cluster

    more = {"num_cpus": int(os.environ.get("NODE_PROCESSORS", "1")), "object_store_memory": _STORE}
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **more})
    try:
        node = cluster.add_node(node_ip_address=_SECOND, **more)
        cluster.wait_for_nodes()
        print(cluster.address, flush=True)
        for _ in sys.stdin:
            cluster.remove_node(node, allow_graceful=False)
            node = cluster.add_node(node_ip_address=_SECOND, **more)
            print("lost", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
