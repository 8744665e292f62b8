#!/usr/bin/env python3
"""A STAND-IN for LCE's benchmark tool, of which no x86-64 program exists. Its times are made up.

It takes the tool's flags and prints what LCE 0.16.0's prints (TensorFlow 2.16's benchmark_model), read from their
sources. It says in its output that it is a stand-in.
"""

import sys
from pathlib import Path

FLAGS = {
    "graph": "", "num_threads": "-1", "warmup_runs": "1", "warmup_min_secs": "0.5", "num_runs": "50", "min_secs": "1",
    "enable_op_profiling": "false", "profiling_output_csv_file": "", "report_peak_memory_footprint": "false",
    "use_xnnpack": "false", "use_reference_bconv": "false", "use_indirect_bgemm": "false",
}  # fmt: skip


def number(x):
    return f"{x:.6g}"  # as C++ streams print


def stats(times):
    if len(set(times)) == 1:
        return f"count={len(times)} curr={times[-1]}" + "(all same)" * (len(times) > 1)
    mean = sum(times) / len(times)
    deviation = int((sum(t * t for t in times) / len(times) - mean * mean) ** 0.5)
    return (
        f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} max={max(times)} "
        f"avg={number(mean)} std={deviation}"
    )


def info(text):
    print(f"INFO: {text}", flush=True)


def main():
    info("STARTING!")
    info("STAND-IN: made-up times, not LCE's tool")
    flags = dict(FLAGS)
    for argument in sys.argv[1:]:
        name, sign, value = argument[2:].partition("=")
        if argument == "--help" or not sign or name not in FLAGS:
            lines = "".join(f"\t--{k}={v}\tstring\toptional\t\n" for k, v in FLAGS.items())
            print(f"ERROR: usage: {sys.argv[0]} <flags>\nFlags:\n{lines}", file=sys.stderr)
            print("ERROR: Benchmarking failed.", file=sys.stderr)
            return 1
        flags[name] = value
    threads, graph = int(flags["num_threads"]), flags["graph"]
    info("Log parameter values verbosely: [0]")
    info(f"Num threads: [{threads}]")
    info(f"Graph: [{graph}]")
    content = Path(graph).read_bytes()
    if content[4:8] != b"TFL3":
        print(f"ERROR: Model provided has model identifier '{content[4:8].decode(errors='replace')}', should be 'TFL3'\n",
              file=sys.stderr)  # fmt: skip
        print(f"ERROR: Failed to mmap model {graph}\nERROR: Benchmarking failed.", file=sys.stderr)
        return 1
    info(f"Loaded model {graph}")
    print("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", file=sys.stderr)
    info(f"The input model file size (MB): {number(len(content) / 1e6)}")
    info("Initialized session in 12.345ms.")
    base = 2000 + len(content) // 1000 // max(threads, 1) + 300 * (flags["use_indirect_bgemm"] == "true")
    all_times = []
    for runs, seconds in (
        (flags["warmup_runs"], flags["warmup_min_secs"]),
        (flags["num_runs"], flags["min_secs"]),
    ):
        info(
            f"Running benchmark for at least {runs} iterations and at least {seconds} seconds but terminate if "
            "exceeding 150 seconds."
        )
        all_times.append([base + 10 * (i % 3) for i in range(int(runs))])
        info(stats(all_times[-1]) + "\n")
    warm, times = all_times
    mean = sum(times) / len(times)
    info(
        f"Inference timings in us: Init: 12345, First inference: {warm[0]}, "
        f"Warmup (avg): {number(sum(warm) / len(warm))}, Inference (avg): {number(mean)}"
    )
    info(
        "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual "
        "memory footprint of the model at runtime. Take the information at your discretion."
    )
    info("Memory footprint delta from the start of the tool (MB): init=4.21094 overall=10.5")
    if flags["report_peak_memory_footprint"] == "true":
        info("Overall peak memory footprint (MB) via periodic monitoring: 17.25")
        info("Memory status at the end of exeution:")
        info("- VmRSS              : 17 MB")
    if flags["enable_op_profiling"] == "true":
        first, second = 0.75 * mean / 1e3, 0.25 * mean / 1e3
        text = (
            "Profiling Info for Benchmark Initialization:\n"
            "============================== Run Order ==============================\n"
            "node type, first, avg_ms, %, cdf%, mem KB, times called, name\n"
            "AllocateTensors, 1.356, 1.356, 100%, 100%, 0, 1, AllocateTensors/0\n\n"
            "Number of nodes executed: 1\n"
            "============================== Summary by node type ==============================\n"
            "node type, count, avg_ms, avg %, cdf %, mem KB, times called\n"
            "AllocateTensors, 1, 1.356, 100%, 100%, 0, 1\n\n\n"
            "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
            "============================== Run Order ==============================\n"
            "node type, first, avg_ms, %, cdf%, mem KB, times called, name\n"
            f"LceBconv2d, {first}, {first}, 75%, 75%, 0, 1, [conv]:0\n"
            f"CONV_2D, {second}, {second}, 25%, 100%, 0, 1, [head]:1\n\n"
            "Number of nodes executed: 2\n"
            "============================== Summary by node type ==============================\n"
            "node type, count, avg_ms, avg %, cdf %, mem KB, times called\n"
            f"LceBconv2d, 1, {first}, 75%, 75%, 0, 1\n"
            f"CONV_2D, 1, {second}, 25%, 100%, 0, 1\n\n"
            f"Timings (microseconds): {stats(times)}\nMemory (bytes): count=0\n2 nodes observed\n\n\n"
        )
        if flags["profiling_output_csv_file"]:
            Path(flags["profiling_output_csv_file"]).write_text(text)
        else:
            info(text)
    return 0


sys.exit(main())
