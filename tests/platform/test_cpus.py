"""CPUs that a process really has, on machines and in containers of every kind."""

import os
from pathlib import Path

import pytest

from app.platform.cpus import usable_cpus

V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, *, group: str, mounts: str, files: dict[str, str]) -> Path:
    """Make the files that the kernel of a machine shows."""
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(group + "\n")
    (proc / "mountinfo").write_text("24 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts + "\n")
    for name, content in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(content + "\n")
    return root


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 8


def test_where_there_is_no_affinity_all_cpus_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cpus(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path) == 1


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("399999 100000", 3),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("1000000 500000", 2),
        ("", 8),
        ("nonsense", 8),
        ("200000 0", 8),
    ],
)
def test_a_limit_of_version_2_counts_in_whole_cpus(
    tmp_path: Path, limit: str, expected: int
) -> None:
    root = machine(tmp_path, group="0::/", mounts=V2, files={"cpu.max": limit})
    assert usable_cpus(root) == expected


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        group="0::/system.slice/bursar.service/web",
        mounts=V2,
        files={
            "cpu.max": "700000 100000",
            "system.slice/cpu.max": "300000 100000",
            "system.slice/bursar.service/cpu.max": "max 100000",
            "system.slice/bursar.service/web/cpu.max": "500000 100000",
            "other.slice/cpu.max": "100000 100000",
        },
    )
    assert usable_cpus(root) == 3


@pytest.mark.parametrize(
    ("quota", "period", "expected"), [("-1", "100000", 8), ("250000", "100000", 2), ("1", "", 8)]
)
def test_a_limit_of_version_1_counts(
    tmp_path: Path, quota: str, period: str, expected: int
) -> None:
    root = machine(
        tmp_path,
        group="9:name=systemd:/x\n2:cpu,cpuacct:/web\n1:cpuset:/y\n0::/",
        mounts=V1.format(root="/"),
        files={
            "cpu,cpuacct/web/cpu.cfs_quota_us": quota,
            "cpu,cpuacct/web/cpu.cfs_period_us": period,
        },
    )
    assert usable_cpus(root) == expected


def test_a_parent_of_version_1_counts_too(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        group="4:cpu,cpuacct:/kubepods/burstable/pod1/c1",
        mounts=V1.format(root="/"),
        files={
            "cpu,cpuacct/kubepods/burstable/pod1/cpu.cfs_quota_us": "400000",
            "cpu,cpuacct/kubepods/burstable/pod1/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/kubepods/burstable/pod1/c1/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/kubepods/burstable/pod1/c1/cpu.cfs_period_us": "100000",
        },
    )
    assert usable_cpus(root) == 4


@pytest.mark.parametrize(
    ("group", "mounted"),
    [
        ("2:cpu,cpuacct:/docker/abc", "/docker/abc"),
        ("2:cpu,cpuacct:/docker/abc", "/docker/other"),
        ("2:cpu,cpuacct:/../elsewhere", "/"),
    ],
)
def test_in_a_container_the_top_of_what_is_mounted_counts(
    tmp_path: Path, group: str, mounted: str
) -> None:
    root = machine(
        tmp_path,
        group=group,
        mounts=V1.format(root=mounted),
        files={"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
    )
    assert usable_cpus(root) == 2


def test_a_machine_with_both_versions_is_read_by_the_one_that_has_the_limit(
    tmp_path: Path,
) -> None:
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    root = machine(
        tmp_path,
        group="2:cpu,cpuacct:/\n0::/",
        mounts=V1.format(root="/") + "\n" + unified,
        files={"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
    )
    assert usable_cpus(root) == 3


def test_a_line_that_the_kernel_never_writes_changes_nothing(tmp_path: Path) -> None:
    root = machine(
        tmp_path, group="0::/", mounts="cut off\n" + V2, files={"cpu.max": "200000 100000"}
    )
    assert usable_cpus(root) == 2


def test_this_machine_can_be_counted() -> None:
    assert 1 <= usable_cpus() <= 8
