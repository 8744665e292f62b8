"""The workers that the environment names, and what is wrong with it."""

import json

import pytest

from bdd_tf.errors import UsageError
from bdd_tf.training import cluster


def environment(value):
    return {"TF_CONFIG": value if isinstance(value, str) else json.dumps(value)}


def config(lists, job="worker", index=0):
    return environment({"cluster": lists, "task": {"type": job, "index": index}})


def test_workers_are_numbered_behind_the_chief():
    lists = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    found = [
        cluster.from_environment(config(lists, *task))
        for task in (("chief", 0), ("worker", 0), ("worker", "1"))
    ]
    assert [one.index for one in found] == [0, 1, 2]
    assert {one.addresses for one in found} == {("a:1", "b:1", "c:1")}


def test_a_process_alone_needs_no_workers():
    assert cluster.from_environment({}) is None
    assert cluster.from_environment(environment("")) is None
    assert cluster.from_environment(environment({})) is None
    assert cluster.from_environment(config({"worker": ["a:1"]})) is None


def test_workers_of_a_host_divide_its_gpus():
    addresses = ("a:1", "b:1", "a:2", "a:3")
    assert [cluster.describe(addresses, index).same_host for index in range(4)] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (environment("{"), r"TF_CONFIG is no JSON: '\{'; it should look like"),
        (environment("[" * 100_000), "is no JSON"),
        (environment("[1]"), "needs the objects cluster and task"),
        (environment({"cluster": {"worker": ["a:1"]}}), "needs the objects cluster and task"),
        (config({"worker": ["a:1"], "ps": ["b:1"]}), "has tasks of type ps; a training has chief and worker only"),
        (config({"worker": "a:1"}), "worker must be a list of HOST:PORT"),
        (config({"worker": []}), "worker must be a list of HOST:PORT"),
        (config({"worker": ["a:1", 3]}), "worker has '3', which is no HOST:PORT"),
        (config({"worker": ["a:1", "b"]}), "which is no HOST:PORT"),
        (config({"worker": ["a:1", "b:65536"]}), "which is no HOST:PORT"),
        (config({"worker": ["a:1", "b:0"]}), "which is no HOST:PORT"),
        (config({"worker": ["a:1", "a:1"]}), "gives an address to two workers: a:1, a:1"),
        (config({"worker": ["a:1", "b:1"]}, index=2), "has 2 tasks of type worker, so its index is 0 to 1; got 2"),
        (config({"worker": ["a:1", "b:1"]}, index=-1), "index is 0 to 1; got -1"),
        (config({"worker": ["a:1", "b:1"]}, index=True), "must be one of the cluster"),
        (config({"worker": ["a:1", "b:1"]}, index=None), "must be one of the cluster"),
        (config({"worker": ["a:1", "b:1"]}, "evaluator"), "must be one of the cluster"),
        (config({"worker": ["a:1", "b:1"]}, ["worker"]), "must be one of the cluster"),
        (config({"chief": ["a:1", "b:1"]}, "chief"), "has 2 chiefs; there is one"),
        (config({"worker": [f"a:{port}" for port in range(1, 1026)]}), "1025 workers; at most 1024"),
    ],
)  # fmt: skip
def test_impossible_clusters_are_refused_in_a_sentence(variables, message):
    with pytest.raises(UsageError, match=message) as error:
        cluster.from_environment(variables)
    assert len(str(error.value)) < 400


def test_slurm_names_the_workers(monkeypatch):
    for name, value in {
        "PROCID": "2",
        "STEP_NUM_TASKS": "3",
        "STEP_NODELIST": "n[1-2]",
        "STEP_TASKS_PER_NODE": "2,1",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)  # fmt: skip
    found = cluster.from_slurm()
    assert found.addresses == ("n1:8888", "n1:8889", "n2:8888")
    assert found.index == 2
    assert json.loads(found.text)["task"] == {"type": "worker", "index": 2}


def test_slurm_is_asked_for_only_inside_a_step(monkeypatch):
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UsageError, match="start the command with srun"):
        cluster.from_slurm()


def test_local_addresses_differ():
    addresses = cluster.local_addresses(5)
    assert len(set(addresses)) == 5
    assert cluster.silent(cluster.describe(addresses, 0)) == [
        f"worker {k} ({a})" for k, a in enumerate(addresses)
    ]
