"""bench_decode beside llama.cpp and ik_llama.cpp: the same GGUF file on the same machine, in turn.

    python3 bench_peers.py --settings FILE BENCH_DECODE LLAMA IK MODEL.gguf

LLAMA and IK are the peers' own llama-batched-bench. Prints a table in Markdown; docs/measuring.md says what it counts.
FILE holds which of CHOICES each peer is given for each line of the table; where it is not there, all are tried once
and the fastest are written to it. Needs nothing but the standard library.
"""
import argparse
import collections
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

OURS = "int8:int8,q4:int8"  # precision, and stored keys and values
THEIRS = ["f16", "q8_0"]
# What a peer can be told, every combination of its lists. llama.cpp's repacking knows neither Q4_1 nor Q8_0 on x86.
CHOICES = {
    "llama.cpp": [["-fa on", "-fa off"], ["-kvu", "-no-kvu"]],
    "ik_llama.cpp": [["-fa on", "-fa off"], ["", "-rtr", "-rtr -thp"]],
}
TUNING_TOKENS = 16
PROMPT = "prompt" # the line of the table that is about reading; the others are numbers of sequences, as text

def sequences_of(line):
    return 1 if line == PROMPT else int(line)

def new_tokens_of(line, n_new):
    return 1 if line == PROMPT else n_new

def rate_of(line):
    return "prompt_tps" if line == PROMPT else "model_tps"

def fail(text):
    sys.exit("bench_peers.py: " + text)

def side(name, kv_dtype):
    return "%s, %s KV" % (name, kv_dtype)

def own_side(way):
    return side("Surefoot, %s" % way[0], way[1])

def output_of(command):
    try:
        with tempfile.TemporaryDirectory() as directory: # ik_llama.cpp leaves a log where it stands
            done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="replace")
    except OSError as error:
        fail("cannot run %s: %s" % (command[0], error.strerror))
    if done.returncode != 0:
        fail("%s ended with %d:\n%s" % (" ".join(command), done.returncode, done.stdout[-2000:]))
    return done.stdout

def choices(name, kv_dtype):
    for parts in itertools.product(*CHOICES[name]):
        if kv_dtype == "f16" or "-fa on" in parts:  # 8-bit values need flash attention
            yield " ".join(part for part in parts if part)

def run_peer(options, name, kv_dtype, line, settings, n_new):
    """Tokens a second of decoding and of the prompt."""
    n, n_new = sequences_of(line), new_tokens_of(line, n_new)
    program = {"llama.cpp": options.llama, "ik_llama.cpp": options.ik}[name]
    # Where sequences have caches of their own, each holds the prompt.
    context = n * (options.prompt + n_new) + 512
    text = output_of([program, "-m", options.model, "-t", str(options.threads), "-tb", str(options.threads), "-c",
                      str(context), "-b", "2048", "-ub", "512", "-pps", "-npp", str(options.prompt), "-ntg", str(n_new),
                      "-npl", str(n), "-ctk", kv_dtype, "-ctv", kv_dtype] + settings.split())
    for printed in text.splitlines():
        cells = [cell.strip() for cell in printed.split("|")]
        if cells[1:4] == [str(options.prompt), str(n_new), str(n)]:
            return {"model_tps": float(cells[8]), "prompt_tps": float(cells[6])}
    fail("%s printed no line of %d sequences: is it llama-batched-bench?\n%s" % (program, n, text[-2000:]))

def run_ours(options, way, line):
    """bench_decode's row, and its ceilings as `int8` and `q4` in GOP/s and `memory` in GB/s."""
    precision, kv_dtype = way
    lines = output_of([options.bench_decode, "--model", options.model, "--precision", precision, "--kv-dtype", kv_dtype,
                       "--threads", str(options.threads), "--prompt", str(options.prompt), "--new",
                       str(new_tokens_of(line, options.new)), "--sequences", str(sequences_of(line)), "--repeats",
                       "1"]).splitlines()
    names, values = [line.split(",") for line in lines if not line.startswith("#")]
    row = {name: float(value) for name, value in zip(names[2:], values[2:])}
    ceilings = next(line for line in lines if line.startswith("# ceilings:"))
    row["int8"], row["q4"], row["memory"] = map(float, re.search(
        r"int8 ([\d.]+) GOP/s, q4 ([\d.]+) GOP/s, memory ([\d.]+) GB/s", ceilings).groups())
    row["cpu"] = next(line for line in lines if line.startswith("# cpu: "))[len("# cpu: "):]
    return row

def tune(options):
    """Side -> line -> the flags that were fastest there."""
    settings = {}
    for name, kv_dtype in itertools.product(CHOICES, THEIRS):
        fastest = settings[side(name, kv_dtype)] = {}
        for line in options.lines:
            rates = {flags: run_peer(options, name, kv_dtype, line, flags, TUNING_TOKENS)[rate_of(line)]
                     for flags in choices(name, kv_dtype)}
            fastest[line] = max(rates, key=rates.get)
            print("# %s, %s: %s" % (side(name, kv_dtype), line, ", ".join("%s %.0f" % item for item in rates.items())),
                  file=sys.stderr)
    return settings

def peer_settings(options):
    if not os.path.exists(options.settings):
        settings = tune(options)
        with open(options.settings, "w") as out:
            json.dump(settings, out, indent=1)
    with open(options.settings) as file:
        settings = json.load(file)
    for name, kv_dtype, line in itertools.product(CHOICES, THEIRS, options.lines):
        if not isinstance(settings.get(side(name, kv_dtype), {}).get(line), str):
            fail("%s: no flags for %s, %s; remove the file to find them anew" %
                 (options.settings, side(name, kv_dtype), line))
    return settings

def measure(options, settings):
    """(side, line) -> rows of figures, one a round; each is in the log as soon as it is there."""
    figures = collections.defaultdict(list)

    def keep(key, line, row):
        figures[key, line].append(row)
        if options.log:
            print(json.dumps({"side": key, "line": line, **row}), file=options.log, flush=True)

    for _, line, (ours, theirs) in itertools.product(range(options.rounds), options.lines, zip(options.ours, THEIRS)):
        keep(own_side(ours), line, run_ours(options, ours, line))
        for name in CHOICES:
            key = side(name, theirs)
            keep(key, line, run_peer(options, name, theirs, line, settings[key][line], options.new))
    return figures

def number(value):
    return "{:,.0f}".format(value)

def limit_of(line, way, row, ceilings):
    """Tokens/s that the ceilings allow: the products of a token; weights read once a step."""
    layers = row["prompt_gflops"] / row["prompt_tps"] # 10^9 a token
    if line == PROMPT:
        return ceilings[way[0]] / layers
    head = row["product_gflops"] / row["decode_tps"] - layers # in int8 always: the file has 8 bits there
    weights = row["weight_gbs"] * row["step_ms"] * 1e-3       # GB a step
    return min(1 / (layers / ceilings[way[0]] + head / ceilings["int8"]),
               sequences_of(line) * ceilings["memory"] / weights)

def print_table(options, settings, figures):
    ours = [own_side(way) for way in options.ours]
    theirs = [side(name, kv) for name in CHOICES for kv in THEIRS]
    own_rows = [row for (key, _), rows in figures.items() if key in ours for row in rows]
    ceilings = {name: statistics.median(row[name] for row in own_rows) for name in ("int8", "q4", "memory")}

    def median(key, line, column):
        return statistics.median(row[column] for row in figures[key, line])

    heads = [""] + ours + theirs + ["ratio, %s, %s KV" % way for way in options.ours] + [
        "limit, %s" % way[0] for way in options.ours]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for line in options.lines:
        values = {key: median(key, line, rate_of(line)) for key in ours + theirs}
        best = max(values[key] for key in theirs)
        limits = [limit_of(line, way, figures[own_side(way), line][0], ceilings) for way in options.ours]
        print("| " + " | ".join([line] + [number(value) for value in values.values()] +
                                ["%.2f" % (values[key] / best) for key in ours] +
                                [number(limit) for limit in limits]) + " |")

    decoding = [line for line in options.lines if line != PROMPT]
    drawn = ["%s %s" % (key, ", ".join(number(median(key, line, "decode_tps")) for line in decoding)) for key in ours]
    used = ["%s: %s" % (key, ", ".join("%s `%s`" % (line, settings[key][line]) for line in options.lines))
            for key in theirs]
    print("\nTokens/s, medians of %d rounds; prompt %d, %d new tokens a sequence, %d threads. With draws: %s." %
          (options.rounds, options.prompt, options.new, options.threads, "; ".join(drawn)))
    print("\nMachine: %s. Ceilings: int8 %s GOP/s, q4 %s GOP/s, memory %.1f GB/s." %
          (own_rows[0]["cpu"], number(ceilings["int8"]), number(ceilings["q4"]), ceilings["memory"]))
    print("\nPeers' flags: " + "; ".join(used) + ".")

def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["bench_decode", "llama", "ik", "model"]:
        parser.add_argument(name)
    parser.add_argument("--settings", required=True, metavar="FILE")
    parser.add_argument("--log", type=argparse.FileType("w"), metavar="FILE", help="keeps every figure, JSON lines")
    parser.add_argument("--sequences", default="1,8,32,64", metavar="N,N,...")
    parser.add_argument("--ours", default=OURS, metavar="PRECISION:KV,PRECISION:KV",
                        help="int8 or q4, and the type of keys and values; default " + OURS)
    for name, default in [("rounds", 3), ("threads", 2), ("prompt", 512), ("new", 128)]:
        parser.add_argument("--" + name, type=int, default=default, metavar="N")
    options = parser.parse_args()
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", options.sequences):
        parser.error("--sequences: numbers of at least 1, between commas")
    if not re.fullmatch(r"(int8|q4):\w+,(int8|q4):\w+", options.ours):
        parser.error("--ours: two of int8 or q4 with a type of keys and values, as " + OURS)
    options.ours = [tuple(way.split(":")) for way in options.ours.split(",")]
    options.lines = options.sequences.split(",") + [PROMPT]
    if min(options.rounds, options.threads, options.prompt, options.new) < 1:
        parser.error("--rounds, --threads, --prompt and --new: at least 1")
    for name in ["bench_decode", "llama", "ik", "model"]:
        path = os.path.abspath(getattr(options, name))
        if not os.path.isfile(path):
            parser.error("%s is not a file" % path)
        setattr(options, name, path)
    return options

def main():
    options = parse()
    settings = peer_settings(options)
    print_table(options, settings, measure(options, settings))

main()
