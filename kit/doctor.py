"""What this machine and this installation are, and which known traps they fall into.

`look` gathers facts, `judge` turns facts into findings; it reads nothing else, so every trap can be tested.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import platform
import resource
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from kit import __version__
from kit.errors import Finding, Severity
from kit.limits.memory import memory
from kit.limits.processor import bf16_support
from kit.store import DEFAULT_ROOT, LIBRARIES

GIB = 2**30
NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.gcsfuse",
    "9p",
    "lustre",
    "beegfs",
    "gpfs",
    "ceph",
    "afs",
)
"""File systems on which locks and renames are slow or not to be relied on."""
EXTRAS = {
    "faiss": ("faiss-cpu", "kit neighbours --index"),
    "tensorboard": ("tensorboard", "training curves (KIT_TRACK=tensorboard)"),
    "mlflow": ("mlflow-skinny", "run tracking (KIT_TRACK=mlflow)"),
    "wandb": ("wandb", "run tracking (KIT_TRACK=wandb)"),
    "umap": ("umap-learn", "the map of clients in kit report"),
    "shap": ("shap", "what the network reads (kit score --probe fast --explain)"),
    "optuna_dashboard": ("optuna-dashboard", "looking at studies of kit tune"),
    "psycopg": ("psycopg", "studies of kit tune in PostgreSQL"),
}
"""Module → (package, what it is for)."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True)
class MachineFacts:
    """The machine and the installation.

    Attributes:
        kit, python, system: versions.
        libraries: name → version, None if it is not installed.
        unmet: requirements of the kit that the installed versions do not meet.
        cores: that this process may run on. `quota`: processors' worth of time that its container allows, if limited.
        threads: what the libraries would use. `variables`: environment variables that say so.
        memory, available: bytes, the container's limit taken into account.
        store: folder of the artefacts. `free`: bytes on its disk. `filesystem`: its type.
        device: `cuda …`, `mps` or `cpu`. `gpu`: whether there is an NVIDIA device at all. `cuda_build`: torch's CUDA version.
        bf16: `fast` (instructions for it), `emulated` or `unknown`.
        extras: package → installed.
        open_files, file_size: this process's limits; None = unlimited.
        encoding: of standard output.
        start_method: how Python starts worker processes unless told otherwise.
    """

    kit: str
    python: str
    system: str
    libraries: dict[str, str | None]
    unmet: list[str]
    cores: int
    quota: float | None
    threads: dict[str, int]
    variables: dict[str, str]
    memory: int
    available: int
    store: str
    free: int
    filesystem: str
    device: str
    gpu: bool
    cuda_build: str | None
    bf16: str
    extras: dict[str, bool]
    open_files: int | None
    file_size: int | None
    encoding: str
    start_method: str

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def look(store: Path = DEFAULT_ROOT) -> MachineFacts:
    """Gather the facts. Imports torch and Polars to ask them."""
    import polars as pl
    import torch

    place = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.is_dir())
    room = memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return MachineFacts(
        kit=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        libraries={name: _version(name) for name in (*LIBRARIES, "torch-geometric", "lightning-fabric")},
        unmet=unmet_requirements(),
        cores=cores,
        quota=_quota(),
        threads={"polars": pl.thread_pool_size(), "torch": torch.get_num_threads()},
        variables={name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        memory=room.total,
        available=room.available,
        store=str(store),
        free=shutil.disk_usage(place).free,
        filesystem=filesystem_of(place),
        device=_device(),
        gpu=Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None,
        cuda_build=torch.version.cuda,
        bf16=bf16_support(),
        extras={package: _installed(module) for module, (package, _) in EXTRAS.items()},
        open_files=_limit(resource.RLIMIT_NOFILE),
        file_size=_limit(resource.RLIMIT_FSIZE),
        encoding=sys.stdout.encoding or "",
        start_method=multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0],
    )


def judge(facts: MachineFacts) -> list[Finding]:
    """The traps that these facts fall into, each with its remedy."""
    found = [*_installation(facts), *_processor(facts), *_room(facts)]
    if facts.encoding.lower().replace("-", "") != "utf8":
        found.append(
            Finding(
                Severity.WARNING,
                f"Standard output is {facts.encoding or 'of unknown encoding'}, and the kit prints → and ×.",
                "terminal",
                "Set PYTHONIOENCODING=utf-8 or a UTF-8 locale.",
            )
        )
    return found


def _installation(facts: MachineFacts) -> list[Finding]:
    found = [
        Finding(
            Severity.ERROR, f"{line}.", "packages", "Run `pip install -c constraints.txt -e .` in this environment."
        )
        for line in facts.unmet
    ]
    if facts.cuda_build and not facts.gpu:
        what = f"torch was built for CUDA {facts.cuda_build}, and there is no NVIDIA device: gigabytes for nothing."
        remedy = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
        found.append(Finding(Severity.INFO, what, "torch", remedy))
    if facts.gpu and not facts.device.startswith("cuda"):
        why = f"its CUDA {facts.cuda_build} does not start here" if facts.cuda_build else "torch is a CPU build"
        remedy = "Install the torch build for the driver's CUDA version (`nvidia-smi` shows it)."
        found.append(Finding(Severity.WARNING, f"There is an NVIDIA device, but {why}.", "torch", remedy))
    return found


def _processor(facts: MachineFacts) -> list[Finding]:
    found = []
    allowed = min(facts.cores, facts.quota or facts.cores)
    for name, threads in facts.threads.items():
        if threads > max(1.0, allowed):
            what = f"{name} would use {threads} threads where {allowed:g} processors may be used: they get in each other's way."
            remedy = f"Give --threads {max(1, int(allowed))}, or set OMP_NUM_THREADS and POLARS_MAX_THREADS."
            found.append(Finding(Severity.WARNING, what, "threads", remedy))
    for name, text in facts.variables.items():
        if text.isdigit() and int(text) < facts.cores:
            what = f"{name}={text} leaves {facts.cores - int(text)} of {facts.cores} processors idle."
            found.append(Finding(Severity.INFO, what, "threads", f"Unset {name} unless other work needs them."))
    if facts.start_method == "fork":
        what = "Python forks worker processes here; Polars and torch can hang in a forked child. The kit itself spawns."
        remedy = "In code of your own use multiprocessing.get_context('spawn')."
        found.append(Finding(Severity.INFO, what, "processes", remedy))
    if facts.bf16 == "emulated":
        what = "This processor has no bf16 instructions: --precision bf16 would be slower than fp32 and no more exact."
        found.append(Finding(Severity.INFO, what, "bf16", "Score with --precision fp32 (the default)."))
    return found


def _room(facts: MachineFacts) -> list[Finding]:
    found = []
    if facts.free < 5 * GIB:
        severity = Severity.ERROR if facts.free < GIB // 2 else Severity.WARNING
        what = f"{facts.free / GIB:.1f} GiB are free on the disk of {facts.store}; the official size needs about 10."
        remedy = "Free some (`kit clean` lists what can go), or set KIT_STORE to a folder on a larger disk."
        found.append(Finding(severity, what, "disk", remedy))
    if facts.available < 2 * GIB:
        what = f"{facts.available / GIB:.1f} GiB of memory are available; the small shop needs about 1, the official size 12."
        found.append(Finding(Severity.WARNING, what, "memory", "Close other programs, or take fewer families."))
    if facts.filesystem.lower().startswith(NETWORK):
        what = f"{facts.store} lies on {facts.filesystem}: locks and renames there are slow or not to be relied on."
        remedy = "Set KIT_STORE to a folder on a local disk."
        found.append(Finding(Severity.WARNING, what, "store", remedy))
    if facts.open_files is not None and facts.open_files < 256:
        what = f"Only {facts.open_files} files may be open at once."
        found.append(Finding(Severity.WARNING, what, "limits", "Raise it: `ulimit -n 1024`."))
    if facts.file_size is not None:
        what = f"Files may not grow over {facts.file_size / GIB:.2f} GiB."
        found.append(Finding(Severity.WARNING, what, "limits", "Lift it: `ulimit -f unlimited`."))
    return found


def unmet_requirements() -> list[str]:
    """`polars 1.2 is installed, polars>=2.0 is needed` for every requirement that is not met; [] if the kit is a bare folder."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("kit") or []
    except metadata.PackageNotFoundError:
        return []
    unmet = []
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None:
            unmet.append(f"{requirement.name} is not installed, {requirement} is needed")
        elif not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement.name} {version} is installed, {requirement} is needed")
    return unmet


def filesystem_of(folder: Path) -> str:
    """Type of the file system that a folder lies on: that of the longest mount point above it; "" if unknown."""
    mounts = [(Path(part.mountpoint), part.fstype) for part in psutil.disk_partitions(all=True)]
    above = [(len(mount.parts), kind) for mount, kind in mounts if folder.resolve().is_relative_to(mount)]
    return max(above)[1] if above else ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _installed(module: str) -> bool:
    """Whether it can be imported; a folder of that name in the working directory (`wandb`) has no origin and is none."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def _quota() -> float | None:
    """Processors' worth of time per period that the control group allows."""
    try:
        share, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return int(share) / int(period)
    except (OSError, ValueError):
        return None


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda ({', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))})"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _limit(kind: int) -> int | None:
    soft = resource.getrlimit(kind)[0]
    return None if soft == resource.RLIM_INFINITY else soft
