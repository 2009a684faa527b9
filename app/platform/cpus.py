"""How many CPUs this process really has: its affinity and the limits of its control groups."""

import os
from pathlib import Path, PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """Count the CPUs that this process may keep busy all the time, at least 1.

    That is the smallest of its CPU affinity and of every limit on the way from its control group up
    to the top, in version 1 and 2: what `docker run --cpus`, `limits.cpu` of Kubernetes and
    `CPUQuota` of systemd set. `root` is where `/proc` and `/sys` are.
    """
    quotas = [quota for group in _groups(root) if (quota := _quota(group)) is not None]
    # A limit of 1.5 counts as 1. With a second worker the group would use up its time before the
    # period of 100 ms ends, and the kernel then freezes all of it, whatever locks it holds.
    return max(1, min([_affinity(), *(int(quota) for quota in quotas)]))


def _affinity() -> int:
    """Count the CPUs that the scheduler may put this process on (cpusets are part of that)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> list[Path]:
    """List the folders of the control groups that limit this process's CPU time, up to the top."""
    memberships = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup")]
    groups: list[Path] = []
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, system = line.partition(" - ")
        fields, kind = mount.split(), system.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            own = [path for number, _, path in memberships if number == "0"]
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            own = [path for _, controllers, path in memberships if "cpu" in controllers.split(",")]
        else:
            continue
        for path in own:
            groups += _upwards(root / fields[4].lstrip("/"), mounted=fields[3], path=path)
    return groups


def _upwards(mount: Path, *, mounted: str, path: str) -> list[Path]:
    """List the folders of a control group and of its parents, as far as the mount shows them.

    In a container the mount may begin at the container's own group (`mounted`), while the path
    still begins at the host's top; or the path lies outside of what is mounted, and then the mount
    itself is all there is to see.
    """
    group = PurePosixPath(path)
    inside = group.is_relative_to(mounted) and ".." not in group.parts
    relative = group.relative_to(mounted) if inside else PurePosixPath(".")
    return [mount / step for step in (relative, *relative.parents)]


def _quota(group: Path) -> float | None:
    """Read how many CPUs' worth of time a control group gets, or None where nothing limits it."""
    # Version 2 writes "<quota> <period>" or "max <period>" into one file; version 1 has two files,
    # with -1 for no limit.
    words = " ".join(_lines(group / "cpu.max")).split() or [
        *_lines(group / "cpu.cfs_quota_us"),
        *_lines(group / "cpu.cfs_period_us"),
    ]
    if len(words) != 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        return None
    return int(words[0]) / int(words[1])


def _lines(path: Path) -> list[str]:
    """Read the lines of a file of the kernel; one that isn't there, or can't be read, has none."""
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
