"""Runs benchmarks, keeps what they print, and makes `docs/benchmarks.md` of it.

    .venv/bin/python tests/benchmarks/report.py list
    .venv/bin/python tests/benchmarks/report.py run storing predictors
    .venv/bin/python tests/benchmarks/report.py keep supernet log.txt --date 2026-11-22
    .venv/bin/python tests/benchmarks/report.py assemble

A part's standard output lies in `docs/benchmarks/PART.txt`, below a few lines that say how it came
about. `docs/benchmarks/verdicts.toml` is written by hand. `run` keeps a part when it is done and
writes the report anew; one that fails is not kept.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from faults import table as fault_table
from parts import CHAPTERS, PARTS, Part

from workers.machine import processor_name, usable_cpus

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
HERE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|var)/[^\s'\",;:)\]]*")
"""Paths that say more of a machine than of a figure."""


@dataclass(frozen=True)
class Kept:
    """What a part printed, and where and when.

    Attributes:
        about: `command`, `date`, `commit`, `machine`, `seconds`; what is not known is not there.
        output: of the command.
    """

    about: Mapping[str, str]
    output: str

    @classmethod
    def read(cls, path: Path) -> Kept | None:
        """What lies in a file of `written`; None where there is none."""
        if not path.is_file():
            return None
        head, _, output = path.read_text().partition("\n\n")
        return cls(dict(line.split(": ", 1) for line in head.splitlines()), output)

    def write(self, path: Path) -> None:
        """Keep it, without paths of this machine."""
        path.parent.mkdir(exist_ok=True)
        head = "\n".join(f"{name}: {value}" for name, value in self.about.items())
        lines = [line.rstrip() for line in HERE.sub(_last, self.output).strip("\n").splitlines()]
        path.write_text(f"{head}\n\n" + "\n".join(lines) + "\n")


def _last(path: re.Match[str]) -> str:
    return "…/" + path[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Verdict:
    """What somebody says of a part's figures.

    Attributes:
        says: in a sentence or two.
        short: how it falls short of its aim, in a few words; empty where it does not.
    """

    says: str = ""
    short: str = ""


def verdicts(docs: Path = DOCS) -> dict[str, Verdict]:
    """By part, from the file written by hand."""
    found = tomllib.loads((docs / "benchmarks" / "verdicts.toml").read_text())
    return {name: Verdict(**fields) for name, fields in found.items()}


def kept_at(name: str, docs: Path = DOCS) -> Path:
    """Where the output of a part lies."""
    return docs / "benchmarks" / f"{name}.txt"


# ---------------------------------------------------------------- running


def run(parts: Sequence[Part], docs: Path = DOCS) -> int:
    """Run parts one after the other, keeping each; how many failed."""
    n_failed = 0
    for i, part in enumerate(parts, start=1):
        label = f"[{i}/{len(parts)}] {part.name}"
        print(f"{label}: {part.command}  ({_duration(part, docs)})", file=sys.stderr, flush=True)
        about = {"command": part.command, **surroundings()}
        started = time.monotonic()
        code, output = printed(part.command)
        seconds = round(time.monotonic() - started)
        if code:
            n_failed += 1
            print(f"{label}: failed with {code} after {seconds} s, not kept", file=sys.stderr)
            continue
        Kept({**about, "seconds": str(seconds)}, output).write(kept_at(part.name, docs))
        write_report(docs)
        print(f"{label}: kept after {seconds} s", file=sys.stderr, flush=True)
    return n_failed


def printed(command: str) -> tuple[int, str]:
    """Exit code and standard output of a command, which is shown as it comes."""
    environment = {**ONE_THREAD, **os.environ}
    with subprocess.Popen(
        shlex.split(command), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def surroundings() -> dict[str, str]:
    """Date, commit and machine, with its load before anything runs."""
    changes = " and changes" if _git("status", "--porcelain", "-uno", "--", ":!docs") else ""
    load = os.getloadavg()[0]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": (_git("rev-parse", "--short", "HEAD") or "unknown") + changes,
        "machine": f"{processor_name()}, {usable_cpus()} cores, load {load:.1f} before",
    }


def _git(*words: str) -> str:
    """What git says; nothing where this is no clone."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


# ---------------------------------------------------------------- the report


def write_report(docs: Path = DOCS) -> None:
    """Make the page of what is kept."""
    (docs / "benchmarks.md").write_text(assembled(docs))


def assembled(docs: Path = DOCS) -> str:
    """The report, of what is kept and nothing else."""
    said, found = verdicts(docs), {name: Kept.read(kept_at(name, docs)) for name in PARTS}
    blocks = ["# Benchmarks", _first(said, found), INTRODUCTION, _overview(said, found)]
    for chapter, parts in CHAPTERS.items():
        blocks.append(f"## {chapter}")
        for part in parts:
            blocks += _section(part, found[part.name], said.get(part.name, Verdict()))
    return "\n\n".join(blocks) + "\n"


INTRODUCTION = """\
Every figure below was printed by the command above it, and is told with its date, commit and
machine. `make benchmark` runs all parts and writes this page, `make benchmark PARTS="storing
predictors"` runs some; `.venv/bin/python tests/benchmarks/report.py list` says how long each takes.
Outputs are kept in `docs/benchmarks/`, beside `verdicts.toml`, which is written by hand. Published
tables and images are read from the folder `NAS_DATA`, PostgreSQL is the server at
`NAS_TEST_POSTGRES`; seeds count from 0, and `OMP_NUM_THREADS` is 1."""


def _first(said: Mapping[str, Verdict], found: Mapping[str, Kept | None]) -> str:
    short = [f"{_link(PARTS[name])} ({v.short})" for name, v in said.items() if v.short]
    missing = [name for name, kept in found.items() if kept is None]
    text = f"**What falls short of its aim:** {'; '.join(short) or 'nothing that is noted'}."
    if missing:
        text += f" {len(missing)} of {len(found)} parts were never run and tell nothing."
    return text


def _overview(said: Mapping[str, Verdict], found: Mapping[str, Kept | None]) -> str:
    rows = ["| part | run | what came out |", "| --- | --- | --- |"]
    for part in PARTS.values():
        kept = found[part.name]
        when = "never" if kept is None else kept.about.get("date", "once")
        rows.append(f"| {_link(part)} | {when} | {said.get(part.name, Verdict()).says} |")
    return "\n".join(rows)


def _link(part: Part) -> str:
    anchor = re.sub(r"[^\w -]", "", part.heading.lower()).replace(" ", "-")
    return f"[{part.name}](#{anchor})"


def _section(part: Part, kept: Kept | None, verdict: Verdict) -> list[str]:
    about = kept.about if kept else {}
    told = [part.shows]
    told += [f"Aim: {part.aim}."] if part.aim else []
    told += [f"Published: {part.published}."] if part.published else []
    blocks = [f"### {part.heading}", "\n".join(told)]
    blocks += [fault_table()] if part.name == "faults" else []
    blocks.append(f"```\n{about.get('command', part.command)}\n```")
    if kept is None:
        return [*blocks, "Never run."]
    blocks += [verdict.says] if verdict.says else []
    blocks.append(f"```text\n{kept.output.rstrip()}\n```")
    facts = [about[name] for name in ("date", "commit", "machine") if name in about]
    facts += [f"{float(about['seconds']):,.0f} s"] if "seconds" in about else []
    if about.get("command", part.command) != part.command:
        facts.append(f"by now the command is `{part.command}`")
    return [*blocks, f"*{'; '.join(facts)}*"] if facts else blocks


# ---------------------------------------------------------------- commands


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="parts, how long they take, and which are kept")
    commands.add_parser("assemble", help="write docs/benchmarks.md of what is kept")
    running = commands.add_parser("run", help="run parts, all without a name; keep what they print")
    running.add_argument("parts", nargs="*", metavar="PART")
    keeping = commands.add_parser("keep", help="keep what a part printed elsewhere")
    keeping.add_argument("part", choices=list(PARTS), metavar="PART")
    keeping.add_argument("file", type=Path, help="its standard output")
    for name in ("command", "date", "commit", "machine", "seconds"):
        keeping.add_argument(f"--{name}", dest=f"of_{name}", help="told beside it")
    args = parser.parse_args()
    n_failed = 0
    match args.command:
        case "list":
            print(listed())
            return
        case "run":
            unknown = [name for name in args.parts if name not in PARTS]
            if unknown:
                parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
            n_failed = run([PARTS[name] for name in args.parts or PARTS])
        case "keep":
            given = {name[3:]: v for name, v in vars(args).items() if name[:3] == "of_" and v}
            about = {"command": PARTS[args.part].command, **given}
            Kept(about, args.file.read_text()).write(kept_at(args.part))
    write_report()
    sys.exit(1 if n_failed else 0)


def listed(docs: Path = DOCS) -> str:
    """A line a part."""
    lines = []
    for part in PARTS.values():
        kept = Kept.read(kept_at(part.name, docs))
        when = f"kept {kept.about.get('date', '')}" if kept else "never run"
        lines.append(f"{part.name:<26} {_duration(part, docs):<18} {when:<16} {part.heading}")
    return "\n".join(lines)


def _duration(part: Part, docs: Path) -> str:
    kept = Kept.read(kept_at(part.name, docs))
    if kept is None or "seconds" not in kept.about:
        return f"about {part.minutes} min"
    return f"took {float(kept.about['seconds']):,.0f} s"


if __name__ == "__main__":
    main()
