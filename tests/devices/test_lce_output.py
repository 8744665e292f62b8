"""The parser against the format of LCE's tool: TensorFlow 2.16's benchmark_model, as its sources print it."""

import subprocess
import sys

import pytest

from bdd_tf.devices.lce_output import (
    Stats,
    UnknownOutputError,
    complaints,
    parse_profile,
    parse_report,
    parse_stats,
)
from tests.devices.loopback import MODEL, STAND_IN

OUTPUT = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/bdd-0123/m.tflite]
INFO: #threads used for CPU inference: [4]
INFO: Loaded model /data/local/tmp/bdd-0123/m.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 10.495
INFO: Initialized session in 37.25ms.
INFO: Running benchmark for at least 2 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=9 first=61200 curr=54102 min=54011 max=61200 avg=55120.3 std=2104

INFO: Running benchmark for at least 3 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=3 first=54120 curr=54877 min=54120 max=55003 avg=54666.7 std=389

INFO: Inference timings in us: Init: 37250, First inference: 61200, Warmup (avg): 55120.3, Inference (avg): 54666.7
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory \
footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=12.5 overall=31.25
INFO: Overall peak memory footprint (MB) via periodic monitoring: 38.0312
INFO: Memory status at the end of exeution:
INFO: - VmRSS              : 37 MB
INFO: + RssAnnon           : 30 MB
INFO: + RssFile + RssShmem : 7 MB
"""
CSV = """\
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
node type, first, avg_ms, %, cdf%, mem KB, times called, name
ModifyGraphWithDelegate, 3.5, 3.5, 30.0%, 30.0%, 512, 1, ModifyGraphWithDelegate/0
AllocateTensors, 8.1, 4.05, 70.0%, 100%, 0, 2, AllocateTensors/0

Number of nodes executed: 2
============================== Summary by node type ==============================
node type, count, avg_ms, avg %, cdf %, mem KB, times called
AllocateTensors, 1, 8.1, 69.8276%, 69.8276%, 0, 2
ModifyGraphWithDelegate, 1, 3.5, 30.1724%, 100%, 512, 1

Timings (microseconds): count=1 curr=11600
Memory (bytes): count=0
2 nodes observed



Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
node type, first, avg_ms, %, cdf%, mem KB, times called, name
LceQuantize, 0.1, 0.1, 1%, 1%, 0, 1, [a\tb]:1
LceBconv2d, 6.0, 6.25, 62.5%, 63.5%, 0, 1, [c]:2

Number of nodes executed: 3
============================== Summary by node type ==============================
node type, count, avg_ms, avg %, cdf %, mem KB, times called
LceBconv2d, 31, 6.25, 62.5%, 62.5%, 0, 31
TfLiteXNNPackDelegate, 32, 3.65, 36.5%, 99%, 0, 32
LceQuantize, 31, 0.1, 1%, 100%, 0, 31

Timings (microseconds): count=3 first=9990 curr=10010 min=9990 max=10010 avg=10000 std=8
Memory (bytes): count=0
3 nodes observed


"""
TEXT = """\
INFO: Profiling Info for Benchmark Initialization:
============================== Summary by node type ==============================
\t                             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t                         AllocateTensors\t        1\t     1.356\t   100.000%\t   100.000%\t     0.000\t        1

INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t              LceBconv2d\t            0.066\t    7.754\t    6.957\t 87.066%\t 87.066%\t     0.000\t        1\t[conv]:0

Number of nodes executed: 5
============================== Summary by node type ==============================
\t                             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t                                 CONV_2D\t        1\t     0.869\t    11.100%\t   100.000%\t     0.000\t        1
\t                              LceBconv2d\t        4\t     6.957\t    88.900%\t    88.900%\t     0.000\t        4

Timings (microseconds): count=3 first=7990 curr=7310 min=7310 max=7990 avg=7549 std=310
Memory (bytes): count=0
5 nodes observed
"""


def test_a_whole_output():
    report = parse_report(OUTPUT)
    assert report.runs == Stats(3, 54120, 54877, 54120, 55003, 54666.7)
    assert (report.init_ms, report.first_ms, report.mean_ms) == (37.25, 61.2, 54.6667)
    assert (report.peak_mib, report.delta_mib) == (38.0312, 31.25)
    assert report.runs.times() == [54120, 55003, 54877]
    assert complaints(OUTPUT) == []


def test_the_profile_does_not_disturb_the_times():
    assert parse_report(OUTPUT + TEXT) == parse_report(OUTPUT)
    assert parse_report(CSV + OUTPUT) == parse_report(OUTPUT)


def test_memory_is_none_where_it_is_not_told():
    short = "\n".join(line for line in OUTPUT.splitlines() if "emory" not in line)
    assert parse_report(short).peak_mib is None
    assert parse_report(short).delta_mib is None


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("count=1 curr=3512391", [3512391]),
        ("count=3 curr=70(all same)", [70, 70, 70]),
        ("count=2 first=12 curr=10 min=10 max=12 avg=11 std=1", [12, 10]),
        ("count=3 first=10 curr=12 min=9 max=12 avg=10.3333 std=1", [10, 9, 12]),
        ("count=0", []),
        ("count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798", None),
        # TensorFlow 2.17 and newer
        ("count=3 first=9 curr=11 min=9 max=11 avg=10 std=1 p5=9 median=10 p95=11", [9, 10, 11]),
        # a mean that the three cannot have
        ("count=3 first=10 curr=12 min=9 max=12 avg=30 std=1", None),
    ],
)
def test_single_times_where_the_aggregates_determine_them(line, times):
    assert parse_stats(line).times() == times


@pytest.mark.parametrize("scale", [50, 3_000, 80_000, 2_500_000, 40_000_000])
def test_three_times_come_back_from_their_sums(scale):
    import random

    rng = random.Random(scale)
    for _ in range(200):
        times = [rng.randint(scale, 2 * scale) for _ in range(3)]
        mean = f"{sum(times) / 3:.6g}"
        line = f"count=3 first={times[0]} curr={times[2]} min={min(times)} max={max(times)} avg={mean} std=1"
        if len(set(times)) == 1:
            continue
        first, second, last = parse_stats(line).times()
        assert (first, last) == (times[0], times[2])
        assert abs(second - times[1]) <= 2e-5 * scale


@pytest.mark.parametrize(
    "text",
    ["", "INFO: STARTING!\n", OUTPUT.replace("Inference timings", "Timings"), OUTPUT.replace("count=3", "runs=3"),
     OUTPUT.replace("Inference (avg): 54666.7", "Inference (avg): nan"), OUTPUT[: len(OUTPUT) // 2]],
)  # fmt: skip
def test_other_output_is_refused(text):
    with pytest.raises(UnknownOutputError):
        parse_report(text)


def test_profiles_as_csv_and_as_tables():
    kinds = parse_profile(CSV)
    assert [(o.kind, o.count, o.milliseconds) for o in kinds] == [
        ("LceBconv2d", 31, 6.25), ("TfLiteXNNPackDelegate", 32, 3.65), ("LceQuantize", 31, 0.1),
    ]  # fmt: skip
    assert sum(o.percent for o in kinds) == pytest.approx(100)
    kinds = parse_profile(OUTPUT + TEXT)
    assert [(o.kind, o.count, o.milliseconds, o.percent) for o in kinds] == [
        ("LceBconv2d", 4, 6.957, 88.9), ("CONV_2D", 1, 0.869, 11.1),
    ]  # fmt: skip
    assert parse_profile(OUTPUT) == []
    assert parse_profile("") == []


def test_complaints_are_the_errors_without_the_last_words():
    text = (
        "INFO: STARTING!\nERROR: Encountered unresolved custom op: LceBmaxPool.\nERROR: Node number 7 (LceBmaxPool) failed "
        "to prepare.\nERROR: Failed to allocate tensors!\nERROR: Benchmarking failed.\n"
    )
    assert complaints(text)[0] == "Encountered unresolved custom op: LceBmaxPool."
    assert len(complaints(text)) == 3


@pytest.mark.parametrize("to_file", [True, False])
def test_the_stand_in_prints_this_format(tmp_path, to_file):
    flags = [
        "--num_threads=1",
        "--warmup_runs=2",
        "--num_runs=3",
        "--min_secs=0",
        "--enable_op_profiling=true",
    ]
    csv = tmp_path / "o.csv"
    if to_file:
        flags.append(f"--profiling_output_csv_file={csv}")
    command = [sys.executable, STAND_IN, f"--graph={MODEL}", *flags]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "STAND-IN" in out
    assert len(parse_report(out).runs.times()) == 3
    profile = parse_profile(csv.read_text() if to_file else out)
    assert [o.kind for o in profile] == ["LceBconv2d", "CONV_2D"]
