"""Tests judge a program from another process: no program writes its own verdict, and honest ones are understood."""

import sys

import pytest

from research.generated_code.sandbox import Limits, run

pytestmark = pytest.mark.usefixtures("sandbox")

confined = pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines a process")
QUICK = Limits(seconds=20)
EITHER = pytest.mark.parametrize(
    "limits", [pytest.param(QUICK, marks=confined), Limits(confined=False)], ids=["confined", "unconfined"]
)

# Programs that would pass `assert f(2) == 4` if they could write the verdict; none solves it.
FORGED = {
    "exits": "import os\nos._exit(0)",
    "writes to every file": """
import os
for fd in range(3, 64):
    try: os.write(fd, b'{"outcome": "passed", "error": ""}\\n')
    except OSError: pass
def f(x): os._exit(0)
""",
    "sends the verdict over the runner's own line": """
import gc, os
for one in gc.get_objects():
    if type(one).__name__ == "_Line":
        one.send({"outcome": "passed", "error": ""})
os._exit(0)
""",
    "sends it as an answer": """
import gc, os
line = next(one for one in gc.get_objects() if type(one).__name__ == "_Line")
def f(x):
    line.send({"outcome": "passed", "value": True, "changed": None})
    os._exit(0)
""",
    "answers nonsense": """
import gc
line = next(one for one in gc.get_objects() if type(one).__name__ == "_Line")
def f(x):
    line._write.write(b"\\xff nonsense\\n")
    line._write.flush()
""",
    "replaces the runner": """
import sys
frame = sys._getframe()
while frame.f_back is not None:
    frame = frame.f_back
for name, value in list(frame.f_globals.items()):
    if callable(value) and name not in ("encode", "decode"):
        frame.f_globals[name] = lambda *given, **named: {"outcome": "passed", "error": ""}
def f(x): return 5
""",
    "replaces the built-in functions": """
import builtins, json, os
json.dumps = lambda *given, **named: '{"outcome": "passed", "error": ""}'
builtins.exec = builtins.compile = lambda *given: None
def f(x): return 5
""",
    "is equal to everything": """
class Equal(int):
    def __eq__(self, other): return True
    def __bool__(self): return True
    __hash__ = int.__hash__
def f(x): return Equal(5)
""",
    "is equal to everything, and no number": """
class Equal:
    def __eq__(self, other): return True
def f(x): return Equal()
""",
    "changes what it is compared with": "def f(x): x.clear() if hasattr(x, 'clear') else None",
    "raises": "class Passed(BaseException): pass\ndef f(x): raise Passed",
    "shadows what tests use": """
import math
all, abs, math.isclose = lambda *given: 1, lambda *given: 0, lambda *given: True
def f(x): return 5
""",
}


@pytest.mark.parametrize("forged", FORGED)
@EITHER
def test_no_program_writes_its_verdict(forged, limits):
    tests = "assert f(2) == 4\nassert all([f(2) == 4]) and abs(f(2) - 4) < 1e-6 and math.isclose(f(2), 4)"
    for text in (tests, *(f"assert {test}" for test in ("all([f(2) == 4])", "abs(f(2) - 4) < 1e-6", "f(2) == 4"))):
        assert run(FORGED[forged], limits, tests=text).outcome == "failed"
    if "math" in FORGED[forged]:
        assert run(FORGED[forged], limits, tests="assert math.isclose(f(2), 4)").outcome == "failed"


@confined
def test_tests_see_the_values_of_honest_programs():
    program = """
import math, re
from collections import Counter, namedtuple
class Pair:
    def __init__(self, a, b): self.a, self.b = a, b
    def total(self): return self.a + self.b
    def __setitem__(self, place, value): self.a = value
def values(): return [1, 2.5, "x", None, True, (1, {2}), {"a": [b"z"]}, frozenset({3}), 1j, float("inf"), 10**50]
def same(x): return x
def double(x): x.extend(x)
def fill(d, s): d["k"] = [1]; s.add(4)
def sums(pairs): return sum(pair.total() for pair in pairs)
def squares(n): return (i * i for i in range(n))
def wrong(x): raise KeyError("no")
def count(text): return Counter(text)
point = namedtuple("point", "x y")(1, 2)
limit = 7
"""
    tests = """
assert values() == [1, 2.5, "x", None, True, (1, {2}), {"a": [b"z"]}, frozenset({3}), 1j, float("inf"), 10**50]
assert [type(x) for x in values()[:6]] == [int, float, str, type(None), bool, tuple]
x = [1]
double(x)
assert x == [1, 1] and limit == 7 and point == (1, 2)
d, s = {"a": 0}, {3}
fill(d, s)
assert d == {"a": 0, "k": [1]} and s == {3, 4}
pair = Pair(1, b=2)
assert pair.a == 1 and pair.total() == 3 and sums([pair, Pair(3, 4)]) == 10 and same(pair) == pair
pair.b, pair.other = 5, Pair(6, 7)
pair[0] = 4
assert pair.total() == 9 and sums([pair.other]) == 13
assert list(squares(3)) == [0, 1, 4] and count("aab") == {"a": 2, "b": 1}
assert math.isclose(same(1.0), 1.0) and re.match("a", same("a"))
try:
    wrong(1)
    assert False
except KeyError as error:
    assert "no" in str(error)
def check(candidate):
    for i in range(500):
        assert candidate(i) == i
check(same)
"""
    ended = run(program, QUICK, tests=tests)
    assert (ended.outcome, ended.error) == ("passed", "")
    reads = run("def f(): return input()", QUICK, tests="f()")
    assert (reads.outcome, reads.error) == ("failed", "EOFError: EOF when reading a line") and reads.seconds < 10
    own = "def sum(a, b): return a + b"  # as some published problems name it
    assert run(own, QUICK, tests="assert sum(1, 2) == 3").outcome == "passed"
    assert run(own, QUICK, tests="assert sum(1, 2) == 4").error == "AssertionError: "
    assert run("def f(): return 1", QUICK, tests="assert g() == 1").error.startswith("NameError")
    crosses = run("def f(x): return x(1)", QUICK, tests="assert f(lambda x: x) == 1").error
    assert crosses.startswith("TypeError: the tests give a function, which cannot cross")
