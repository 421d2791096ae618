"""What this machine and this installation offer: cores, memory, disks, packages."""

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

__all__ = [
    "ExtraStatus",
    "count_cores",
    "free_disk",
    "is_cpu_of_amd",
    "list_extras",
    "list_versions",
    "memory",
]

_NEEDED = ("torch", "torchvision", "numpy", "pillow", "safetensors", "pydantic")
_REQUIREMENT = re.compile(r"""^([\w.-]+)[^;]*;.*\bextra\s*==\s*['"]([\w-]+)['"]""")
_NOT_FOR_USERS = ("dev", "docs")
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class ExtraStatus:
    """An extra of the package.

    Args:
        name: such as `eval`.
        missing: its packages that are not installed.
    """

    name: str
    missing: tuple[str, ...]


def list_versions() -> dict[str, str]:
    """Returns the versions of the package, of Python and of the packages that it always needs."""
    names = {name: _find_version(name) or "not installed" for name in ("lapgan", *_NEEDED)}
    return {**names, "python": platform.python_version(), "system": platform.platform()}


def list_extras() -> list[ExtraStatus]:
    """Returns the extras of the package as it is installed, and what is missing of each."""
    extras: dict[str, list[str]] = {}
    for requirement in requires("lapgan") or []:
        match = _REQUIREMENT.match(requirement)
        if match is None or match[2] in _NOT_FOR_USERS:
            continue
        missing = extras.setdefault(match[2], [])
        if _find_version(match[1]) is None:
            missing.append(match[1])
    return [ExtraStatus(name, tuple(missing)) for name, missing in sorted(extras.items())]


def count_cores() -> int:
    """Returns how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_cpu_of_amd() -> bool:
    """Returns whether the system says that its CPU is made by AMD."""
    try:
        maker = _CPU_INFO.read_text(encoding="utf-8")
    except OSError:  # not Linux
        maker = platform.processor()
    return "AuthenticAMD" in maker


def memory() -> tuple[int, int] | None:
    """Returns the bytes of memory, and of those that are free; None where the system says neither.

    Limits of a container are not counted.
    """
    if sys.platform == "win32":
        return None
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return None


def free_disk(folder: Path) -> int:
    """Returns the free bytes of the disk that a folder is on, or would be on."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
