import json
import os
import subprocess
import sys

from bdd_tf.edge.benchmark.hub import close
from bdd_tf.edge.shipped_model import shipped_model

MODEL = shipped_model("cifake")


def test_messages_reach_their_worker_and_a_dead_one_is_told():
    good = {
        "engine": "litert",
        "kernels": "auto",
        "threads": 1,
        "path": str(MODEL),
        "cores": [min(os.sched_getaffinity(0))],
    }
    messages = [
        {"worker": 1, **good}, {"worker": 2, **good, "path": "/none"}, {"worker": 1, "runs": 3},
        {"worker": 2, "runs": 1}, {"worker": 3, **good}, {"worker": 3, "runs": 1}, {"worker": 1, "runs": 1},
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bdd_tf.edge.benchmark.hub"], input="".join(json.dumps(m) + "\n" for m in messages),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(messages)
    assert [len(a.get("seconds", [])) for a in answers] == [0, 0, 3, 0, 0, 1, 1]
    assert "/none" in answers[1]["error"]
    assert answers[3]["error"] == "its process ended with code 1"
    assert all("error" not in a for i, a in enumerate(answers) if i not in (1, 3))


def test_a_worker_that_ended_before_it_read_is_closed():
    """As without LiteRT: the worker cannot be imported."""
    process = subprocess.Popen(
        [sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.wait()
    process.stdin.write("{}\n")
    close(process)
    assert process.stdin.closed
    assert process.stdout.closed
