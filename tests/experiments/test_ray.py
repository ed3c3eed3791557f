"""Trials on a cluster: two nodes on this machine, of which one is killed."""

import sys

import pytest
from grid_runs import ROWS, run, same

from experiments import threshold_grid
from experiments.workers import processes


def test_without_ray_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"Expected Ray to be installed .* pip install -r requirements-ray.txt"):
        run(tmp_path, workers="ray:auto")


@pytest.fixture
def cluster():
    reason = "Ray is an optional requirement: pip install -r requirements-ray.txt"
    utilities = pytest.importorskip("ray.cluster_utils", reason=reason)
    made = utilities.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_killed_loses_nothing(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(threshold_grid, "_SECONDS_BETWEEN_FIGURES", -1)
    monkeypatch.setattr(processes.NowAndThen.__init__, "__defaults__", (0.1,))
    node, killed = cluster.add_node(num_cpus=1), []

    def watch(frame):
        if len(list((tmp_path / "ray").glob("*+*.csv"))) == 2 and not killed:
            killed.append(len(frame))
            cluster.remove_node(node, allow_graceful=False)

    settings = {"seeds": [0, 1, 2], "epochs": 40}
    frame = run(tmp_path / "ray", workers=f"ray:{cluster.address}", watch=watch, **settings)
    assert killed and 0 < killed[0] < len(frame) == ROWS // 2 // 3 * 40 * 3
    same(frame, run(tmp_path / "here", **settings))
    assert not list((tmp_path / "ray" / "checkpoints").rglob("*.holder"))
