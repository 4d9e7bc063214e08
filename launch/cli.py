"""The command line: parses the request and passes it on; a wrong request is one line and exit status 2."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launch.program import program
from research.console import say, write_what_it_can
from research.errors import RequestError, nearest, one_line, refusal, require
from research.parallel import hosts

if TYPE_CHECKING:
    from research.report import Choices

COMMANDS = ("list", "data", "show", "plan", "run", "report", "eval", "compile")


class _Parser(argparse.ArgumentParser):
    """An argparse parser that reports errors in one line."""

    def error(self, message: str) -> None:
        raise RequestError(f"{message} (see {self.prog} --help)")


EXAMPLES = {
    "list": ("list",),
    "data": ("data", "data prepare fashion_mnist"),
    "show": ("show digits_mlp", "show digits_mlp --set model.widths=64,64 --set optimizer=SGD"),
    "plan": ("plan digits_mlp --sweep activation --seeds 3",),
    "run": (
        "run digits_mlp --sweep activation --seeds 3",
        "run mine.py --set optimizer.learning_rate=1e-3 --out runs/slow",
        "run digits_mlp --sweep lr_wd --prune validation/accuracy",
        "run digits_mlp --debug",
    ),
    "report": (
        "report runs/digits_mlp/activation",
        "report runs/a runs/b --out both",
        "report runs/a --metrics test/accuracy --percent accuracy --digits 1 --correction holm --figures pdf",
    ),
    "eval": (
        "eval runs/digits_mlp/activation --split validation",
        "eval runs/multi30k_translation/base --set task.beams=5 --json",
    ),
    "compile": ("compile imagenet_resnet50 --topology v5e:4x4",),
}
"""{command: what one types}; `--help` shows these."""


def _examples(*commands: str) -> str:
    return "\n".join(["examples:", *(f"  {program()} {command}" for command in commands)])


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    shown = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    root = _Parser(
        prog=program(),
        description="One launcher for every experiment, from a laptop to a pod.",
        epilog=_examples(*(example for examples in EXAMPLES.values() for example in examples[:1])),
        **shown,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, **told: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, epilog=_examples(*EXAMPLES[name]), **told, **shown)

    add("list", help="every experiment and its sweeps; scripts that analyse finished runs; timings")

    data = add("data", help="the experiments' data sets: which are there, how to get the others")
    data.add_argument("action", nargs="?", choices=["prepare"], help="download a data set, and verify it")
    data.add_argument("name", nargs="?", metavar="NAME", help="a data set in the list, or any of TensorFlow Datasets")
    data.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps data (default: $TFDS_DATA_DIR)")
    data.add_argument("--manual-dir", metavar="DIR", help="files for TFDS that have been downloaded already")

    show = add("show", help="the resolved configuration, parameters, columns of tables, FLOPs per step")
    _experiment(show)

    plan = add("plan", help="trials, programs, memory, estimated time, without training")
    _experiment(plan)
    _sweep(plan)

    run = add("run", help="train, or continue unfinished trials, and report")
    _experiment(run)
    _sweep(run)
    run.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/EXPERIMENT/SWEEP)")
    run.add_argument("--on", default="local", choices=["local"], help="where to train (default: here)")
    run.add_argument(
        "--prune",
        metavar="METRIC",
        help="successive halving by a validation metric, such as validation/loss",
    )
    run.add_argument("--processes", metavar="N", help="expect N processes that train together (default: the cluster's)")
    run.add_argument("--process", metavar="I", help="the number of this process, from 0 (default: the cluster's)")
    run.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is reached (default: the cluster's)")
    run.add_argument("--profile", metavar="STEPS", help="trace some steps, and list the costliest operations")
    run.add_argument(
        "--debug", action="store_true", help="run one step without compiling, and name the first operation with a NaN"
    )

    report = add("report", help="tables and pictures from the folders of runs")
    report.add_argument("dirs", nargs="+", metavar="DIR")
    report.add_argument(
        "--out", metavar="DIR", help="the report's folder (default: report/ in the run; required for several runs)"
    )
    report.add_argument("--metrics", metavar="NAMES", help="the metrics to show, in this order: test/accuracy,*/loss")
    report.add_argument("--variants", metavar="NAMES", help="the variants to show, in this order")
    report.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="OLD=NEW",
        dest="names",
        help="what a variant or a metric is called in the report; repeatable",
    )
    report.add_argument("--percent", metavar="NAMES", help="metrics to write in percent: accuracy")
    report.add_argument("--digits", metavar="N", help="decimals of means and spreads (default: as the spread needs)")
    report.add_argument("--correction", default="none", metavar="METHOD", help="correct for several comparisons: holm")
    report.add_argument("--figures", default="png", metavar="KINDS", help="formats of figures: png,svg,pdf")
    report.add_argument("--record", metavar="FILE", help="also write the numbers and their sources as JSON")
    report.add_argument("--inside", action="store_true", help="also draw the inside of image models (needs the data)")
    _trust(report)

    evaluate = add("eval", help="score a finished run's checkpoints again")
    evaluate.add_argument("dir", metavar="DIR", help="a run's folder, or a trial's")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object, for scripts")
    evaluate.add_argument("--split", default="test", metavar="NAME", help="train, or an evaluation: validation, test")
    _settings(evaluate)
    _trust(evaluate)

    compiled = add("compile", help="compile the step for other hardware, and see whether it fits")
    _experiment(compiled)
    compiled.add_argument("--sweep", metavar="NAME", help="compile the variants of one of the experiment's sweeps")
    where = compiled.add_mutually_exclusive_group()
    where.add_argument(
        "--topology",
        metavar="NAME",
        help="TPUs such as v5e:4x4 or v5litepod-16 (extra [tpu]), GPUs such as h100:8 (extra [cuda13]), or cpu:8",
    )
    where.add_argument("--devices", metavar="N", help="N virtual CPU devices (default: the devices of this machine)")
    compiled.add_argument("--slices", metavar="N", help="N TPU slices of the topology (default: 1)")
    compiled.add_argument(
        "--no-search",
        action="store_true",
        help="do not look for the largest batch that fits, or for settings that would fit",
    )
    for command in (plan, run, evaluate):
        command.add_argument("--no-cache", action="store_true", help="compile anew, and keep no compiled program")
    return root


def _experiment(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", metavar="EXPERIMENT", help="a module, its last word, or a path to a file")
    _settings(command)


def _settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="change a field; repeatable"
    )


def _trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trust", action="store_true", help="run the code of the files and modules that the run names"
    )


def _sweep(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sweep", metavar="NAME", help="one of the experiment's sweeps (default: no sweep)")
    command.add_argument("--seeds", metavar="N", help="train each variant with N seeds")
    command.add_argument(
        "--stack",
        default="auto",
        choices=["on", "off", "auto"],
        help="train trials of one program together, one after another, or whichever is faster here (default)",
    )


def _choices(asked: argparse.Namespace) -> Choices:
    """What the author of a report chose."""
    from research.report import Choices

    def listed(text: str | None) -> tuple[str, ...]:
        return tuple(part for part in (text or "").split(",") if part)

    names = {}
    for text in asked.names:
        old, equals, new = text.rpartition("=")
        require(equals and old and new, f"--name {text}: expected OLD=NEW")
        names[old] = new
    return Choices(
        metrics=listed(asked.metrics),
        variants=listed(asked.variants),
        names=names,
        percent=listed(asked.percent),
        digits=_count(asked.digits, "--digits", 0),
        figures=listed(asked.figures),
        correction=asked.correction,
    )


def _keep_programs(keep: bool) -> None:
    """Turns on or off that compiled programs are kept in the user's cache folder."""
    import jax

    from research.running.kept_programs import keep_programs

    if not keep:
        jax.config.update("jax_enable_compilation_cache", False)
    elif said := keep_programs():
        say(said, sys.stderr)


def _count(text: str | None, option: str, least: int = 1) -> int | None:
    # Python refuses to convert thousands of digits.
    if text is not None and (not text.isdecimal() or len(text) > 18 or int(text) < least):
        raise RequestError(f"{option} {text:.40}: expected a whole number, at least {least}")
    return None if text is None else int(text)


def main(arguments: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs a command and returns the exit status.

    0: all trials ended.  1: some failed.  2: the request was wrong.  75: one of several processes was lost or stopped,
    and the same command in all of them continues.

    With `own_process`, this process does nothing else, and a command may end it at once.
    """
    try:
        status = _status(list(sys.argv[1:] if arguments is None else arguments), own_process)
    except BaseException as error:
        if hosts.several():
            traceback.print_exc()
        hosts.end(1, one_line(error))
        raise
    hosts.end(status)
    return status


def _status(arguments: list[str], own_process: bool) -> int:
    write_what_it_can(sys.stdout)
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise RequestError(f"no command {arguments[0]!r}; {nearest(arguments[0], COMMANDS)}")
        return _dispatch(parser().parse_args(arguments), own_process)
    except hosts.Lost as error:
        say(f"{error}; start the same command in all processes again", sys.stderr)
        return hosts.AGAIN
    except hosts.Elsewhere:
        return 2
    except RequestError as error:
        say(refusal(error), sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; Python would report it again
        return 1


def _dispatch(asked: argparse.Namespace, own_process: bool) -> int:
    if getattr(asked, "no_cache", None) is not None:
        _keep_programs(not asked.no_cache)
    if asked.command == "list":
        from launch.list import list_all

        return list_all()
    if asked.command == "data":
        from launch.data import list_data, prepare_data

        if asked.action is None:
            given = [f"--{name.replace('_', '-')}" for name in ("data_dir", "manual_dir") if vars(asked)[name]]
            if given:
                raise RequestError(f"{given[0]}: expected {program()} data prepare NAME too")
            return list_data()
        if asked.name is None:
            raise RequestError(f"data prepare: which data set? see {program()} data")
        return prepare_data(asked.name, asked.data_dir, asked.manual_dir)
    if asked.command == "report":
        from launch.reporting import report

        own = {"inside": asked.inside, "trust": asked.trust, "record": asked.record}
        return report(asked.dirs, asked.out, choices=_choices(asked), **own)
    if asked.command == "eval":
        from launch.evaluate import evaluate_again

        return evaluate_again(asked.dir, asked.split, asked.settings, trust=asked.trust, as_json=asked.json)

    if asked.command == "compile":
        from launch.compile import compile_experiment

        return compile_experiment(
            asked.experiment,
            sweep=asked.sweep,
            settings=asked.settings,
            topology=asked.topology,
            devices=_count(asked.devices, "--devices"),
            slices=_count(asked.slices, "--slices") or 1,
            search=not asked.no_search,
        )

    if asked.command == "run":
        process = _count(asked.process, "--process", 0)
        hosts.start(_count(asked.processes, "--processes"), process, asked.coordinator)
    from launch.request import read_request

    if asked.command == "show":
        from launch.show import show

        return show(read_request(asked.experiment, settings=asked.settings))
    from launch.data import check_there

    seeds = _count(asked.seeds, "--seeds")
    request = read_request(asked.experiment, sweep=asked.sweep, settings=asked.settings, seeds=seeds)
    check_there(request)
    if asked.command == "plan":
        from launch.show import show_plan

        return show_plan(request, asked.stack)
    if asked.prune and (asked.debug or asked.profile):
        raise RequestError(f"--prune {asked.prune}: nothing is pruned with {'--debug' if asked.debug else '--profile'}")
    if asked.debug:
        from launch.debug import debug

        return debug(request)
    if (steps := _count(asked.profile, "--profile")) is not None:
        from launch.profile import profile

        return profile(request, steps, asked.out)
    from launch.run import run

    return run(request, asked.out, stack=asked.stack, prune=asked.prune, own_process=own_process)
