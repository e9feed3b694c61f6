"""Print the table of docs/reliability.md: what was tried, what was broken on purpose, what held.

``python benchmarks/reliability.py inputs`` (or ``calls``, ``saves``, ``service``, ``threads``) runs
the tests of that part with pytest, reads what they counted, and prints rows in Markdown. A failed
test ends it: every figure is of tests that passed, and a zero is one that they assert.
``--seconds`` sets how long readers and writers run, ``--kills`` how often the service is killed,
``--examples`` how many histories of calls are drawn. Needs ``palate[test]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
INPUTS = ("tests/bad_input", "tests/export/test_bad_input.py")


class Case(NamedTuple):
    """A test that passed: its file, its name with parameters, and what it counted."""

    file: str
    name: str
    counts: dict[str, float]


def run(paths: list[str], options: list[str], **settings: Any) -> tuple[list[Case], float]:
    """Run tests in a process of their own; returns those that passed, and the seconds taken."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment |= {f"PALATE_{name.upper()}": str(value) for name, value in settings.items()}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--junit-xml", str(report), "-o", "junit_family=xunit1", *options, *paths]
        begin = time.perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        return passed(report), seconds


def passed(report: Path) -> list[Case]:
    """Read the cases of a report; skipped ones are left out."""
    cases = []
    for node in ElementTree.parse(report).iter("testcase"):
        if node.find("skipped") is not None:
            continue
        noted = {p.get("name", ""): float(p.get("value", "nan")) for p in node.iter("property")}
        cases.append(Case(str(node.get("classname")), str(node.get("name")), noted))
    return cases


def total(cases: list[Case], name: str, inside: str = "") -> int:
    """Add up what cases counted under a name."""
    return int(sum(case.counts.get(name, 0) for case in cases if inside in case.name))


def row(*cells: Any) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in cells) + " |")


def head(*names: str) -> None:
    """Print the head of a Markdown table."""
    row(*names)
    print("|" + "---|" * len(names))


def load_kinds() -> Any:
    """Return the module of the tests that says which case is of which kind."""
    path = TESTS / "bad_input" / "kinds.py"
    spec = importlib.util.spec_from_file_location("kinds", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inputs(asked: argparse.Namespace) -> None:
    """Try bad and odd input at every public entry."""
    cases, seconds = run([*INPUTS], ["--ignore=tests/bad_input/test_kinds.py"])
    kinds = load_kinds()
    counts = kinds.tally(case.name for case in cases)
    head("bad or odd input", "cases", "entries")
    for kind in kinds.KINDS:
        row(kind, sum(counts[kind].values()), sum(bool(entry) for entry in counts[kind]))
    everywhere = {kinds.entry_of(case.name) for case in cases} - {""}
    row("others", sum(counts["other"].values()), sum(bool(e) for e in counts["other"]))
    row("**all** (a case may be of several kinds)", len(cases), len(everywhere))
    print(f"\nrefused calls: {total(cases, 'refusals'):,}, each with its whole message compared;")
    print(f"models compared after them: {total(cases, 'models_compared'):,}; {seconds:.0f} s\n")
    entries = Counter(kinds.entry_of(case.name) for case in cases)
    head("entry", "cases")
    for entry in sorted(everywhere):
        row(f"`{entry}`", entries[entry])


def calls(asked: argparse.Namespace) -> None:
    """Make random calls in random order, beside a naive model."""
    cases, seconds = run(
        ["tests/recommender/test_state_machine.py"],
        [f"--hypothesis-seed={asked.seed}"],
        state_examples=asked.examples,
    )
    head("random calls against a naive model", "histories of calls", "calls")
    for case in cases:
        label = case.name.removeprefix("test_").replace("_", " ")
        row(label, asked.examples, int(case.counts["steps"]))
    print(f"\n{seconds:.0f} s")


def saves(asked: argparse.Namespace) -> None:
    """Kill and fail saves, damage files, and interrupt training."""
    # 30 is what makes the tests take every line, and not only those from the renames on.
    cases, seconds = run(["tests/persistence"], [], stress_seconds=5 if asked.some_lines else 30)
    broken, more = run(["tests/training", "tests/recommender"], ["-k", "interrupt"])
    whole = "the old model or the new one, whole"
    head("broken on purpose", "times", "what was found each time")
    row("`kill -9` at a line of `save`, over a model", total(cases, "kills_over_a_model"), whole)
    row(
        "`kill -9` at a line of `save`, where nothing was",
        total(cases, "kills_where_nothing_was"),
        "nothing or the new model",
    )
    row(
        "an error at a line of `save`",
        total(cases, "failing_lines"),
        "the old model, byte for byte, and nothing beside it",
    )
    row("a call of the system that fails during `save`", total(cases, "failing_calls"), whole)
    row(
        "a saved file changed, cut or grown",
        total(cases, "damaged_files"),
        "an error that names the file",
    )
    row("training interrupted", len(broken), "the best weights so far where known, and a warning")
    print(f"\n{seconds + more:.0f} s")


def service(asked: argparse.Namespace) -> None:
    """Kill the service while it observes and saves; cut and change its log."""
    cases, seconds = run(["tests/service"], [], kills=asked.kills)
    held = "all that was acknowledged, once"
    head("broken on purpose", "times", "what was found each time")
    for inside, label in (("[observe]", "observes"), ("[observe and save]", "observes and saves")):
        kills = total(cases, "kills", inside)
        row(f"`kill -9` of a service that {label}", kills, held)
    row("a save of the service ended at a file operation", total(cases, "crashed_saves"), held)
    row("a log cut in its last entry", total(cases, "cut_logs"), "that entry alone dropped")
    row("a log changed elsewhere", total(cases, "changed_logs"), "an error that names the file")
    print()
    head("nothing lost", "events acknowledged", "lost or doubled", "taken, not answered")
    for inside, label in (("[observe]", "observe"), ("[observe and save]", "observe and save")):
        told, untold = (total(cases, name, inside) for name in ("acknowledged", "unanswered"))
        row(f"kills during {label}", told, 0, untold)
    print()
    head("load on the service", "requests", "of them failed")
    label = f"3 readers, 2 writers, {total(cases, 'reloads')} new models loaded meanwhile"
    row(label, total(cases, "requests"), 0)
    print(f"\n{seconds:.0f} s")


def threads(asked: argparse.Namespace) -> None:
    """Read, write and save at once; fork and spawn processes."""
    paths = ["tests/stress", "tests/recommender/test_threads.py"]
    cases, seconds = run(paths, [], stress_seconds=asked.seconds)
    head("load held", "answers compared", "states there were", "torn or out of order")
    label = f"{total(cases, 'readers')} readers, a writer, a saver, {asked.seconds:g} s"
    row(label, total(cases, "answers"), total(cases, "states"), total(cases, "torn"))
    print()
    head("other processes", "times", "what was found each time")
    row("folders saved meanwhile and loaded", total(cases, "saves"), "a state that existed")
    row("forked while a writer was at work", total(cases, "forked"), "the same answers")
    row("spawned with a pickle or a folder", total(cases, "spawned"), "the same answers")
    print(f"\n{seconds:.0f} s")


PARTS = {"inputs": inputs, "calls": calls, "saves": saves, "service": service, "threads": threads}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seconds", type=float, default=30, help="of readers and writers")
    parser.add_argument("--kills", type=int, default=25, help="of each service")
    parser.add_argument("--examples", type=int, default=60, help="histories of random calls")
    parser.add_argument("--some-lines", action="store_true", help="kill saves at fewer lines")
    parser.add_argument("--seed", type=int, default=7, help="of the random calls")
    asked = parser.parse_args()
    for part in asked.parts or PARTS:
        if part not in PARTS:
            parser.error(f"parts must be of {', '.join(PARTS)}; got {part!r}.")
        print(f"\n## {part}\n")
        PARTS[part](asked)


if __name__ == "__main__":
    main()
