#!/usr/bin/env python3
"""Prints the rows of `real_files` in test_items.c: count, first and last id, and the FNV-1a-128
digest (client/cli/digest.h) over all prompts, read with Python's own csv and json modules in the
way of each benchmark's authors. Usage: make_prompt_digests.py DATA_DIRECTORY"""
import csv
import json
import os
import sys

PRIME = (1 << 88) + 0x13B


def digest(texts):
    value = 0x6C62272E07BB014262B821756295C58D
    for text in texts:
        raw = text.encode()
        for byte in len(raw).to_bytes(8, "little") + raw:
            value = (value ^ byte) * PRIME % (1 << 128)
    return f"{value:032x}"


def table(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def whole(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def harmbench(row):
    behavior, context = row["Behavior"], row["ContextString"]
    return f"{context}\n\n---\n\n{behavior}" if context else behavior


FILES = [
    ("prompts/harmbench_behaviors_text_val.csv", table, harmbench, "BehaviorID"),
    ("prompts/xstest_prompts.csv", table, lambda row: row["prompt"], "id"),
    ("prompts/rd_advbench.csv", table, lambda row: row["goal"], None),
    ("pref/TruthfulQA.csv", table, lambda row: row["Question"], None),
    ("prompts/BeaverTails-Evaluation.json", whole, lambda row: row["prompt"], None),
    ("prompts/alpaca_farm_eval.json", whole, lambda row: row["prompt"], "JSON_idx"),
    ("prompts/inthewild_jailbreak_llms.json", whole, lambda row: row, None),
    ("prompts/rd_split_harmful_val.json", whole, lambda row: row["instruction"], None),
    ("prompts/do_not_answer/malicious_uses.jsonl", lines, lambda row: row["prompt"], None),
    ("prompts/malicious_instruct.txt",
     lambda path: open(path, encoding="utf-8").read().split("\n"), lambda row: row, None),
    ("pref/pku_saferlhf_dpo_5k.json", whole, lambda row: row["prompt"], None),
]

for name, read, prompt, key in FILES:
    rows = read(os.path.join(sys.argv[1], name))
    ids = [row[key] if key else number + 1 for number, row in enumerate(rows)]
    print(f'{name} {len(rows)} {json.dumps(ids[0])} {json.dumps(ids[-1])} '
          f'{digest(map(prompt, rows))}')
