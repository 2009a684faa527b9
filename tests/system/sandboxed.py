"""Runs a command under a unit's system call filter, as systemd would; a program of its own.

The two other things that a program may stumble over come with it: no new privileges, and no memory
that is both written and executed. The arguments are the unit's `SystemCallFilter=` lines, `--`, and
the command.
"""

import ctypes
import os
import subprocess
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
# What SystemCallErrorNumber=EPERM makes of a call that isn't allowed.
REFUSE, ALLOW = 0x00050001, 0x7FFF0000


def calls(group: str) -> set[str]:
    """Return the system calls of one of systemd's groups, or the one that is named."""
    if not group.startswith("@"):
        return {group}
    listing = ["systemd-analyze", "--no-pager", "syscall-filter", group]
    said = subprocess.run(listing, capture_output=True, check=True, text=True).stdout
    members = [line.strip() for line in said.splitlines()[1:]]
    named = [member for member in members if member and not member.startswith("#")]
    return set().union(*map(calls, named))


def allowed(filters: list[str]) -> set[str]:
    """Return what the lines of a unit leave allowed, one after the other."""
    left: set[str] = set()
    for line in filters:
        groups = set().union(*map(calls, line.removeprefix("~").split()))
        left = left - groups if line.startswith("~") else left | groups
    return left


def confine(names: set[str]) -> None:
    """Refuse everything else to this process, from now on and whatever it executes."""
    seccomp, libc = ctypes.CDLL("libseccomp.so.2"), ctypes.CDLL(None)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(REFUSE))
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(context, ALLOW, number, 0)
    # Kernels before 6.3 don't know it.
    libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or seccomp.seccomp_load(context):
        sys.exit("the filter can't be loaded")


if __name__ == "__main__":
    end = sys.argv.index("--")
    confine(allowed(sys.argv[1:end]))
    os.execv(sys.argv[end + 1], sys.argv[end + 1 :])
