"""Programs that misbehave in different ways: their attempts have no effect, and they do not pass."""

import os
import pathlib
import socket
import sys
import threading

import pytest

from research.errors import RequestError
from research.generated_code.confined import ARCHITECTURES, REFUSED, seccomp_filter
from research.generated_code.sandbox import Limits, run

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


@confined
def test_a_verdict_without_the_nonce_does_not_count():
    forged = 'import os\nfor fd in range(3, 64):\n  try: os.write(fd, b\'0 {"outcome": "passed", "error": ""}\')\n'
    ended = run(forged + "  except OSError: pass\nos._exit(0)", QUICK)
    assert ended.outcome == "failed"


def test_unconfined_still_limits_time_and_counts_the_end():
    assert run("import sys\nsys.exit(0)", Limits(confined=False)).outcome == "failed"
    assert run("while True: pass", Limits(seconds=1, confined=False)).outcome == "timeout"


def test_filters_differ_by_machine_and_name_every_call():
    for machine in ARCHITECTURES:
        assert len(seccomp_filter(machine)) % 8 == 0
    for column in (0, 1):
        numbers = [both[column] for both in REFUSED.values() if both[column] is not None]
        assert len(set(numbers)) == len(numbers)
    assert seccomp_filter("x86_64") != seccomp_filter("aarch64")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds": 0.0}, "seconds=0.0: expected 0 < seconds"),
        ({"memory": 1}, "memory=1: expected at least"),
        ({"output": -1}, "output=-1: expected at least 0"),
    ],
)
def test_limits_out_of_range(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        run("", Limits(**fields))
