"""Runs inside the sandbox: permanently confines its own process, runs a program, and reports how it ended.

`sandbox.py` starts this file on its own in a new interpreter (`python -I confined.py`), so it imports only the standard
library.  It reads one JSON object from stdin (see `main`) and writes the verdict to a pipe as `nonce {"outcome": …}`.

The Linux kernel enforces the confinement (on x86-64 and 64-bit Arm); it needs no privileges and the process cannot undo
it: a seccomp filter refuses system calls by number, a Landlock ruleset refuses paths, and capabilities are dropped.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import struct
import sys

# -- system calls --------------------------------------------------------------------------------------------------

# Refused system calls by name: the number on x86-64 and on 64-bit Arm, or None if there is none.
REFUSED = {
    # the network; io_uring would bypass this filter
    "socket": (41, 198), "io_uring_setup": (425, 425),
    # other programs and processes (threads are allowed, see `seccomp_filter`)
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "setsid": (112, 157),
    "setpgid": (109, 154), "unshare": (272, 97), "setns": (308, 268), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    # signals to any process
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424),
    # its own limits, and memory that outlives the process or escapes its limits
    "prlimit64": (302, 261), "setrlimit": (160, 164), "memfd_create": (319, 279), "shmget": (29, 194),
    "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    # owners, modes and times of files, which Landlock does not restrict
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # the kernel
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "mount": (165, 40), "umount2": (166, 39), "chroot": (161, 51),
}  # fmt: skip

# The architecture's name in a filter, the column above, and the numbers of clone, clone3 and capset.
ARCHITECTURES = {"x86_64": (0xC000003E, 0, 56, 435, 126), "aarch64": (0xC00000B7, 1, 220, 435, 91)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld abs, jeq, jge, jset, ret
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD = 0x00010000


def seccomp_filter(machine: str) -> bytes:
    """The seccomp instructions: calls in `REFUSED`, and clones that are not threads, fail with EPERM."""
    architecture, column, clone, clone3, _ = ARCHITECTURES[machine]
    refused = _ERRNO | errno.EPERM
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, refused)]  # x32 has the same calls with other numbers
    for numbers in REFUSED.values():
        if numbers[column] is not None:
            lines += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, refused)]
    # clone3's flags are behind a pointer; with "not implemented" the C library falls back to clone.
    lines += [(_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    lines += [(_EQUAL, 0, 3, clone), (_LOAD, 0, 0, 16), (_ANY_BIT, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, refused)]
    lines += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


# -- paths ---------------------------------------------------------------------------------------------------------

_READ = (1 << 2) | (1 << 3)  # files, folders
_WRITE = (1 << 1) | (1 << 14)  # write, truncate
_CHANGE = sum(1 << bit for bit in (4, 5, 7, 8, 10, 12, 13))  # remove and make folders and files, fifos, links; move
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}  # by version; 5 and later: below
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446


def confine(folder: str, readable: list[str]) -> None:
    """Confines this process: no network, processes or signals; files are read only in `folder` and `readable`, and
    written only in `folder`.

    Raises:
      OSError: this kernel or machine does not support it.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        raise OSError(f"{platform.system()} on {machine}; expected Linux on x86-64 or 64-bit Arm")
    libc = ctypes.CDLL(None, use_errno=True)

    def call(what: str, function, *arguments) -> int:
        result = function(*(ctypes.c_long(x) if isinstance(x, int) else x for x in arguments))
        if result < 0:
            raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")
        return result

    version = call("Landlock (Linux 5.13 or later)", libc.syscall, _CREATE_RULESET, None, 0, 1)
    handled = _HANDLED.get(version, (1 << 16) - 1)
    rules = call("Landlock", libc.syscall, _CREATE_RULESET, struct.pack("=Q", handled), 8, 0)
    for path, access in (
        *((path, _READ) for path in readable),
        *((path, _READ | _WRITE) for path in ("/dev/null", "/dev/zero", "/dev/urandom")),
        (folder, _READ | _WRITE | _CHANGE),
    ):
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not on this system
        if not os.path.isdir(path):
            access &= ~((1 << 3) | _CHANGE)
        rule = struct.pack("=Qi", access & handled, beneath)
        call(f"Landlock, {path}", libc.syscall, _ADD_RULE, rules, 1, rule, 0)
        os.close(beneath)
    call("no_new_privs", libc.prctl, 38, 1, 0, 0, 0)
    call("Landlock", libc.syscall, _RESTRICT_SELF, rules, 0)
    os.close(rules)
    none = struct.pack("=6I", *(0,) * 6)
    call("capset", libc.syscall, ARCHITECTURES[machine][4], struct.pack("=Ii", 0x20080522, 0), none)
    lines = ctypes.create_string_buffer(seccomp_filter(machine))
    program = struct.pack("@HP", (len(lines) - 1) // 8, ctypes.addressof(lines))
    call("seccomp", libc.prctl, 22, 2, program, 0, 0)


# -- the program ---------------------------------------------------------------------------------------------------


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


def run(program: str) -> dict[str, str]:
    """Runs a program as `__main__`: {"outcome": "passed" | "failed" | "syntax error", "error": one line}.

    A program passes by reaching its end; one that exits earlier (`sys.exit(0)`) has failed.
    """
    try:
        compiled = compile(program, "<candidate>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return {"outcome": "syntax error", "error": _line(error)}
    try:
        exec(compiled, {"__name__": "__main__", "__builtins__": __builtins__})
    except BaseException as error:
        return {"outcome": "failed", "error": _line(error)}
    return {"outcome": "passed", "error": ""}


def _line(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    except BaseException:  # an exception class of the candidate whose message raises too
        return type(error).__name__


def main() -> None:
    """Reads {"program", "nonce", "verdict" (a file descriptor), "folder", "confined", "readable", and the limits}."""
    asked = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    write, leave = os.write, os._exit  # safe from a program that replaces them
    encode, verdict = json.dumps, asked["verdict"]
    try:
        limit(asked["seconds"], asked["memory"], asked["file_bytes"])
        if asked["confined"]:
            confine(asked["folder"], asked["readable"])
    except (OSError, ValueError) as error:
        ended = {"outcome": "not confined", "error": _line(error)}
    else:
        ended = run(asked["program"])
    with contextlib.suppress(BaseException):  # a full or closed output does not affect the verdict
        sys.stdout.flush()
        sys.stderr.flush()
    write(verdict, f"{asked['nonce']} {encode(ended)}".encode())
    leave(0)


if __name__ == "__main__":
    main()
