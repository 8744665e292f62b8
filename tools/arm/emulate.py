"""`make test-arm`: our wheels in empty environments, here and on emulated ARM: operators and a detector, compared with x86.

Everything is fetched into build/arm without touching the system: qemu-user, Debian's Python for arm64 and armhf, and
the runtimes' wheels. Where apt or Debian is missing, it says so and ends with 77 (skipped).
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "arm"
SKIPPED = 77
PICTURES = 60
#: XNNPACK rounds otherwise on ARM: the median probability moves by less than this. Where that flips a sign next to
#: its threshold a picture may move more; at most this many verdicts may change.
MEDIAN, VERDICTS = 1e-5, 1
# LiteRT 2.3.0 reads the processor's features here, and stumbles over the host's.
CPUINFO = "".join(
    f"processor\t: {i}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid half thumb fastmult vfp edsp "
    "neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
    "CPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    for i in range(4)
)


@dataclass(frozen=True)
class Machine:
    """A kind of ARM.

    Attributes:
        debian: Debian's name of it.
        packages: What is taken from Debian.
        wheels: What pip fetches, with the platforms it may be for.
        cpu: What qemu plays.
    """

    debian: str
    qemu: str
    packages: tuple
    wheels: tuple
    platforms: tuple
    cpu: str
    wheel: str


PYTHON = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "zlib1g")
MACHINES = {
    "aarch64": Machine(
        "arm64", "qemu-aarch64-static", PYTHON,
        ("ai-edge-litert==2.3.0", "numpy", "pillow"),
        ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"),
        "cortex-a72", "aarch64",
    ),
    "armv7": Machine(
        "armhf", "qemu-arm-static", (*PYTHON, "python3-numpy", "python3-pil"),
        ("tflite-runtime==2.14.0",),
        ("manylinux_2_34_armv7l", "manylinux2014_armv7l"),
        "cortex-a15", "armv7l",
    ),
}  # fmt: skip


def run(command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def skip(reason):
    print(f"SKIPPED: make test-arm: {reason}", flush=True)
    sys.exit(SKIPPED)


def qemu() -> Path:
    """qemu-user's static binaries, from Debian's package."""
    folder = HOME / "qemu"
    if not (folder / "usr" / "bin" / "qemu-arm-static").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run(["apt-get", "download", "qemu-user-static"], cwd=folder)
        package = next(folder.glob("qemu-user-static_*.deb"))
        run(["dpkg-deb", "-x", package, folder])
        package.unlink()
    return folder / "usr" / "bin"


def debian(machine: Machine, folder: Path) -> Path:
    """A root with Python, unpacked from Debian's packages of that architecture."""
    root = folder / "root"
    if (root / ".ready").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    state, cache = folder / "state", folder / "cache"
    for path in (state / "lists" / "partial", cache / "archives" / "partial", root):
        path.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    apt = [
        "apt-get", "-o", f"APT::Architecture={machine.debian}", "-o", f"APT::Architectures={machine.debian}",
        "-o", f"Dir::State={state}", "-o", f"Dir::State::status={state / 'status'}", "-o", f"Dir::Cache={cache}",
        "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=",
    ]  # fmt: skip
    # A mirror in the middle of its own update fails here and has all that is needed: the next step decides.
    subprocess.run([*apt, "update"], capture_output=True, check=False)
    run([*apt, "install", "-y", "--no-install-recommends", "--download-only", *machine.packages])
    for package in sorted((cache / "archives").glob("*.deb")):
        run(["dpkg-deb", "-x", package, root])
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(CPUINFO)
    shutil.rmtree(state)
    shutil.rmtree(cache)
    (root / ".ready").touch()
    return root


def wheels(machine: Machine, folder: Path) -> Path:
    """The runtime's wheels and pip's own."""
    target = folder / "wheels"
    if not (target / ".ready").exists():
        shutil.rmtree(target, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "-d", str(target)]
        platforms = [word for p in machine.platforms for word in ("--platform", p)]
        no_deps = ["--no-deps"] if machine.debian == "armhf" else []
        run([*pip, "--only-binary=:all:", "--python-version", "3.11", *platforms, *no_deps, *machine.wheels])
        run([*pip, "--no-deps", "pip==25.3"])
        (target / ".ready").touch()
    return target


class Emulator:
    """Runs that machine's Python."""

    def __init__(self, name: str):
        self.machine, self.folder = MACHINES[name], HOME / name
        self.qemu = qemu() / self.machine.qemu
        self.root = debian(self.machine, self.folder)
        self.wheels = wheels(self.machine, self.folder)
        self.site = self.folder / "site"
        self.prefix = [str(self.qemu), "-L", str(self.root), str(self.root / "usr" / "bin" / "python3.11")]
        # Debian's numpy looks for its BLAS where update-alternatives would have linked it.
        libraries = [p.parent for p in self.root.glob("usr/lib/*/*/lib*.so.3")]
        self.env = {
            **os.environ,
            "QEMU_CPU": self.machine.cpu,
            "PYTHONPATH": str(self.site),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_LIBRARY_PATH": "",
            "QEMU_SET_ENV": f"LD_LIBRARY_PATH={':'.join(map(str, libraries))}" if libraries else "",
        }
        if not libraries:
            del self.env["QEMU_SET_ENV"]
        del self.env["LD_LIBRARY_PATH"]
        self.env.pop("VIRTUAL_ENV", None)

    def python(self, *words) -> str:
        # Elsewhere than in the source tree, whose package would be found first.
        return run([*self.prefix, *words], env=self.env, cwd=self.folder)

    def install(self, wheel: Path) -> None:
        """pip, emulated as well: tags and dependencies are checked as on the device."""
        shutil.rmtree(self.site, ignore_errors=True)
        pip = next(self.wheels.glob("pip-*.whl")) / "pip"
        options = [
            "--no-index",
            "--find-links",
            self.wheels,
            "--target",
            self.site,
            "--no-warn-script-location",
            "-q",
        ]
        if self.machine.debian == "armhf":
            # numpy and Pillow are Debian's there.
            runtime = next(self.wheels.glob("tflite_runtime*.whl"))
            self.python(pip, "install", *options, "--no-deps", runtime, wheel)
        else:
            # The operator cases run on LiteRT; detection does not need it.
            self.python(pip, "install", *options, f"{wheel}[litert]")


def own_wheel(name: str) -> Path:
    """Our wheel for that machine; its library may require only glibc 2.17, and its model must be that of the source tree."""
    from bdd_tf.edge.runtime import LIBRARY
    from bdd_tf.edge.runtime.wheels import build_wheel
    from bdd_tf.edge.shipped_model import shipped_models

    wheel = build_wheel(name, HOME / "dist")
    with zipfile.ZipFile(wheel) as archive:
        inside = [entry for entry in archive.namelist() if entry.endswith(LIBRARY)]
        assert len(inside) == 1, inside
        library = Path(archive.extract(inside[0], HOME / f"unpacked-{name}"))
        models = sorted(entry for entry in archive.namelist() if entry.endswith(".tflite"))
        shipped = {f"bdd_tf/edge/models/{path.name}": path for path in shipped_models().values()}
        assert models == sorted(shipped), models
        assert all(archive.read(entry) == path.read_bytes() for entry, path in shipped.items())
    needed = re.findall(r"NEEDED.*\[(.+)\]", run(["readelf", "-d", library]))
    versions = [
        tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([\d.]+)", run(["readelf", "-V", library]))
    ]
    foreign = [n for n in needed if not re.match(r"(lib(c|m|dl|pthread|rt)\.so|ld-linux)", n)]
    assert not foreign, f"the library for {name} needs {foreign}"
    assert max(versions) <= (2, 17), f"the library for {name} needs glibc {max(versions)}"
    print(
        f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB with {len(models)} model(s); needs glibc "
        f"{'.'.join(map(str, max(versions)))}, nothing else",
        flush=True,
    )
    return wheel


class Native:
    """This machine, in an empty environment: pip and our wheel alone."""

    def __init__(self, name: str):
        self.folder = HOME / name
        if not (self.folder / "bin" / "python").exists():
            run([sys.executable, "-m", "venv", self.folder])

    def python(self, *words) -> str:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return run([self.folder / "bin" / "python", *words], env=env, cwd=self.folder)

    def install(self, wheel: Path) -> None:
        self.python("-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", wheel)
        self.python("-m", "pip", "install", "-q", f"{wheel}[litert]")
        names = json.loads(
            self.python("-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
        )
        assert not {"tensorflow", "larq", "larq-compute-engine"} & {n["name"] for n in names}


def photos() -> list[Path]:
    """Crops of photographs, at the model's size."""
    from converters.sample_images import photographs

    folder = HOME / "photos"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for i, image in enumerate(photographs(PICTURES, 32)):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return sorted(folder.glob("*.png"))


def probabilities(text: str) -> np.ndarray:
    return np.array([json.loads(line)["fake_probability"] for line in text.splitlines()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["x86_64", *MACHINES]
    parser.add_argument("machines", nargs="*", default=names, help=f"of {', '.join(names)}")
    args = parser.parse_args()
    if sys.platform != "linux" or not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        skip("it takes qemu and ARM's Python from Debian, and there is no apt here.")
    from tests.edge.runtime.case_runner import save
    from tests.edge.runtime.fused_nets import fused_cases
    from tests.edge.runtime.operator_cases import all_cases

    HOME.mkdir(parents=True, exist_ok=True)
    save([*all_cases(), *fused_cases()], HOME / "cases.npz")
    pictures = photos()
    # Without --model: each machine runs the model that its own wheel carries.
    detect = ["detect", "--model", "cifake", *map(str, pictures), "--json"]
    expected = probabilities(run([sys.executable, "-m", "bdd_tf.cli", *detect]))
    assert np.ptp(expected) > 0.1, "pictures on which everything agrees prove nothing"
    for name in args.machines:
        began = time.monotonic()
        emulator = Emulator(name) if name in MACHINES else Native(name)
        emulator.install(own_wheel(name))
        print(
            emulator.python("-c", "import platform, sys; print(platform.machine(), sys.version)").strip(),
            flush=True,
        )
        print(
            emulator.python(
                ROOT / "tests" / "edge" / "runtime" / "case_runner.py", HOME / "cases.npz"
            ).strip(),
            flush=True,
        )
        found = probabilities(emulator.python("-m", "bdd_tf.cli", *detect))
        difference = np.abs(found - expected)
        other = int(((found >= 0.5) != (expected >= 0.5)).sum())
        print(
            f"bdd detect on {PICTURES} photographs: difference to x86: median {np.median(difference):.1e}, above "
            f"1e-4 on {(difference > 1e-4).sum()}, another verdict on {other}",
            flush=True,
        )
        assert np.median(difference) <= MEDIAN
        assert other <= VERDICTS
        print(f"{name}: all well, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
