"""A Ray cluster of two nodes with one processor each: says its address, and ends when its input does."""

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        made.add_node(num_cpus=1)
        made.wait_for_nodes()
        print(made.address, flush=True)
        sys.stdin.read()
    finally:
        made.shutdown()
