"""Test video detection with a video whose first half is real and whose second half is fake.

    python benchmarks/video_splice.py --model runs/demo/model.tflite

The program measures how soon the verdict changes, the speed, and whether memory stays constant. Frames are crops of the
test split of the `sample` data set, first real ones, then fakes, enlarged tenfold and encoded as MPEG-4 (lossy) at
30 frames/s. The model must be trained on `sample` (`make demo`). A second video of 5,000 frames is processed by
`bdd_tf.edge.video.watch` in this process, to read its resident memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from bdd_tf.edge import Detector, find_images, read_image
from bdd_tf.edge.video.video_file import FileFrames
from bdd_tf.edge.video.watch import FrameScore, Outputs, watch

RATE, PIXEL = 30, 10
CODECS = {".mp4": "mp4v", ".avi": "FFV1"}


def crops(folder: Path, count: int) -> list[np.ndarray]:
    """Return `count` different crops, uint8 [32, 32, 3], in random order."""
    files = list(find_images([folder]))
    return [read_image(files[i]) for i in np.random.default_rng(0).permutation(len(files))[:count]]


def write(path: Path, frames: list[np.ndarray], count: int, pixel: int = PIXEL) -> None:
    """Write a video of `count` frames, which repeats `frames`."""
    side = frames[0].shape[0] * pixel
    code = cv2.VideoWriter_fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, RATE, (side, side))
    for i in range(count):
        frame = frames[i % len(frames)].repeat(pixel, 0).repeat(pixel, 1)
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()


def detect(path: Path, model: str, *options: str) -> list[dict]:
    """Return the records that `bdd detect --frames` prints: the frames, then the video."""
    command = [
        sys.executable,
        "-m",
        "bdd_tf.cli",
        "detect",
        str(path),
        "--model",
        model,
        "--frames",
        *options,
    ]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(path: Path, model: str, marks: tuple[int, ...]) -> dict[int, float]:
    """Return the resident memory in MiB at some frames of a video."""
    seen = {}

    def each(score: FrameScore) -> None:
        if score.frame + 1 in marks:
            seen[score.frame + 1] = resident()

    with Detector(model) as detector:
        watch(
            FileFrames(path),
            detector,
            decide=detector.decide,
            cropper=detector.cropper(),
            outputs=Outputs(
                each=each, save_video=path.with_name("overlay.mp4"), timeline=path.with_suffix(".png")
            ),
        )
    return seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="runs/demo/model.tflite")
    parser.add_argument("--data", type=Path, default=Path("data/cache/sample-v3/test"))
    parser.add_argument("--timeline", help="write the figure of the timeline here")
    args = parser.parse_args()
    for path in (args.data, Path(args.model)):
        if not path.exists():
            parser.error(
                f"{path} does not exist: run `make demo` to make the data and a model, or give --data and --model."
            )
    real, fake = crops(args.data / "REAL", 150), crops(args.data / "FAKE", 150)
    with tempfile.TemporaryDirectory() as folder:
        for name, pixel in (("lossless.avi", 1), ("lossy.mp4", PIXEL)):
            path = Path(folder) / name
            write(path, real + fake, 300, pixel)
            *frames, record = detect(
                path, args.model, *(["--timeline", args.timeline] if args.timeline else [])
            )
            video = record["video"]
            raw = [frame["fake_probability"] >= threshold(args.model) for frame in frames]
            fakes = [frame["frame"] for frame in frames if frame["verdict"] == "FAKE"]
            print(
                f"{name} ({32 * pixel} px): fake from frame 150, verdict changes at frame "
                f"{fakes[0] if fakes else None}; smoothed verdict correct on {accuracy(frames):.1%} of frames, raw on "
                f"{np.mean([fake == (i >= 150) for i, fake in enumerate(raw)]):.1%}; fake intervals "
                f"{[(s['start'], s['end']) for s in video['stretches']]}; {video['frames_per_second']} frames/s, "
                f"{video['real_time_factor']} x real time",
                flush=True,
            )
        path = Path(folder) / "long.mp4"
        write(path, real + fake, 5000)
        marks = (500, 1000, 2000, 3000, 4000, 5000)
        print("resident MiB at frame", memory(path, args.model, marks))


def threshold(model: str) -> float:
    """Return the model's threshold."""
    with Detector(model) as detector:
        return detector.threshold


def accuracy(frames: list[dict]) -> float:
    """Return the share of frames whose smoothed verdict is correct."""
    return float(np.mean([(frame["verdict"] == "FAKE") == (frame["frame"] >= 150) for frame in frames]))


if __name__ == "__main__":
    main()
