"""Files are there whole or not at all."""

import os
import signal
import subprocess
import sys
import time

import pytest

from research.whole_files import write_whole, written_aside


@pytest.mark.parametrize("synced", [False, True])
def test_text_and_bytes(tmp_path, synced):
    write_whole(tmp_path / "a.txt", "é\n", synced=synced)
    write_whole(tmp_path / "a.txt", "ü\n", synced=synced)
    write_whole(str(tmp_path / "b"), b"\0", synced=synced)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.txt": "ü\n".encode(), "b": b"\0"}


def test_a_writer_that_raises_changes_nothing(tmp_path):
    (tmp_path / "a").write_text("before")

    def fail(aside):
        aside.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        written_aside(tmp_path / "a", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "before"


def test_a_process_that_is_killed_leaves_the_file_whole(tmp_path):
    code = f"""
import itertools, sys
from research.whole_files import write_whole
for i in itertools.count():
    write_whole({os.fspath(tmp_path / "a")!r}, str(i % 10) * 5_000_000)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    sizes = set()
    while len(sizes) < 20 and process.poll() is None:
        time.sleep(0.005)
        if (tmp_path / "a").exists():
            content = (tmp_path / "a").read_bytes()
            assert len(content) == 5_000_000 and content == content[:1] * len(content)
            sizes.add(time.monotonic())
    process.send_signal(signal.SIGKILL)
    process.wait()
    content = (tmp_path / "a").read_bytes()
    assert len(content) == 5_000_000 and content == content[:1] * len(content)
