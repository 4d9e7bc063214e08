"""Programs that misbehave in different ways: their attempts have no effect, and they do not pass."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from research.errors import RequestError
from research.generated_code import sandbox
from research.generated_code.confined import ALLOWED, ARCHITECTURES, seccomp_filter
from research.generated_code.sandbox import Limits, run

pytestmark = pytest.mark.usefixtures("sandbox")

confined = pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines a process")
QUICK = Limits(seconds=20)


@confined
@pytest.mark.parametrize(
    ("program", "outcome", "error"),
    [
        ("assert 1 + 1 == 2", "passed", ""),
        ("import asyncio, hashlib, re, threading\nasyncio.run(asyncio.sleep(0))", "passed", ""),
        ("import threading as t\nx = t.Thread(target=id, args=(0,)); x.start(); x.join()", "passed", ""),
        ("assert 1 + 1 == 3, 'no'", "failed", "AssertionError: no"),
        ("import sys\nsys.exit(0)\nassert False", "failed", "SystemExit: 0"),
        ("import os\nos._exit(0)\nassert False", "failed", "exit status 0 before its end"),
        ("def f(:", "syntax error", "SyntaxError"),
        ("x = '\\0'\n\0", "syntax error", ""),
        ("def f(): f()\nf()", "failed", "RecursionError"),
        ("x = 'a' * 10**10", "failed", "MemoryError"),
        ("x = []\nwhile True: x.append('a' * 10**6)", "failed", "MemoryError"),
        ("import os\nwhile True: os.fork()", "failed", "PermissionError"),
        ("import subprocess\nsubprocess.run(['true'])", "failed", "PermissionError"),
        ("import os\nos.execv('/bin/true', ['true'])", "failed", "PermissionError"),
        ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", "failed", "PermissionError"),
        ("import os\nos.setsid()", "failed", "PermissionError"),
        ("import resource as r\nr.setrlimit(r.RLIMIT_CPU, (10**6, 10**6))", "failed", ""),
        ("import os\nos.chmod('.', 0o700)", "failed", "PermissionError"),
        ("import os\nos.listdir(os.path.expanduser('~/..') + '/..')", "failed", "PermissionError"),
        ("import os\nopen(f'/proc/{os.getppid()}/environ')", "failed", "PermissionError"),
        ("open('big', 'wb').write(b'0' * 2**26)", "failed", "OSError"),
        ("class E(Exception):\n  def __str__(self): raise self\nraise E", "failed", "E"),
        ("input()", "failed", "EOFError"),
    ],
)
def test_outcomes(program, outcome, error):
    ended = run(program, QUICK)
    assert (ended.outcome, ended.error[: len(error)]) == (outcome, error)


@confined
def test_an_endless_loop_times_out():
    ended = run("print('begun', flush=True)\nwhile True: pass", Limits(seconds=1.5))
    assert ended.outcome == "timeout" and 1.5 <= ended.seconds < 10 and ended.output == "begun\n"


@confined
@pytest.mark.parametrize("kind", ["INET", "INET6", "UNIX"])
def test_a_socket_cannot_connect(kind):
    """A server exists: this process can connect to it, the program cannot."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        accepted = []

        def accept():
            connection, _ = server.accept()
            accepted.append(connection)
            connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        connect = f"import socket\nsocket.socket(socket.AF_{kind}).connect(('127.0.0.1', {port}))"
        assert run(connect, QUICK).error.startswith("PermissionError")
        assert accepted == []
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join(10)
        assert len(accepted) == 1


@confined
def test_files_only_in_its_own_folder(tmp_path):
    outside = tmp_path / "mine"
    outside.write_text("precious")
    inside = "import os\nopen('a', 'w').write('1')\nos.mkdir('b')\nos.rename('a', 'b/a')\nprint(os.getcwd())"
    ended = run(inside, QUICK)
    assert ended.outcome == "passed" and not pathlib.Path(ended.output.strip()).exists()
    for attempt in (
        f"open({str(outside)!r})",
        f"open({str(outside)!r}, 'w')",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"import os\nos.remove({str(outside)!r})",
        f"import os\nos.truncate({str(outside)!r}, 0)",
        f"import os\nos.symlink({str(outside)!r}, 'link')\nopen('link', 'a')",
        f"import os\nos.link({str(outside)!r}, 'link')",
        f"import os\nopen('a', 'w')\nos.rename('a', {str(outside)!r})",
        f"import os\nos.utime({str(outside)!r}, (0, 0))",
    ):
        assert run(attempt, QUICK).error.startswith(("PermissionError", "OSError")), attempt
    assert outside.read_text() == "precious" and [p.name for p in tmp_path.iterdir()] == ["mine"]


@confined
def test_nothing_is_inherited(monkeypatch):
    monkeypatch.setenv("API_KEY", "secret")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        ended = run(f"import os\nprint(os.environ)\nos.write({writing}, b'x')", QUICK)
    finally:
        os.close(reading)
        os.close(writing)
    assert "secret" not in ended.output and "Bad file descriptor" in ended.error


@confined
def test_output_is_kept_to_its_limit():
    ended = run("print('a' * 100)", Limits(output=10))
    assert ended.outcome == "passed" and ended.output == "a" * 10
    assert run("while True: print('a' * 10**6)", QUICK).outcome == "failed"


EITHER = pytest.mark.parametrize(
    "limits", [pytest.param(QUICK, marks=confined), Limits(confined=False)], ids=["confined", "unconfined"]
)

# A program and what it tries; each try is refused by the kernel, so the next line, which ends the program, is reached.
ATTACKS = {
    "signals from a pipe to the parent": """
import fcntl, os, signal
reading, writing = os.pipe()
owner, number, owner_ex = 8, 10, 15
for command, value in ((owner, os.getppid()), (number, 9), (owner_ex, b"\\0" * 8), (fcntl.F_SETFL, os.O_ASYNC)):
    TRY fcntl.fcntl(reading, command, value)
import struct
TRY fcntl.ioctl(reading, 0x5452, struct.pack("i", 1))  # FIOASYNC
TRY fcntl.ioctl(reading, 0x8901, struct.pack("i", os.getppid()))  # FIOSETOWN
""",
    "the parent's priority and processors": """
import os
for process in (0, 1, os.getppid(), os.getpid()):
    TRY os.sched_setaffinity(process, {0})
    TRY os.setpriority(os.PRIO_PROCESS, process, 19)
    TRY os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
TRY os.setpriority(os.PRIO_USER, 0, 19)
TRY os.setpriority(os.PRIO_PGRP, 0, 19)
TRY os.nice(5)
""",
    "signals to everybody": """
import os, signal
for process in (1, -1, 0, os.getppid(), os.getpid(), LAUNCHER):
    for number in (0, signal.SIGSTOP, signal.SIGKILL):
        TRY os.kill(process, number)
TRY os.killpg(os.getpgrp(), signal.SIGKILL)
TRY signal.pthread_kill(__import__("threading").get_ident(), signal.SIGKILL)
TRY os.pidfd_open(LAUNCHER)
""",
    "limits of other processes": """
import os, resource
TRY resource.prlimit(LAUNCHER, resource.RLIMIT_CPU, (1, 1))
TRY resource.prlimit(0, resource.RLIMIT_AS, (-1, -1))
TRY resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
""",
    "system calls by number": """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
def call(*given):
    if libc.syscall(*given) == -1 and ctypes.get_errno() in (1, 38):
        raise PermissionError
arm = platform.machine() == "aarch64"
for number in ((203, 141, 251, 101, 310, 425, 321, 165, 272, 319, 434, 424, 154, 169, 175) if not arm else
               (122, 140, 30, 117, 270, 425, 280, 40, 97, 279, 434, 424, 92, 142, 105)):
    TRY call(number, 0, 0, 0, 0, 0)
for number in range(436, 470):
    if number not in (436, 439):
        TRY call(number, 0, 0, 0, 0, 0)
TRY call(56 if not arm else 220, 17, 0, 0, 0, 0)  # clone of a process
TRY call(0x40000000 + 39)  # x32
""",
    "sockets": """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 16, 17):
    TRY socket.socket(family, socket.SOCK_DGRAM)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
TRY ours.sendto(b"x", "\\0abstract")
TRY ours.connect("\\0abstract")
TRY ours.bind("\\0abstract")
""",
    "what is mounted and who it is": """
import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *given):
    if getattr(libc, name)(*given) == -1:
        raise PermissionError
TRY call("mount", b"none", b"/", None, 0x4020, None)
TRY call("umount2", os.getcwd().encode(), 2)
TRY call("unshare", 0x10000000)
TRY os.chroot(".")
TRY os.setuid(0)
TRY os.setgroups([0])
TRY call("prctl", 1, 0, 0, 0, 0)
""",
    "files of others": """
import os
for path in ("/proc/self/mem", "/proc/1/environ", f"/proc/{os.getppid()}/mem", "/proc/self/oom_score_adj", "/sys",
             "/root", "/tmp", "/dev/shm", "/etc/passwd", "HERE"):
    TRY os.listdir(path) if os.path.isdir(path) else open(path)
    TRY open(path, "w")
TRY os.chmod(".", 0o777)
TRY os.mknod("device", 0o20600, 259)
""",
}


def spelled(attack):
    """The program of an attack: counts the tries that succeed, and says so."""
    lines = []
    for line in attack.replace("LAUNCHER", str(os.getpid())).replace("HERE", __file__).splitlines():
        indent, found, tried = line.partition("TRY ")
        lines += [line] if not found else [
            f"{indent}try:", f"{indent}    {tried}", f"{indent}    made.append({tried.partition('  #')[0]!r})",
            f"{indent}except (OSError, ValueError): pass",
        ]  # fmt: skip
    return "\n".join(["made = []", *lines, "assert not made, made"])


@confined
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(attack):
    before = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    ended = run(spelled(ATTACKS[attack]), QUICK)
    assert (ended.outcome, ended.error) == ("passed", "")
    assert before == (os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0))


def test_an_attack_that_succeeds_is_seen():
    assert "made" not in run(spelled("import os\nTRY os.getpid()"), Limits(confined=False)).outcome
    assert run(spelled("import os\nTRY os.getpid()"), Limits(confined=False)).error == "AssertionError: ['os.getpid()']"


@confined
def test_the_bytes_of_all_files_together_are_limited():
    limits = Limits(seconds=20, folder_bytes=2**20)
    file_by_file = """
import os
written = 0
try:
    for i in range(10**6):
        os.mkdir(str(i)) if i % 2 else None
        with open(f"f{i}", "wb", buffering=0) as f: written += f.write(b"0" * 4096)
except OSError as error:
    print(written, error.errno)
"""
    ended = run(file_by_file, limits)
    written, number = map(int, ended.output.split())
    assert 0.5 * 2**20 < written <= 2**20 and number == 28, ended
    links = "import os\nfor i in range(10**5): os.symlink('x', str(i))"
    assert run(links, limits).error.startswith("OSError: [Errno 28]")
    reserved = "import os\nwith open('f', 'wb') as f: os.posix_fallocate(f.fileno(), 0, 2**23)"
    assert run(reserved, limits).error.startswith("OSError: [Errno 28]")


NESTED = "import os\nfor i in range(3000):\n  os.mkdir('d' * 200)\n  os.chdir('d' * 200)\nprint('nested')"


@EITHER
def test_nothing_is_left_of_nested_folders(limits, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    assert (run(NESTED, limits).output == "nested\n") != limits.confined  # confined, the number of folders is limited
    assert list(tmp_path.iterdir()) == []
    many = "import os\nfor i in range(500):\n  os.mkdir(str(i), 0)\n  os.chdir('.')"
    assert run(many, limits).outcome == "passed" and list(tmp_path.iterdir()) == []


@confined
def test_a_machine_without_namespaces_runs_nothing_unless_it_is_accepted(monkeypatch):
    """The launcher of a real machine cannot be made weaker, so the settings are changed on their way."""
    given = sandbox.json.dumps

    def without(settings):
        size = settings.get("folder_bytes")
        return given(settings | {"folder_bytes": -1} if size else settings)  # no file system has such a size

    monkeypatch.setattr(sandbox, "json", type("json", (), {"dumps": staticmethod(without), "loads": json.loads}))
    with pytest.raises(RequestError, match="cannot confine a process .*, so no program is run.*partly=True"):
        run("", QUICK)
    partly = Limits(seconds=20, partly=True)
    assert run("import os\nos.mkdir('a')", partly).error.startswith("PermissionError")
    assert run("open('a', 'w')", partly).error.startswith("PermissionError")
    for attack in ATTACKS.values():
        assert run(spelled(attack), partly).error == ""


@confined
def test_a_program_ends_with_its_launcher():
    code = "import sys; sys.path.insert(0, sys.argv[1]); from research.generated_code.sandbox import Limits, run;"
    code += "run('import time\\nprint(1, flush=True)\\ntime.sleep(600)', Limits(seconds=900))"
    root = str(pathlib.Path(__file__).parents[3])
    launcher = subprocess.Popen([sys.executable, "-c", code, root])

    try:
        deadline = time.monotonic() + 30
        while len(psutil.Process(launcher.pid).children(recursive=True)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        children = psutil.Process(launcher.pid).children(recursive=True)
        assert len(children) == 2
    finally:
        launcher.kill()
        launcher.wait()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_unconfined_still_limits_time_and_counts_the_end():
    assert run("import sys\nsys.exit(0)", Limits(confined=False)).outcome == "failed"
    assert run("while True: pass", Limits(seconds=1, confined=False)).outcome == "timeout"


def test_filters_differ_by_machine_and_name_every_call():
    for machine in ARCHITECTURES:
        assert len(seccomp_filter(machine)) % 8 == 0
        assert len(seccomp_filter(machine, waits=True)) > len(seccomp_filter(machine))
    for column in (0, 1):
        numbers = [both[column] for both in ALLOWED.values() if both[column] is not None]
        assert len(set(numbers)) == len(numbers)
    assert seccomp_filter("x86_64") != seccomp_filter("aarch64")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds": 0.0}, "seconds=0.0: expected 0 < seconds"),
        ({"memory": 1}, "memory=1: expected at least"),
        ({"output": -1}, "output=-1: expected at least 0"),
        ({"folder_bytes": 0}, "folder_bytes=0: expected at least 1"),
    ],
)
def test_limits_out_of_range(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        run("", Limits(**fields))
