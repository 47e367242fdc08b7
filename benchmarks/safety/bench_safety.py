"""Surefoot's methods on 300 held-out prompts that draw unsafe text, under a judge that trained nothing here.

Starts a service of its own (or asks the one of --dir), answers every prompt with plain sampling, best-of-n
and inference-guard through `surefoot sweep`, one job at a time, and prints what report.py makes of the
answers. Interrupted, it goes on where it was; --out keeps the answers, which can hold offensive text.

    python3 -m venv build/safety-venv
    build/safety-venv/bin/pip install -r benchmarks/safety/requirements.txt
    build/safety-venv/bin/python benchmarks/safety/bench_safety.py --out build/safety
"""
import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import judge
import packages
import prompts
import report
import words

METHODS = ("sample", "best-of-n", "inference-guard")
START_TIMEOUT_MS = 600000
MODELS = packages.ROOT / "models"
BEGIN, END = "<!-- bench_safety.py -->", "<!-- end of bench_safety.py -->"


def flags():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", required=True, type=pathlib.Path, help="directory of prompts, answers and report")
    add("--results", type=pathlib.Path, help="Markdown file whose section of this benchmark is replaced")
    add("--data", default=prompts.DATA, help="the outside data; default $SUREFOOT_DATA, ../shared/data")
    add("--surefoot", default=str(packages.ROOT / "build/bin/surefoot"), help="the client")
    add("--dir", help="state directory of a running service, used instead of an own one")
    add("--policy", default=str(MODELS / "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    add("--cost", default=f"harm={MODELS / 'smollm2-cost'}", metavar="NAME=MODEL")
    add("--reward", default=f"quality={MODELS / 'smollm2-reward'}", metavar="NAME=MODEL")
    add("--precision", default="int8")
    add("--kv-dtype", default="f32")
    add("--ranks", type=int, default=1)
    add("--threads", type=int, default=0, help="of each rank; default 0: the cores, shared out")
    add("--n", type=int, default=32, help="candidates of best-of-n and inference-guard")
    add("--max-tokens", type=int, default=64)
    add("--temperature", type=float, default=0.7)
    add("--top-p", type=float, default=0.95)
    add("--budget", type=float, help="default: the cost model's")
    add("--seed", type=int, default=1)
    add("--every", type=int, default=1, help="only every so many-th prompt, for a trial")
    add("--cache", help="where fetched packages are kept; default build/safety-packages")
    add("--report-only", action="store_true", help="no service: the answers in --out")
    return parser.parse_args()


def job_flags(options, method):
    out = ["--method", method, "--max-tokens", options.max_tokens, "--seed", options.seed]
    out += ["--temperature", options.temperature, "--top-p", options.top_p]
    if method != "sample":
        out += ["--n", options.n]
    if options.budget is not None:
        out += ["--budget", options.budget]
    return [str(flag) for flag in out]


def service_flags(options):
    out = ["--policy", options.policy, "--cost", options.cost, "--reward", options.reward]
    out += ["--precision", options.precision, "--kv-dtype", options.kv_dtype]
    out += ["--ranks", str(options.ranks), "--threads", str(options.threads)]
    return out + ["--start-timeout-ms", str(START_TIMEOUT_MS)]


def machine():
    name = "an unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return f"{len(os.sched_getaffinity(0))} cores of {name}"


def run(command):
    """The exit code. An interrupt reaches the command too, which must have ended before ours goes on."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def sweep_all(options):
    """Answers every prompt with every method; the records stand in --out."""
    ran = f"{datetime.date.today()}, {machine()}"
    (options.out / "ran.txt").write_text(ran, encoding="utf-8")
    os.environ.pop("SUREFOOT_ENDPOINT", None)  # which would go before --dir
    directory = options.dir or tempfile.mkdtemp(prefix="surefoot-safety-", dir="/tmp")
    try:
        if not options.dir:
            command = [options.surefoot, "up", "--dir", directory, *service_flags(options)]
            if run(command) != 0:
                raise SystemExit("bench_safety: the service did not start")
        for method in METHODS:
            command = [options.surefoot, "sweep", str(options.out / "prompts.jsonl"), "--dir", directory]
            command += ["--out", str(options.out / f"{method}.jsonl"), "--in-flight", "1"]
            code = run(command + job_flags(options, method))
            if code not in (0, 3):  # 3: some jobs failed, which the report counts
                raise SystemExit(f"bench_safety: {method}: surefoot sweep ended with {code}")
    finally:
        if not options.dir:
            run([options.surefoot, "down", "--dir", directory])
            shutil.rmtree(directory, ignore_errors=True)


def read_records(path, rows):
    if not path.is_file():
        raise SystemExit(f"bench_safety: {path} is missing")
    records = {record["id"]: record for record in map(json.loads, path.open(encoding="utf-8"))}
    missing = [row["id"] for row in rows if row["id"] not in records]
    if missing or len(records) != len(rows):
        raise SystemExit(f"bench_safety: {path}: answers of other prompts, or {len(missing)} missing")
    return records


def describe(options, answers, rows):
    """What was run, from the records."""
    settings = {a.method: a.records[0]["settings"] for a in answers}
    models = settings["sample"]["models"]
    if any(s["models"] != models for s in settings.values()):
        raise SystemExit("bench_safety: the methods were answered by other models")
    jobs = {method: s["job"] for method, s in settings.items()}
    n = {jobs[method].get("n") for method in METHODS[1:]}
    if len(n) != 1:
        raise SystemExit("bench_safety: best-of-n and inference-guard had another n")
    budgets = {record["budget"] for a in answers for record in a.records if "budget" in record}
    if len(budgets) != 1:
        raise SystemExit(f"bench_safety: not one budget but {sorted(budgets)}")
    sampling = answers[0].records[0].get("sampling", {})
    names = ", ".join(f"{name} ({m['role']}, {m['hash'][:12]})" for name, m in sorted(models.items()))
    return [
        f"{(options.out / 'ran.txt').read_text(encoding='utf-8')}. {len(rows)} prompts, {n.pop()} "
        f"candidates for best-of-n and inference-guard, at most {jobs['sample']['max_tokens']} tokens, temperature "
        f"{sampling.get('temperature'):g}, top-p {sampling.get('top_p'):g}, budget {budgets.pop():g}, "
        f"seed {options.seed}. Models: {names}."
    ]


def write_section(path, text):
    """Replaces what stands between the marks in a Markdown file, or appends it."""
    old = path.read_text(encoding="utf-8") if path.is_file() else "# SmolLM2\n"
    section = f"{BEGIN}\n\n{text}\n{END}"
    if BEGIN in old and END in old:
        new = old[: old.index(BEGIN)] + section + old[old.index(END) + len(END) :]
    else:
        new = f"{old.rstrip()}\n\n## Unsafe prompts, three methods\n\n{section}\n"
    path.write_text(new, encoding="utf-8")


def main():
    options = flags()
    the_judge, lexicon = judge.checked(options.cache), words.checked(options.cache)
    rows = prompts.build(options.data)[:: options.every]
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report_only:
        prompts.write(rows, options.out / "prompts.jsonl")
        sweep_all(options)
    every = []
    for method in METHODS:
        records = read_records(options.out / f"{method}.jsonl", rows)
        every.append(report.Answers(method, records, rows, the_judge, lexicon))
    marked = prompts.marked_words(pathlib.Path(options.data))
    text = report.render(every, describe(options, every, rows), options.seed, marked)
    (options.out / "report.md").write_text(text, encoding="utf-8")
    if options.results:
        write_section(options.results, text)
    print(text)


if __name__ == "__main__":
    main()
