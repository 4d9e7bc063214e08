"""Runs inside the sandbox: runs a program in one process, and judges it by tests in another.

`sandbox.py` starts this file on its own in a new interpreter (`python -I runner.py SETTINGS`), so it imports only the
standard library and `confined.py` beside it.  Both processes are confined.  The program's process has no way to write a
verdict: it serves calls of its functions, and the judge compares what they return.  Only plain values cross: numbers,
texts, bytes and containers of them; other objects stay in the program's process, and the judge holds their number.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import json
import operator
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

# -- values that cross -----------------------------------------------------------------------------------------------

_PLAIN = (bool, int, float, str, complex, bytes)
_MANY = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_LONGEST = 2**26


def encode(value: Any, hold: Callable[[Any], dict[str, Any]]) -> Any:
    """Encodes a value for JSON; objects that are no plain values become what `hold` returns for them."""
    if value is None or isinstance(value, bool | int | float | str):
        plain = next((kind for kind in _PLAIN[:4] if isinstance(value, kind)), None)
        return value if plain is None else plain(value)
    if isinstance(value, bytes | complex):
        return {"literal": repr(bytes(value) if isinstance(value, bytes) else complex(value))}
    for kind, name in _MANY.items():
        if isinstance(value, kind):
            return {name: [encode(item, hold) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, hold), encode(item, hold)] for key, item in value.items()]}
    return hold(value)


def decode(record: Any, find: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Decodes what `encode` made, as values of the built-in types; `find` returns the object for what `hold` made."""
    if not isinstance(record, dict):
        return record
    for kind, name in _MANY.items():
        if name in record:
            return kind(decode(item, find) for item in record[name])
    if "dict" in record:
        return {decode(key, find): decode(item, find) for key, item in record["dict"]}
    if "literal" in record:
        return ast.literal_eval(record["literal"])
    return find(record)


class _Gone(Exception):
    """The other process has ended."""


class _Line:
    """Sends and receives JSON, a line each, over a socket."""

    def __init__(self, connection: socket.socket):
        self._write, self._read = connection.makefile("wb"), connection.makefile("rb")

    def send(self, message: Any) -> None:
        self._write.write(json.dumps(message).encode() + b"\n")
        self._write.flush()

    def receive(self) -> Any:
        """The next message.

        Raises:
          _Gone: the other process has ended.
          ValueError: it sent something else.
        """
        line = self._read.readline(_LONGEST)
        if not line:
            raise _Gone
        return json.loads(line)


# -- the program's process -------------------------------------------------------------------------------------------

_OPERATIONS = {
    "call": lambda function, *given, **named: function(*given, **named),
    "attribute": getattr,
    "set attribute": setattr,
    "item": operator.getitem,
    "set item": operator.setitem,
    "length": len,
    "list": list,
    "text": str,
    "true": bool,
}


class _Program:
    """Runs a program as `__main__` and serves its objects."""

    def __init__(self, line: _Line):
        self._line, self._held = line, []

    def serve(self, source: str) -> None:
        """Runs a program, sends {"ready": its names} or {"outcome", "error"}, then answers calls until the end."""
        try:
            code = compile(source, "<candidate>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            return self._send({"outcome": "syntax error", "error": described(error)})
        names = {"__name__": "__main__", "__builtins__": __builtins__}
        try:
            exec(code, names)
        except BaseException as error:
            return self._send({"outcome": "failed", "error": described(error)})
        own = {name: value for name, value in names.items() if not name.startswith("__")}
        self._send({"ready": {name: self._encoded(value) for name, value in own.items()}})
        while True:
            self._send(self._answer(self._line.receive()))

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BaseException):  # a full or closed output does not affect the verdict
            sys.stdout.flush()
        self._line.send(message)

    def _encoded(self, value: Any) -> Any:
        try:
            return encode(value, self._hold)
        except RecursionError:  # a container that holds itself
            return self._hold(value)

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            given, named = decode(asked["given"], self._find), decode(asked["named"], self._find)
            value = _OPERATIONS[asked["do"]](self._held[asked["on"]], *given, **named)
            changed = encode(given, self._hold)  # arguments that a function changed in place
            return {"value": encode(value, self._hold), "changed": changed if changed != asked["given"] else None}
        except BaseException as error:
            return {"raised": type(error).__name__, "error": described(error, bare=True)}

    def _hold(self, value: Any) -> dict[str, Any]:
        if isinstance(value, ModuleType):
            return {"module": value.__name__}
        for number, known in enumerate(self._held):
            if known is value:
                return {"held": number}
        self._held.append(value)
        return {"held": len(self._held) - 1}

    def _find(self, record: Mapping[str, Any]) -> Any:
        return self._held[record["held"]]


def described(error: BaseException, *, bare: bool = False) -> str:
    """An error in one line: its type and the first line of its message; only the message if `bare`."""
    try:
        text = str(error) if bare else f"{type(error).__name__}: {error}"
        return (text.splitlines() or [""])[0][:200]
    except BaseException:  # an exception class of the candidate whose message raises too
        return "" if bare else type(error).__name__


# -- the judge's process ---------------------------------------------------------------------------------------------


class _Remote:
    """An object of the program's process: calls, attributes, items and iteration are passed on to it."""

    def __init__(self, judge: _Judge, number: int):
        self.__dict__.update(_judge=judge, _number=number)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._judge.ask("call", self, given, named)

    def __getattr__(self, name: str) -> Any:
        return self._judge.ask("attribute", self, (name,))

    def __setattr__(self, name: str, value: Any) -> None:
        self._judge.ask("set attribute", self, (name, value))

    def __getitem__(self, place: Any) -> Any:
        return self._judge.ask("item", self, (place,))

    def __setitem__(self, place: Any, value: Any) -> None:
        self._judge.ask("set item", self, (place, value))

    def __len__(self) -> int:
        return self._judge.ask("length", self)

    def __iter__(self) -> Any:
        return iter(self._judge.ask("list", self))

    def __bool__(self) -> bool:
        return self._judge.ask("true", self)

    def __str__(self) -> str:
        return self._judge.ask("text", self)


class _Judge:
    """Runs tests; the names of the program stand for its objects."""

    def __init__(self, line: _Line):
        self._line, self._remotes = line, {}

    def outcome(self, source: str, tests: str) -> dict[str, str]:
        """Sends the program to its process and runs the tests: {"outcome", "error"}.

        Raises:
          _Gone: the program's process has ended.
        """
        self._line.send(source)
        said = self._line.receive()
        if "ready" not in said:
            wrong = said["outcome"] if said.get("outcome") == "syntax error" else "failed"
            return {"outcome": wrong, "error": str(said.get("error"))[:200]}
        try:
            names = self._names(said["ready"], tests)
            exec(compile(tests, "<tests>", "exec"), {**names, "__name__": "__main__", "__builtins__": __builtins__})
        except _Gone:
            raise
        except BaseException as error:
            return {"outcome": "failed", "error": described(error)}
        return {"outcome": "passed", "error": ""}

    def _names(self, ready: Mapping[str, Any], tests: str) -> dict[str, Any]:
        """The program's names for the tests.

        Built-in functions and modules of Python are the judge's own, since a program could replace `all` or `math` by
        its own; only tests of nothing else are of a function with such a name.
        """
        used = {node.id for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Name)}
        names = {name: decode(value, self._find) for name, value in ready.items() if name in used}
        plain = {name: value for name, value in names.items() if not _of_python(name)}
        modules = {name: importlib.import_module(name) for name in names if name in sys.stdlib_module_names}
        return {**modules, **plain} if plain else names

    def ask(self, do: str, on: _Remote, given: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None) -> Any:
        """Does something with an object of the program's process, and changes arguments in place as it did."""
        asked = {"do": do, "on": on._number, "given": self._out(given), "named": self._out(dict(named or {}))}
        self._line.send(asked)
        said = self._line.receive()
        if "raised" in said:
            raise _exception(str(said["raised"]), str(said.get("error")))
        for before, after in zip(given, decode(said["changed"], self._find) or (), strict=False):
            if isinstance(before, list) and isinstance(after, list):
                before[:] = after
            elif isinstance(before, dict | set) and type(after) is type(before):
                before.clear()
                before.update(after)
        return decode(said["value"], self._find)

    def _out(self, value: Any) -> Any:
        return encode(value, self._hold)

    def _hold(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, _Remote):
            raise TypeError(f"the tests give a {type(value).__name__}, which cannot cross to the program's process")
        return {"held": value._number}

    def _find(self, record: Mapping[str, Any]) -> Any:
        if "module" in record:
            name = str(record["module"])
            return importlib.import_module(name) if name in sys.stdlib_module_names else None
        return self._remotes.setdefault(int(record["held"]), _Remote(self, int(record["held"])))


def _of_python(name: str) -> bool:
    return hasattr(builtins, name) or name in sys.stdlib_module_names


def _exception(name: str, text: str) -> Exception:
    """The exception that the program's process raised: a built-in one, or one of the same name."""
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = type(name, (Exception,), {})
    try:
        return kind(text)
    except TypeError:  # such as UnicodeDecodeError, which needs more arguments
        return type(name, (Exception,), {})(text)


# -- both ------------------------------------------------------------------------------------------------------------


def _start(settings: dict[str, Any], restrict: Callable[..., None]) -> tuple[int, _Line]:
    """Starts the program's process: (its number, the line to it)."""
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process:
        theirs.close()
        return process, _Line(ours)
    try:
        ours.close()
        os.close(settings["verdict"])
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)  # nor what the judge reads
        os.close(null)
        line = _Line(theirs)
        restrict(waits=False)
        _Program(line).serve(line.receive())
    finally:
        os._exit(0)


def _how_it_ended(process: int) -> dict[str, str]:
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return {"outcome": "timeout", "error": "its CPU time is over"}
    how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"
    return {"outcome": "failed", "error": f"{how} before its end"}


def main() -> None:
    """Reads SETTINGS from the command line and {"program", "tests"} from stdin; writes the verdict to a pipe."""
    settings = json.loads(sys.argv[1])
    sys.path.append(os.path.dirname(__file__))
    import confined

    sys.path.pop()
    folder = settings["folder"] if settings["folder_bytes"] else None

    def restrict(*, waits: bool) -> None:
        if settings["confined"]:
            confined.end_with_parent()
            if not waits:
                confined.restrict_paths(folder, settings["readable"])
            confined.restrict_calls(waits=waits)

    try:
        confined.limit(settings["seconds"], settings["memory"], settings["file_bytes"])
        if settings["confined"]:
            if folder is not None:
                confined.enter_namespaces(folder, settings["folder_bytes"])
            confined.restrict_paths(folder, settings["readable"])
        process, line = _start(settings, restrict)
        restrict(waits=True)
    except (OSError, ValueError) as error:
        ended = {"outcome": "not confined", "error": described(error)}
    else:
        asked = json.loads(sys.stdin.buffer.read())
        try:
            ended = _Judge(line).outcome(asked["program"], asked["tests"])
        except (_Gone, ConnectionError):
            ended = _how_it_ended(process)
        except Exception as error:  # the program's process sent something else
            ended = {"outcome": "failed", "error": described(error)}
    os.write(settings["verdict"], json.dumps(ended).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
