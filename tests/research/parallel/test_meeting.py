"""Processes meet, and say who is missing; here they are threads."""

import concurrent.futures
import contextlib
import json
import socket
import time

import pytest
from processes import free_port

from research.errors import RequestError
from research.parallel.clusters import Joining
from research.parallel.link import Lost
from research.parallel.meeting import meet


def met(*joinings, seconds=10.0):
    """Lets processes meet; returns the exception that each raises, or None, and the notes of each."""
    notes = [[] for _ in joinings]

    def outcome(joining, lines):
        try:
            return meet(joining, lines.append, seconds)
        except Exception as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(len(joinings)) as threads:
        return list(threads.map(outcome, joinings, notes)), notes


def at(number, *processes, count=3):
    return [Joining(f"localhost:{number}", count, process) for process in processes]


def test_all_meet_and_the_port_is_free_again():
    number = free_port()
    for _ in range(2):
        assert met(*at(number, 2, 0, 1)) == ([None] * 3, [[]] * 3)
    socket.create_server(("localhost", number)).close()


def test_those_that_are_missing_are_named_everywhere():
    found, notes = met(*at(free_port(), 0, 2, count=4), seconds=1.0)
    assert [type(error) for error in found] == [Lost, Lost]
    assert {str(error) for error in found} == {"process 0 of 4 has waited 1 s for process 1, process 3"}
    assert notes[0] == ["process 0 of 4 waits for process 1, process 3"]
    assert notes[1] in ([], ["process 2 of 4 waits for process 1, process 3"])


def test_a_process_without_process_0_says_so():
    number = free_port()
    found, notes = met(*at(number, 1), seconds=0.6)
    assert str(found[0]) == f"process 1 of 3 has waited 1 s for process 0, which is not at localhost:{number}"
    assert notes == [[f"process 1 of 3 waits for process 0, which is not at localhost:{number}"]]


def test_a_process_that_goes_may_come_again():
    number = free_port()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        first = threads.submit(met, *at(number, 0, count=2))
        hello = json.dumps({"process": 1, "processes": 2, "host": "a"}).encode() + b"\n"
        strangers = [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"[" * 4000 + b"\n", b"", hello[:9]]
        for fields in ({"process": 1}, {"process": -1, "processes": 2, "host": "a"}, {"process": 2, "processes": 2}):
            strangers.append(json.dumps(fields).encode() + b"\n")
        with contextlib.ExitStack() as connections:
            for said in strangers:
                connections.enter_context(_connected(number)).sendall(said)
            second = threads.submit(met, *at(number, 1, count=2))
            assert first.result()[0] == second.result()[0] == [None]


def _connected(number):
    """A connection to process 0, once it listens."""
    until = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("localhost", number), timeout=5)
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (lambda number: at(number, 1, 1), r"both .* and .* start process 1; expected different numbers"),
        (lambda number: at(number, 1, count=4), r"process 1 \(.*\) expects 4 processes, process 0 expects 3"),
    ],
)
def test_processes_that_do_not_fit_are_refused(others, message):
    number = free_port()
    found, _ = met(*at(number, 0), *others(number))
    with pytest.raises(RequestError, match=message):
        raise found[0]
    assert {str(error) for error in found} == {str(found[0])}
