"""Confines a Linux process permanently: its system calls, files, memory and CPU time.

`runner.py` imports this file on its own in a new interpreter, so it imports only the standard library.  The kernel
enforces the confinement (on x86-64 and 64-bit Arm), it needs no privileges, and the process cannot undo it:

    namespaces   another user; no network or shared memory exists; the folder is in memory, with a size
    Landlock     paths outside of the folder and of Python are refused, and (from Linux 6.12 on) signals and abstract
                 sockets to others
    seccomp      every system call is refused but those in `ALLOWED`
    capabilities none
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys

# -- system calls --------------------------------------------------------------------------------------------------

# Allowed system calls by name: the number on x86-64 and on 64-bit Arm, or None if there is none.  They read and write
# what Landlock permits, manage the process's own memory and threads, wait, and tell the time.
ALLOWED = {
    # files
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "lseek": (8, 62), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "access": (21, None), "pipe": (22, None), "dup": (32, 23), "dup2": (33, None),
    "sendfile": (40, 71), "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83), "truncate": (76, 45),
    "ftruncate": (77, 46), "getdents": (78, None), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "rename": (82, None), "mkdir": (83, None), "rmdir": (84, None), "creat": (85, None), "link": (86, None),
    "unlink": (87, None), "symlink": (88, None), "readlink": (89, None), "umask": (95, 166), "statfs": (137, 43),
    "fstatfs": (138, 44), "getdents64": (217, 61), "openat": (257, 56), "mkdirat": (258, 34), "newfstatat": (262, 79),
    "unlinkat": (263, 35), "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36), "readlinkat": (267, 78),
    "faccessat": (269, 48), "fallocate": (285, 47), "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69),
    "pwritev": (296, 70), "renameat2": (316, 276), "copy_file_range": (326, 285), "statx": (332, 291),
    "close_range": (436, 436), "faccessat2": (439, 439),
    # memory and threads (`clone` only for threads, see `seccomp_filter`)
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216),
    "madvise": (28, 233), "arch_prctl": (158, None), "futex": (202, 98), "set_tid_address": (218, 96),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "membarrier": (324, 283), "rseq": (334, 293),
    "sched_yield": (24, 124), "exit": (60, 93), "exit_group": (231, 94),
    # its own signals, waiting, and pipes between its threads
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "getitimer": (36, 102),
    "alarm": (37, None), "setitimer": (38, 103), "restart_syscall": (219, 128), "poll": (7, None),
    "select": (23, None), "pselect6": (270, 72), "ppoll": (271, 73), "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115), "epoll_create": (213, None), "epoll_wait": (232, None), "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22), "epoll_create1": (291, 20), "eventfd": (284, None), "eventfd2": (290, 19),
    "socketpair": (53, 199), "recvfrom": (45, 207), "shutdown": (48, 210), "getsockname": (51, 204),
    "getpeername": (52, 205), "getsockopt": (55, 209),
    # what the process is, the time, random numbers
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getpgrp": (111, None), "getpgid": (121, 155),
    "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getgroups": (115, 158), "uname": (63, 160), "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179),
    "times": (100, 153), "sched_getaffinity": (204, 123), "getcpu": (309, 168), "gettimeofday": (96, 169),
    "time": (201, None), "clock_gettime": (228, 113), "clock_getres": (229, 114), "getrandom": (318, 278),
}  # fmt: skip

# The architecture's name in a filter, and the column in `ALLOWED`.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CALLS = {  # further calls: by the same columns
    "clone": (56, 220), "clone3": (435, 435), "fcntl": (72, 25), "ioctl": (16, 29), "prlimit64": (302, 261),
    "sendto": (44, 206), "wait4": (61, 260), "capset": (126, 91),
}  # fmt: skip

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld abs, jeq, jge, jset, ret
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_CLONE_THREAD, _F_SETFL, _O_ASYNC = 0x00010000, 4, 0o20000
# Duplicates, flags and locks of a file; terminals' size, blocking, bytes to read, close-on-exec.  Not: its owner, who
# gets signals, its lease, its pipe's size.
_FCNTL = (0, 1, 2, 3, 5, 6, 7, 36, 37, 38, 1030)
_IOCTL = (0x5401, 0x5413, 0x5421, 0x541B, 0x5450, 0x5451)

Instruction = tuple[int, int, int, int]


def seccomp_filter(machine: str, *, waits: bool = False) -> bytes:
    """The seccomp instructions: calls but those in `ALLOWED`, and clones that are not threads, fail with EPERM.

    Args:
      waits: also allow to wait for a child.
    """
    architecture, column = ARCHITECTURES[machine]
    number = {name: both[column] for name, both in _CALLS.items()}
    low, high = (lambda i: (_LOAD, 0, 0, 16 + 8 * i)), (lambda i: (_LOAD, 0, 0, 20 + 8 * i))  # of argument i
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)

    def null(i: int) -> list[Instruction]:
        return [low(i), (_EQUAL, 0, 3, 0), high(i), (_EQUAL, 0, 1, 0), allow, refuse]

    def one_of(i: int, values: tuple[int, ...]) -> list[Instruction]:
        return [low(i), *(x for value in values for x in ((_EQUAL, 0, 1, value), allow)), refuse]

    flags = [low(1), (_EQUAL, 0, 3, _F_SETFL), low(2), (_ANY_BIT, 1, 0, _O_ASYNC), allow]
    blocks = {
        number["clone"]: [low(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse],
        # clone3's flags are behind a pointer; with "not implemented" the C library falls back to clone.
        number["clone3"]: [(_RETURN, 0, 0, 0x00050000 | errno.ENOSYS)],
        number["fcntl"]: [*flags, *one_of(1, _FCNTL)],
        number["ioctl"]: one_of(1, _IOCTL),
        number["prlimit64"]: null(2),  # reads a limit, sets none
        number["sendto"]: null(4),  # to its own pair of sockets, not to an address
    }
    blocks |= {both[column]: [allow] for both in ALLOWED.values() if both[column] is not None}
    blocks |= {number["wait4"]: [allow]} if waits else {}
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_AT_LEAST, 0, 1, 0x40000000), refuse]  # x32 has the same calls with other numbers
    for call, block in blocks.items():
        lines += [(_EQUAL, 0, len(block), call), *block]
    return b"".join(struct.pack("=HBBI", *line) for line in [*lines, refuse])


# -- the kernel ----------------------------------------------------------------------------------------------------


def _call(what: str, function, *arguments) -> int:
    result = function(*(ctypes.c_long(x) if isinstance(x, int) else x for x in arguments))
    if result < 0:
        raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _library() -> ctypes.CDLL:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        raise OSError(f"{platform.system()} on {machine}; expected Linux on x86-64 or 64-bit Arm")
    return ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Kills this process when its parent ends."""
    _call("PR_SET_PDEATHSIG", _library().prctl, 1, 9, 0, 0, 0)


_NAMESPACES = 0x10000000 | 0x00020000 | 0x40000000 | 0x08000000  # user, mount, net, ipc
_PRIVATE, _NO_SPECIAL = 0x4000 | 0x40000, 2 | 4 | 8  # mount flags: recursive, private; nosuid, nodev, noexec


def enter_namespaces(folder: str, size: int) -> None:
    """Moves this process to namespaces of its own, as another user, where `folder` holds at most `size` bytes.

    Raises:
      OSError: the system does not let this user make namespaces.
    """
    libc, user, group = _library(), os.geteuid(), os.getegid()
    _call("namespaces", libc.unshare, _NAMESPACES)
    for file, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
        with open(f"/proc/self/{file}", "w") as map_file:
            map_file.write(text)
    _call("private mounts", libc.mount, b"none", b"/", None, _PRIVATE, None)
    options = f"size={size},nr_inodes=2000,mode=700".encode()
    _call("tmpfs", libc.mount, b"candidate", folder.encode(), b"tmpfs", _NO_SPECIAL, options)
    os.chdir(folder)


# -- paths ---------------------------------------------------------------------------------------------------------

_READ = (1 << 2) | (1 << 3)  # files, folders
_WRITE = (1 << 1) | (1 << 14)  # write, truncate
_CHANGE = sum(1 << bit for bit in (4, 5, 7, 8, 10, 12, 13))  # remove and make folders and files, fifos, links; move
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}  # by version; 5 and later: below
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446


def _ruleset(version: int) -> tuple[int, bytes]:
    """The handled accesses of files, and the attributes of a ruleset: TCP from 4 on, scopes from 6 on."""
    handled = _HANDLED.get(version, (1 << 16) - 1)
    network, scopes = 0b11, 0b11  # bind and connect; abstract sockets and signals
    attributes = (handled, network, scopes) if version >= 6 else (handled, network) if version >= 4 else (handled,)
    return handled, struct.pack(f"={len(attributes)}Q", *attributes)


def restrict_paths(folder: str | None, readable: list[str]) -> None:
    """Restricts this process and its children: files are read only in `folder` and `readable`, and written only in
    `folder`; without one, nowhere.  A child that restricts itself again can signal no parent, but its parent can
    signal it.  Also drops all capabilities.

    Raises:
      OSError: this kernel or machine does not support it.
    """
    libc, machine = _library(), platform.machine()
    version = _call("Landlock (Linux 5.13 or later)", libc.syscall, _CREATE_RULESET, None, 0, 1)
    handled, attributes = _ruleset(version)
    rules = _call("Landlock", libc.syscall, _CREATE_RULESET, attributes, len(attributes), 0)
    for path, access in (
        *((path, _READ) for path in readable),
        *((path, _READ | _WRITE) for path in ("/dev/null", "/dev/zero", "/dev/urandom")),
        *(() if folder is None else ((folder, _READ | _WRITE | _CHANGE),)),
    ):
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not on this system
        if not os.path.isdir(path):
            access &= ~((1 << 3) | _CHANGE)
        rule = struct.pack("=Qi", access & handled, beneath)
        _call(f"Landlock, {path}", libc.syscall, _ADD_RULE, rules, 1, rule, 0)
        os.close(beneath)
    _call("no_new_privs", libc.prctl, 38, 1, 0, 0, 0)
    _call("Landlock", libc.syscall, _RESTRICT_SELF, rules, 0)
    os.close(rules)
    none = struct.pack("=6I", *(0,) * 6)
    capset = _CALLS["capset"][ARCHITECTURES[machine][1]]
    _call("capset", libc.syscall, capset, struct.pack("=Ii", 0x20080522, 0), none)


def restrict_calls(*, waits: bool) -> None:
    """Refuses this process all system calls but those of `seccomp_filter`.

    Raises:
      OSError: this kernel or machine does not support it.
    """
    libc, machine = _library(), platform.machine()
    lines = ctypes.create_string_buffer(seccomp_filter(machine, waits=waits))
    program = struct.pack("@HP", (len(lines) - 1) // 8, ctypes.addressof(lines))
    _call("seccomp", libc.prctl, 22, 2, program, 0, 0)


def limit(seconds: float, memory: int, file_bytes: int) -> None:
    """Limits CPU seconds, bytes of address space and bytes per file; also no core dump and 64 open files."""
    wanted = {
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
    }
    for which, most in wanted.items():
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))
