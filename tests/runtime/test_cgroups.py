"""The limits of cgroups, threads and memory that follow from them; /proc and the cgroups are files of this test."""

import pytest
from numba import config

from fastmf.errors import ResourceError
from fastmf.runtime import cgroups, memory, threads

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Write files of /proc and of the cgroups, path to text; there are no others."""
    monkeypatch.setattr(cgroups, "PROC", tmp_path / "proc")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path / "cgroup")

    def write(**files):
        for path, text in files.items():
            where = tmp_path / path.replace("__", "/").replace("_dot_", ".")
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(text)

    return write


def test_without_cgroups_there_is_no_quota(system):
    assert threads.cpu_quota() is None


@pytest.mark.parametrize(
    ("own", "above", "quota"),
    [
        ("max 100000", "max 100000", None),
        ("150000 100000", "max 100000", 1.5),
        ("max 100000", "200000 100000", 2),
        ("400000 100000", "50000 100000", 0.5),
        ("", "garbage", None),
    ],
)
def test_the_quota_is_the_least_of_all_cgroups_above(system, own, above, quota):
    system(proc__self__cgroup="0::/a/b\n", cgroup__a__b__cpu_dot_max=own, cgroup__a__cpu_dot_max=above)
    assert threads.cpu_quota() == quota


@pytest.mark.parametrize(("text", "quota"), [("-1", None), ("250000", 2.5)])
def test_the_quota_of_cgroups_of_version_1(system, text, quota):
    system(
        proc__self__cgroup="4:memory:/x\n2:cpuacct,cpu:/of/the/host\n0::/\n",  # a container does not see the path
        cgroup__cpu__cpu_dot_cfs_quota_us=text,
        cgroup__cpu__cpu_dot_cfs_period_us="100000",
    )
    assert threads.cpu_quota() == quota


def test_threads_follow_the_quota_unless_numba_is_told_how_many(monkeypatch):
    monkeypatch.setattr(threads, "cpu_quota", lambda: 0.5)
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 4)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert threads.max_threads.__wrapped__() == 1
    monkeypatch.setattr(threads, "cpu_quota", lambda: 2.5)
    assert threads.max_threads.__wrapped__() == 3
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    assert threads.max_threads.__wrapped__() == 4


def test_available_memory_is_what_the_machine_or_the_cgroup_leaves(system):
    system(proc__meminfo=f"MemTotal: 99 kB\nMemAvailable:   {8 * 2**20} kB\n")
    assert memory.available_memory() == 8 * GIB
    system(proc__self__cgroup="0::/job\n", cgroup__job__memory_dot_max="max", cgroup__job__memory_dot_current="1")
    assert memory.available_memory() == 8 * GIB
    system(
        cgroup__job__memory_dot_max=f"{4 * GIB}\n",
        cgroup__job__memory_dot_current=f"{3 * GIB}\n",
        cgroup__job__memory_dot_stat=f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\n",
    )
    assert memory.available_memory() == 3 * GIB
    assert memory.total_memory() <= 4 * GIB


def test_available_memory_of_cgroups_of_version_1(system):
    system(
        proc__meminfo=f"MemAvailable: {8 * 2**20} kB\n",
        proc__self__cgroup="4:memory:/job\n",
        cgroup__memory__job__memory_dot_limit_in_bytes=f"{2 * GIB}",
        cgroup__memory__job__memory_dot_usage_in_bytes=f"{3 * GIB}",
        cgroup__memory__job__memory_dot_stat=f"total_inactive_file {GIB // 2}\ninactive_file 9\n",
        cgroup__memory__memory_dot_limit_in_bytes="9223372036854771712",  # none
    )
    assert memory.available_memory() == 0
    system(cgroup__memory__job__memory_dot_usage_in_bytes=f"{2 * GIB}")
    assert memory.available_memory() == GIB // 2


def test_what_takes_too_much_is_refused_with_the_numbers(system):
    system(proc__meminfo=f"MemAvailable: {2**20} kB\n")
    memory.require_memory(GIB, "it", None, "less")
    with pytest.raises(
        ResourceError, match=r"^it takes at least 2\.00 GiB of memory, but 1\.00 GiB are available: less$"
    ):
        memory.require_memory(2 * GIB, "it", None, "less")
    memory.require_memory(2 * GIB, "it", 2 * GIB, "less")  # a limit is the user's word
    with pytest.raises(ResourceError, match=r"100\.0 MiB of memory, but 1\.0 MiB are allowed \(memory limit\): less"):
        memory.require_memory(100 * 2**20, "it", 2**20, "less")
