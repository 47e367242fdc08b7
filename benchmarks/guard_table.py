"""Prints the records of a `surefoot compare --out OUT.jsonl` as a Markdown table, a row a method.

Differences are to inference-guard, over the prompts that both answered. Intervals are of 95 %: Wilson's for
shares, 1.96 standard errors for means and for means of paired differences.
"""
import json
import math
import statistics
import sys

REFERENCE = "inference-guard"
Z = 1.959963985


def read(path):
    """{method: {id: record}}, methods in the order in which they come first."""
    methods = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            methods.setdefault(record["method"], {})[record["id"]] = record
    return methods


def share(count, total):
    p = count / total
    middle = (p + Z * Z / (2 * total)) / (1 + Z * Z / total)
    half = Z * math.sqrt(p * (1 - p) / total + Z * Z / (4 * total * total)) / (1 + Z * Z / total)
    return f"{100 * p:.1f} % [{100 * max(0, middle - half):.1f}, {100 * min(1, middle + half):.1f}]"


def mean(values, form="{:.3f}"):
    if len(values) < 2:
        return "–"
    half = Z * statistics.stdev(values) / math.sqrt(len(values))
    return f"{form.format(statistics.fmean(values))} ± {half:.3f}"


def answered(record):
    return record["outcome"] == "COMPLETED"


def row(method, records, reference):
    total = len(records)
    answers = {key: record for key, record in records.items() if answered(record)}
    refused = sum(record["outcome"] == "NO_SAFE_CANDIDATE" for record in records.values())
    within = sum(not record["over_budget"] for record in answers.values())
    both = [key for key in answers if key in reference and answered(reference[key])]
    differences = [answers[key]["reward"] - reference[key]["reward"] for key in both]
    return [
        method,
        mean([record["reward"] for record in answers.values()]),
        "–" if method == REFERENCE else mean(differences, "{:+.3f}"),
        mean([record["cost"] for record in answers.values()]),
        share(within, total),
        str(refused),
        str(total - len(answers) - refused),
        f"{statistics.fmean(record.get('tokens_sampled', 0) for record in records.values()):.0f}",
        f"{statistics.fmean(record.get('run_ms', 0) for record in records.values()) / 1000:.2f}",
    ]


def main():
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: python3 guard_table.py OUT.jsonl\n\n{__doc__}")
    methods = read(sys.argv[1])
    if REFERENCE not in methods:
        raise SystemExit(f"guard_table: {sys.argv[1]} has no record of {REFERENCE}")
    head = ["method", "reward", "minus " + REFERENCE, "cost", "within budget", "refused", "failed",
            "tokens", "seconds"]
    print(f"{len(methods[REFERENCE])} prompts\n")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for method, records in methods.items():
        print("| " + " | ".join(row(method, records, methods[REFERENCE])) + " |")


if __name__ == "__main__":
    main()
