"""Makes the tables and figures of docs/results/guard.md from the records that guard_table.sh left in OUT.

usage: guard_table.py OUT                      prints the tables
       guard_table.py OUT --results FILE.md    puts them between their marks in FILE, figures beside it
       guard_table.py OUT --equal METHOD       prints the N at which METHOD samples what inference-guard did
       guard_table.py --self-check

Intervals are of 95 %: Wilson's of shares; 1.96 standard errors of means and of means of paired differences;
of ratios and of what is read off a curve percentiles of 2,000 bootstrap samples of the prompts.
"""
import json
import math
import os
import random
import re
import statistics
import sys

import guard_plots

REFERENCE = "inference-guard"
N = 32
Z = 1.959963985
SAMPLES = 2000
TOKENS_POWER = {"beam": 1.55}  # of N, measured; more beams hold more texts that end late
TILT_REFERENCES = 64  # roll-outs of the calibration
TILT_KEPT = 4         # both sides keep the best of so many


def read(path):
    """{method: {id: record}}, methods in the order in which they come first; {} of a file that is not there."""
    methods = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                methods.setdefault(record["method"], {})[record["id"]] = record
    return methods


def answered(record):
    return record["outcome"] == "COMPLETED"


def reward(record):
    return record["reward"]


def tokens(record):
    return record["tokens_sampled"]


def half_width(values):
    return Z * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def mean(values, form="{:.3f}"):
    values = list(values)
    if len(values) < 2:
        return "–"
    return f"{form.format(statistics.fmean(values))} ± {half_width(values):.3f}"


def wilson(count, total):
    p = count / total
    middle = (p + Z * Z / (2 * total)) / (1 + Z * Z / total)
    half = Z * math.sqrt(p * (1 - p) / total + Z * Z / (4 * total * total)) / (1 + Z * Z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(count, total):
    low, high = wilson(count, total)
    return f"{100 * count / total:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def differences(records, reference):
    """Of the rewards, over the prompts that both answered."""
    return [reward(records[key]) - reward(reference[key]) for key in records
            if key in reference and answered(records[key]) and answered(reference[key])]


def bootstrap(statistic, count):
    """The 95 % interval of statistic(indexes); samples in which it is None are left out."""
    generator = random.Random(1)
    values = (statistic(generator.choices(range(count), k=count)) for _ in range(SAMPLES))
    values = sorted(value for value in values if value is not None)
    return values[int(0.025 * len(values))], values[min(len(values) - 1, int(0.975 * len(values)))]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


class Run:
    """The records in a directory, by the parts of guard_table.sh."""

    def __init__(self, directory):
        self.directory = directory
        self.rivals = read(self.path("rivals"))
        self.reference = read(self.path(REFERENCE)).get(REFERENCE)
        if not self.reference:
            raise SystemExit(f"guard_table: {self.path(REFERENCE)} has no record of {REFERENCE}")

    def path(self, name):
        return os.path.join(self.directory, name + ".jsonl")

    def numbered(self, prefix):
        """[(N, method, records)] of the files PREFIX-METHOD-N."""
        found = []
        for name in os.listdir(self.directory):
            match = re.fullmatch(re.escape(prefix) + r"-.*-(\d+)\.jsonl", name)
            if match:
                for method, records in read(os.path.join(self.directory, name)).items():
                    found.append((int(match[1]), method, records))
        return sorted(found, key=lambda row: (row[1], row[0]))

    def named(self, prefix):
        """{NAME: records} of the files PREFIX-NAME, one method each."""
        found = {}
        for name in sorted(os.listdir(self.directory)):
            match = re.fullmatch(re.escape(prefix) + r"-(.*)\.jsonl", name)
            methods = read(os.path.join(self.directory, name)) if match else {}
            if methods:
                (found[match[1]],) = methods.values()
        return found


def equal_n(run, method):
    """From what METHOD sampled with its N of the rivals' table; TOKENS_POWER says how tokens go with N."""
    records = run.rivals[method].values()
    n = next(iter(records))["settings"]["job"]["n"]
    ours = statistics.fmean(tokens(record) for record in run.reference.values())
    ratio = ours / statistics.fmean(tokens(record) for record in records)
    return max(1, round(n * ratio ** (1 / TOKENS_POWER.get(method.split(":")[0], 1))))


HEAD = ["method", "N", "reward", "minus " + REFERENCE, "cost", "within budget", "refused", "failed", "tokens",
        "seconds"]


def row(title, records, reference):
    total = len(records)
    answers = [record for record in records.values() if answered(record)]
    refused = sum(record["outcome"] == "NO_SAFE_CANDIDATE" for record in records.values())
    within = sum(not record["over_budget"] for record in answers)
    n = next(iter(records.values()))["settings"]["job"].get("n", 1)
    return [
        title,
        str(n),
        mean(map(reward, answers)),
        "–" if records is reference else mean(differences(records, reference), "{:+.3f}"),
        mean(record["cost"] for record in answers),
        share(within, total),
        str(refused),
        str(total - len(answers) - refused),
        f"{statistics.fmean(map(tokens, records.values())):.0f}",
        f"{statistics.fmean(record.get('run_ms', 0) for record in records.values()) / 1000:.2f}",
    ]


def rivals_table(run):
    rows = [row(f"**{REFERENCE}**", run.reference, run.reference)]
    rows += [row(method, records, run.reference) for method, records in run.rivals.items()]
    return table(HEAD, rows)


def equal_rows(run):
    rows = [(method, records) for _, method, records in run.numbered("tokens")]
    return rows + [(method, run.rivals[method]) for method in run.rivals
                   if method.split(":")[0] in ("rejection", "cards")]


def equal_table(run):
    rows = [row(f"**{REFERENCE}**", run.reference, run.reference)]
    return table(HEAD, rows + [row(method, records, run.reference) for method, records in equal_rows(run)])


def interval_row(title, records, reference):
    values = differences(records, reference)
    return title, statistics.fmean(values), half_width(values)


def keeps_budget(method):
    return method.endswith(":augmented") or method in ("rejection", "paper/inference-guard") \
        or method.startswith(("paper/best-of-n-augmented", "paper/beam-augmented"))


def rivals_plot(run):
    equal, same = equal_rows(run), list(run.rivals.items())
    groups = []
    for heading, rows in (("at equal tokens", equal), (f"at N = {N}", same)):
        for words, kept in (("never over budget", True), ("may be over budget", False)):
            groups.append((f"{heading}, {words}", [interval_row(method, records, run.reference)
                                                   for method, records in rows if keeps_budget(method) == kept]))
    return guard_plots.intervals(
        f"Reward less that of {REFERENCE} with its defaults",
        f"paired difference of rewards, 95 % interval; left of 0 {REFERENCE} is better",
        [group for group in groups if group[1]])


ABLATIONS = [
    ("block-fixed", "blocks of 4, not growing"),
    ("block-32", "blocks of 32"),
    ("block-32-no-abort", "blocks of 32, no abort inside"),
    ("n-fixed", "all N in every step"),
    ("no-patience", "to the end of all texts"),
    ("none-adaptive", "none of these four: fixed N, blocks of 4"),
    ("critic-latent", "with the latent critic"),
    ("no-fallback", "no fallback: one try a step, one search"),
    ("no-state", "no safety state: beam by reward"),
    ("lagrangian", "cost in the score instead: λ = 5"),
]
STATELESS = {"no-state": "beam:plain", "lagrangian": "beam:lagrangian"}
# What is on, with and without it; None: the defaults.
SAVINGS = [
    ("growing blocks", None, "block-fixed"),
    ("adaptive N", None, "n-fixed"),
    ("an end when settled", None, "no-patience"),
    ("all of these", None, "none-adaptive"),
    ("abort inside blocks of 32", "block-32", "block-32-no-abort"),
]


def ablation_rows(run, prefix):
    found = run.named(prefix)
    if prefix == "ablation":  # whose prompts are those of the rivals
        found |= {name: run.rivals[method] for name, method in STATELESS.items() if method in run.rivals}
        found["defaults"] = run.reference
    if "defaults" not in found:
        return []
    return [("defaults", found["defaults"])] + [(title, found[name]) for name, title in ABLATIONS if name in found]


def token_ratio(records, reference):
    """(lower end, ratio, upper end), over the prompts of both."""
    pairs = [(tokens(records[key]), tokens(reference[key])) for key in records if key in reference]
    ratio = lambda indexes: sum(pairs[i][0] for i in indexes) / sum(pairs[i][1] for i in indexes)
    low, high = bootstrap(ratio, len(pairs))
    return low, ratio(range(len(pairs))), high


def ablation_table(run, prefix):
    rows = ablation_rows(run, prefix)
    reference = rows[0][1] if rows else None
    lines = []
    for title, records in rows:
        cells = row(title, records, reference)
        ratio = "–"
        if records is not reference:
            low, middle, high = token_ratio(records, reference)
            ratio = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        lines.append(cells[:1] + [str(len(records))] + cells[2:9] + [ratio] + cells[9:])
    return table(["search", "prompts"] + HEAD[2:3] + ["minus defaults"] + HEAD[4:9] + ["of defaults'"] + HEAD[9:], lines)


def savings_table(run):
    lines = []
    for heading, prefix in (("", "ablation"), (", hard prompts", "hard")):
        found = run.named(prefix)
        defaults = found.get("defaults", run.reference)
        for title, on, off in SAVINGS:
            with_it, without = found.get(on) if on else defaults, found.get(off)
            if with_it and without:
                low, ratio, high = token_ratio(with_it, without)
                keys = [key for key in with_it if key in without]
                same = sum(with_it[key].get("text") == without[key].get("text") for key in keys)
                lines.append([title + heading, f"{100 - 100 * ratio:.1f} % [{100 - 100 * high:.1f}, "
                              f"{100 - 100 * low:.1f}]", mean(differences(with_it, without), "{:+.3f}"),
                              f"{same} of {len(keys)}"])
    return table(["with", "tokens saved", "reward less that without", "same answers"], lines)


def ablation_plot(run):
    groups = []
    for heading, prefix in (("all prompts", "ablation"), ("hard prompts", "hard")):
        rows = ablation_rows(run, prefix)
        if len(rows) > 1:
            groups.append((heading, [interval_row(title, records, rows[0][1])
                                     for title, records in rows[1:]]))
    return guard_plots.intervals(
        "Reward less that of inference-guard with its defaults, a part exchanged",
        "paired difference of rewards, 95 % interval, over the prompts that both answered", groups)


def waste_table(run):
    rows = [(REFERENCE, run.reference)]
    rows += [(title, run.named("ablation")[name]) for name, title in ABLATIONS if name in run.named("ablation")]
    rows += [(method, records) for method, records in run.rivals.items() if "/" not in method]
    lines = []
    for title, records in rows:
        records = records.values()
        ended = sum(r["n_finished"] + r["n_repeats"] for r in records)
        sampled = sum(map(tokens, records))
        lines.append([title, f"{sampled / len(records):.0f}", f"{ended / len(records):.1f}",
                      f"{100 * sum(r['n_repeats'] for r in records) / ended:.1f} %",
                      f"{100 * sum(r.get('tokens_after_choice', 0) for r in records) / sampled:.1f} %",
                      f"{100 * sum(r.get('rebuilt_tokens', 0) for r in records) / sampled:.1f} %"])
    return table(["method", "tokens", "texts that ended", "of these repeats", "tokens after the choice",
                  "rebuilt tokens"], lines)


def size_curves(run):
    """{method: [(N, records)]} of those that were run with several N, by N, other parts' rows among them."""
    found = {}
    for n, method, records in run.numbered("size"):
        found.setdefault(method, []).append((n, records))
    for n, method, records in run.numbered("tokens"):
        if method in found:
            found[method].append((n, records))
    for method in found:
        records = run.reference if method == REFERENCE else run.rivals.get(method)
        if records and N not in [n for n, _ in found[method]]:
            found[method].append((N, records))
        found[method].sort(key=lambda point: point[0])
    return found


def size_plot(run):
    lines = []
    for method, points in size_curves(run).items():
        line = []
        for n, records in points:
            rewards = [reward(record) for record in records.values() if answered(record)]
            line.append((statistics.fmean(map(tokens, records.values())), statistics.fmean(rewards),
                         half_width(rewards), str(n)))
        lines.append((method, line))
    return guard_plots.curves("Reward against tokens, by N", "tokens sampled a prompt",
                              "mean reward of the answers", lines)


def tokens_at(curve, wanted):
    """Where the line through (tokens, reward), linear in the logarithm of the tokens, reaches a reward."""
    for (t0, r0), (t1, r1) in zip(curve, curve[1:]):
        if r0 <= wanted <= r1 and r1 > r0:
            return t0 * (t1 / t0) ** ((wanted - r0) / (r1 - r0))
    return None


def saved(records, points):
    """(share of tokens saved against the curve at equal reward, its interval); None beyond the curve."""
    keys = [key for key in records if answered(records[key])
            and all(key in curve and answered(curve[key]) for _, curve in points)]
    columns = [[(tokens(curve[key]), reward(curve[key])) for key in keys] for _, curve in points]
    own = [(tokens(records[key]), reward(records[key])) for key in keys]

    def of(indexes):
        average = lambda column: tuple(sum(column[i][part] for i in indexes) / len(indexes) for part in (0, 1))
        sampled, wanted = average(own)
        needed = tokens_at([average(column) for column in columns], wanted)
        return None if needed is None else 1 - sampled / needed

    value = of(range(len(keys)))
    return None if value is None else (value, *bootstrap(of, len(keys)))


def saved_table(run):
    curves = size_curves(run)
    base = "best-of-n:augmented"
    if base not in curves:
        return ""
    lines = []
    for method, points in curves.items():
        for n, records in points if method != base else []:
            result = saved(records, curves[base])
            lines.append([method, str(n), mean(reward(r) for r in records.values() if answered(r)),
                          f"{statistics.fmean(map(tokens, records.values())):.0f}",
                          "beyond the curve" if result is None else
                          f"{100 * result[0]:+.0f} % [{100 * result[1]:+.0f}, {100 * result[2]:+.0f}]"])
    return table(["method", "N", "reward", "tokens", f"saved against {base} of the same reward"], lines)


def beats(calibrated, kept, references):
    """The chance to beat the best of `kept` of the references, drawn without replacement, from the share of
    them that is worse, equal ones half: unbiased for so many fresh draws (a U-statistic)."""
    worse = calibrated * references
    low = math.floor(worse)
    chance = lambda count: math.comb(count, kept) / math.comb(references, kept)
    return chance(low) if worse == low else (chance(low) + chance(low + 1)) / 2


def tilt_rows(run):
    """{tilt: {id: records of TILT_KEPT independent draws}}, the prompts that all have."""
    found = {}
    for name, records in run.named("tilt").items():
        tilt = name.rsplit("-", 1)[0]
        for key, record in records.items():
            if answered(record):
                found.setdefault(tilt, {}).setdefault(key, []).append(record)
    whole = [{key for key, draws in rows.items() if len(draws) == TILT_KEPT} for rows in found.values()]
    common = set.intersection(*whole) if whole else set()
    return {tilt: {key: rows[key] for key in sorted(common)} for tilt, rows in found.items()} if common else {}


def tilt_best(draws):
    best = max(draws, key=reward)
    return beats(best["calibrated_reward"], TILT_KEPT, TILT_REFERENCES)


def deviation(values, expected):
    """Of the mean, in its standard errors."""
    spread = statistics.stdev(values)
    difference = statistics.fmean(values) - expected
    return "–" if spread == 0 else f"{difference / spread * math.sqrt(len(values)):+.1f} σ"


def tilt_table(run):
    rows = tilt_rows(run)
    if not rows:
        return ""
    lines = []
    for tilt, prompts in rows.items():
        draws = [draw for kept in prompts.values() for draw in kept]
        wins = [statistics.fmean(draw["calibrated_reward"] for draw in kept) for kept in prompts.values()]
        best = [tilt_best(kept) for kept in prompts.values()]
        law = statistics.fmean(draw["tilt"]["win_rate"] for draw in draws)
        best_law = statistics.fmean(draw["tilt"]["best_of_n"] for draw in draws)
        lines.append([tilt, str(len(prompts)), f"{law:.4f}", mean(wins, "{:.4f}"), deviation(wins, law),
                      f"{best_law:.4f}", mean(best, "{:.4f}"), deviation(best, best_law)])
    if {"exp", "identity"} <= rows.keys():
        gains = [tilt_best(rows["exp"][key]) - tilt_best(rows["identity"][key]) for key in rows["exp"]]
        lines.append(["exp less identity", str(len(gains)), "", "", "", "", mean(gains, "{:+.4f}"), ""])
    return table(["tilt", "prompts", "W by the law", "W", "", f"best of {TILT_KEPT} by the law",
                  f"best of {TILT_KEPT}", ""], lines)


def signed(values, form="{:+.3f}"):
    """(text, lower end, upper end) of a mean."""
    middle, half = statistics.fmean(values), half_width(values)
    return f"{form.format(middle)} ± {half:.3f}", middle - half, middle + half


def per_prompt(records, field):
    return statistics.fmean(record.get(field, 0) for record in records.values())


def goals_table(run):
    """What is asked of the method beside what the records say."""
    lines = []

    def goal(what, asked, measured, met):
        lines.append([what, asked, measured, "met" if met else "**not met**"])

    records = run.reference
    answers = [record for record in records.values() if answered(record)]
    over = sum(record["over_budget"] for record in answers)
    goal("over budget", "0", f"{over} of {len(answers)}", over == 0)
    goal("answered", "≥ 97 %", share(len(answers), len(records)), len(answers) >= 0.97 * len(records))
    equal = dict(equal_rows(run))
    for method, rows in equal.items():
        if keeps_budget(method):
            words, low, _ = signed([-value for value in differences(rows, records)])
            goal(f"reward above {method} ({per_prompt(rows, 'tokens_sampled'):.0f} tokens)", "> 0", words, low > 0)
    base = "best-of-n:augmented"
    if base in equal:
        leads = [-value for value in differences(equal[base], records)]
        goal(f"the lead over {base}", "≥ 0.3", signed(leads)[0], statistics.fmean(leads) >= 0.3)
    free = {f"{method}, N = {n}": rows for method, n, rows in
            [(method, N, rows) for method, rows in run.rivals.items()] +
            [(method, n, rows) for n, method, rows in run.numbered("tokens")] if method.endswith(":plain")}
    best = max(free, key=lambda name: statistics.fmean(reward(r) for r in free[name].values() if answered(r)))
    theirs = statistics.fmean(reward(record) for record in free[best].values() if answered(record))
    ours = statistics.fmean(map(reward, answers))
    goal(f"reward beside the best without budget ({best}, {per_prompt(free[best], 'tokens_sampled'):.0f} tokens)",
         "≥ 95 %", f"{100 * ours / theirs:.1f} %: {ours:.3f} of {theirs:.3f}", ours >= 0.95 * theirs)
    fixed = run.named("ablation").get("none-adaptive")
    matched = {key: records[key] for key in fixed or ()}
    for words, field in (("repeated texts", "n_repeats"), ("tokens after the choice", "tokens_after_choice")):
        if fixed:
            ours, theirs = per_prompt(matched, field), per_prompt(fixed, field)
            goal(f"{words} a prompt, of those of the search with fixed N and blocks", "≤ 1/3",
                 f"{ours / theirs:.2f}: {ours:.0f} of {theirs:.0f}", ours <= theirs / 3)
    rows = tilt_rows(run)
    if {"exp", "identity"} <= rows.keys():
        words, low, high = signed([tilt_best(rows["exp"][key]) - tilt_best(rows["identity"][key])
                                   for key in rows["exp"]], "{:+.4f}")
        goal(f"best of {TILT_KEPT} under exp(10 u), above identity", "≥ 0.04, > 0", words,
             low > 0 and (low + high) / 2 >= 0.04)
        for tilt, prompts in rows.items():
            wins = [statistics.fmean(draw["calibrated_reward"] for draw in kept) for kept in prompts.values()]
            law = statistics.fmean(draw["tilt"]["win_rate"] for kept in prompts.values() for draw in kept)
            sigma = statistics.stdev(wins) / math.sqrt(len(wins))
            goal(f"W of {tilt} beside its law", "within 3 σ", deviation(wins, law),
                 abs(statistics.fmean(wins) - law) <= 3 * sigma)
    return table(["what", "asked", "measured", ""], lines)


def ran(run):
    with open(os.path.join(run.directory, "ran.txt"), encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    days = sorted({day for _, day, _, _ in lines})
    machines = sorted({machine for _, _, _, machine in lines})
    commits = {}
    for part, _, commit, _ in lines:
        commits.setdefault(commit, []).append(part)
    where = "; ".join(f"{commit} ({', '.join(dict.fromkeys(parts))})" for commit, parts in commits.items()) \
        if len(commits) > 1 else next(iter(commits))
    models = next(iter(run.reference.values()))["models"]
    names = ", ".join(f"{name} {value[:12]}" for name, value in models.items())
    return (f"{' and '.join(days)}, {' and '.join(machines)}, commit {where}. {len(run.reference)} prompts. "
            f"Models: {names}.")


TABLES = {
    "ran": ran,
    "goals": goals_table,
    "rivals": rivals_table,
    "equal": equal_table,
    "ablation": lambda run: ablation_table(run, "ablation"),
    "hard": lambda run: ablation_table(run, "hard"),
    "savings": savings_table,
    "saved": saved_table,
    "waste": waste_table,
    "tilt": tilt_table,
}
FIGURES = {"guard-rivals.svg": rivals_plot, "guard-ablation.svg": ablation_plot, "guard-sizes.svg": size_plot}


def write(path, content):
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(path + ".part", path)


def write_results(run, path):
    with open(path, encoding="utf-8") as file:
        page = file.read()
    for name, make in TABLES.items():
        begin, end = f"<!-- guard_table.py: {name} -->\n", f"<!-- end of {name} -->"
        if page.count(begin) != page.count(end) or page.count(begin) > 1:
            raise SystemExit(f"guard_table: {path}: the marks of {name} are no pair")
        if begin in page:
            before, rest = page.split(begin)
            page = before + begin + "\n" + make(run) + "\n\n" + end + rest.split(end)[1]
    write(path, page)
    for name, make in FIGURES.items():
        write(os.path.join(os.path.dirname(path), name), make(run))


def self_check():
    for bound in wilson(8, 300):  # each is a rate whose own normal interval ends at 8 of 300
        assert abs(abs(8 / 300 - bound) - Z * math.sqrt(bound * (1 - bound) / 300)) < 1e-12
    assert tokens_at([(100, 1.0), (400, 3.0)], 2.0) == 200 and tokens_at([(100, 1.0), (400, 3.0)], 3.5) is None
    # 4 of 8, of which 5 are worse: C(5, 4) / C(8, 4); an equal one counts half.
    assert beats(5 / 8, 4, 8) == 5 / 70 and beats(5.5 / 8, 4, 8) == (5 + 15) / 140
    assert abs(sum(beats(i / 64, 4, 64) for i in range(65)) / 65 - 1 / 5) < 1e-12  # one of five alike
    print("guard_table: self-check passed")


def main():
    arguments = sys.argv[1:]
    if arguments == ["--self-check"]:
        self_check()
    elif len(arguments) == 1:
        run = Run(arguments[0])
        for name, make in TABLES.items():
            print(f"## {name}\n\n{make(run)}\n")
    elif len(arguments) == 3 and arguments[1] == "--equal":
        print(equal_n(Run(arguments[0]), arguments[2]))
    elif len(arguments) == 3 and arguments[1] == "--results":
        write_results(Run(arguments[0]), arguments[2])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
