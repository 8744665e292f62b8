"""CPU time of loading images without and with the search for evidence: `python benchmarks/evidence.py`."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bdd_tf.edge.detect.loader import ImageLoader
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.evidence import find_evidence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.edge.evidence.containers import encoded, exif_segment, jpeg, picture, tiff

SIZES = {(32, 32): 40, (1000, 750): 6, (3000, 2000): 2}


def write_files(folder: Path) -> dict[tuple[int, int], list[Path]]:
    """Write JPEG files of each size; the largest have a thumbnail, as those of cameras."""
    files: dict[tuple[int, int], list[Path]] = {}
    for size, count in SIZES.items():
        files[size] = [folder / f"{size[0]}-{number}.jpg" for number in range(count)]
        for number, path in enumerate(files[size]):
            image = picture(*size, number)
            content = encoded("JPEG", image, quality=92 if size[0] > 2000 else 75)
            if size[0] > 2000:
                small = encoded("JPEG", image.resize((160, 120)))
                content = jpeg(exif_segment(tiff({0x010F: "Make"}, thumbnail=small)), file=content)
            path.write_bytes(content)
    return files


def milliseconds(work: Callable[[Path], object], paths: list[Path]) -> float:
    """CPU time per file."""
    started = time.process_time()
    for path in paths:
        work(path)
    return 1000 * (time.process_time() - started) / len(paths)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as scratch, Detector("photos") as detector:
        works = {
            "without": ImageLoader(detector.cropper(), trained_on=detector.trained_on),
            "with": ImageLoader(detector.cropper(), trained_on=detector.trained_on, evidence=True),
            "alone": find_evidence,
        }
        print(f"{'JPEG':>10}  " + "  ".join(f"{name:>9}" for name in works))
        for size, paths in write_files(Path(scratch)).items():
            best = dict.fromkeys(works, float("inf"))
            for _ in range(turns):
                for name, work in works.items():
                    best[name] = min(best[name], milliseconds(work, paths))
            values = "  ".join(f"{value:6.3f} ms" for value in best.values())
            print(f"{size[0]:>5}x{size[1]:<4}  {values}")


if __name__ == "__main__":
    main()
