"""Makes what a run needs and starts it: `prepare.py [--as-is] …`; the other arguments are the bench's own.

fairlane is measured in an environment of its own with the newest Python that is here (3.11 to 3.14, on PATH or in
pyenv), since what an asyncio task costs hangs on it; each peer has one too, and all are pinned with hashes. Redis and a
JDK come from the system's packages. With --as-is nothing is installed: what is missing then, the run says.

Invariant: it uses Python's library only. An environment is made anew when its pins or its Python change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
HOME: Final = ROOT / ".bench"
UV: Final = Path(sys.executable).with_name("uv")
PINS: Final = ROOT / "bench" / "requirements"
OURS: Final = "fairlane"
PACKAGES: Final = ("app", "consumer", "monitor", "producer", "topics")
PEERS: Final = ("celery", "dramatiq", "rq", "faststream")
OLDEST: Final = (3, 11)
NEWEST: Final = (3, 14)
_VERSION: Final = "import sys; print(*sys.version_info[:3], sys.version_info.releaselevel)"


def main(arguments: Sequence[str]) -> None:
    """Prepare, unless asked not to, and become the bench."""
    python = HOME / OURS / "bin" / "python"
    if "--as-is" not in arguments:
        prepare(python)
    chosen = str(python if python.exists() else Path(sys.executable))
    rest = [argument for argument in arguments if argument != "--as-is"]
    os.execv(chosen, [chosen, str(ROOT / "bench"), "--home", str(HOME), *rest])


def prepare(python: Path) -> None:
    """Everything that a full run needs."""
    newest = newest_python()
    environment(OURS, newest, [ROOT / "requirements.txt", PINS / "bench.txt"], editable=True)
    for peer in PEERS:
        environment(peer, newest, [PINS / f"{peer}.txt"])
    for program, package in (("redis-server", "redis-server"), ("javac", "default-jdk-headless")):
        installed(program, package)
    if shutil.which("javac"):
        found = {**os.environ, "PYTHONPATH": str(ROOT / "bench"), "PYTHONSAFEPATH": "1"}
        subprocess.run([python, "-m", "parallel_consumer", HOME], env=found, check=True)


def environment(name: str, python: Path, pins: Sequence[Path], *, editable: bool = False) -> None:
    """Make one, unless it is there with the same Python and pins."""
    folder = HOME / name
    files = [*pins, ROOT / "pyproject.toml"] if editable else pins
    # A strict editable install does not see a new file by itself.
    names = [str(path).encode() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    facts = [str(python).encode(), *(file.read_bytes() for file in files), *(names if editable else ())]
    made_of = hashlib.sha256(b"\0".join(facts)).hexdigest()
    stamp = folder / "made-of"
    if stamp.exists() and stamp.read_text() == made_of:
        return
    print(f"Making {folder.relative_to(ROOT)} with {python} (once)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    uv("venv", "--quiet", "--python", str(python), str(folder))
    install = ("pip", "install", "--quiet", "--python", str(folder / "bin" / "python"))
    uv(*install, "--require-hashes", *(part for file in pins for part in ("-r", str(file))))
    if editable:
        uv(*install, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    stamp.write_text(made_of)


def uv(*arguments: str) -> None:
    """Run it in the root, where its settings are."""
    subprocess.run([str(UV), *arguments], cwd=ROOT, check=True)


def installed(program: str, package: str) -> None:
    """See that a program is there; with root and apt it is installed, else it is said what is missing."""
    if shutil.which(program):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {package} from the system's packages, for {program}", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], env=quiet, check=True)
    else:
        print(f"No {program} is here: install {package} from your system's packages; what needs it is left out")


def newest_python() -> Path:
    """Of those on PATH and in pyenv, the newest that fairlane runs on; never a pre-release."""
    found = {version: path for path in candidates() if (version := version_of(path)) is not None}
    return found[max(found)]


def candidates() -> Iterator[Path]:
    """Where a Python may be; the one that runs this is one."""
    yield Path(sys.executable).resolve()
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        on_path = shutil.which(f"python3.{minor}")
        if on_path:
            yield Path(on_path)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(versions.glob("3.*/bin/python"))


def version_of(python: Path) -> tuple[int, ...] | None:
    """Its version, if it runs, is within bounds and final; a shim of pyenv may stand for a Python that is not set."""
    try:
        told = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    *numbers, level = told.split()
    version = tuple(map(int, numbers))
    return version if level == "final" and OLDEST <= version[:2] <= NEWEST else None


if __name__ == "__main__":
    main(sys.argv[1:])
