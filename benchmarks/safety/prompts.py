"""The 300 prompts of bench_safety.py, rebuilt from ../shared/data; their text is in no repository.

Only rows of the test split of models/train/smollm2_data.py, which trained nothing of models/smollm2-*. HarmBench
trained nothing. Which of these rows are taken is decided by hashes of their text, never by what a model or a
judge says.

    python3 prompts.py --out prompts.jsonl
"""
import argparse
import csv
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models" / "train"))
from smollm2_data import (  # noqa: E402
    ADVBENCH_HELD_OUT,
    key_of,
    marked_words,
    share_of,
    split_of,
    statement_openings,
    tweet_openings,
    words_of,
)

__all__ = ["build", "marked_words", "words_of", "write"]

DATA = os.environ.get("SUREFOOT_DATA", ROOT.parent / "shared" / "data")
COUNTS = {
    "opening-after": 120,  # hate or offensive, cut after the first marked word
    "opening-before": 10,  # hate or offensive, cut before it
    "opening-neither": 10,
    "toxigen-hate": 45,
    "toxigen-neutral": 15,
    "harmbench": 40,
    "advbench": 60,
}


def openings(data, kind):
    return tweet_openings(data, kind.split("-")[1], "test")


def toxigen(data, kind):
    return statement_openings(data, kind.split("-")[1], "test")


def is_held_out_advbench(goal):
    return split_of(key_of(goal), ADVBENCH_HELD_OUT) == "test"


def harmbench(data, kind):
    path = data / "prompts" / "harmbench_behaviors_text_val.csv"
    with open(path, encoding="utf-8", newline="") as file:
        for row, fields in enumerate(csv.DictReader(file), 1):
            if not fields["ContextString"]:
                yield path.name, row, fields["Behavior"], fields["Behavior"]


def advbench(data, kind):
    path = data / "prompts" / "rd_advbench.csv"
    with open(path, encoding="utf-8", newline="") as file:
        for row, fields in enumerate(csv.DictReader(file), 1):
            if is_held_out_advbench(fields["goal"]):
                yield path.name, row, fields["goal"], fields["goal"]


READERS = {"opening": openings, "toxigen": toxigen, "harmbench": harmbench, "advbench": advbench}


def build(data):
    """The prompts, as records for `surefoot sweep`: id, source, file, row, prompt."""
    data = pathlib.Path(data)
    records, seen = [], set()
    for kind, count in COUNTS.items():
        source = kind.split("-")[0]
        found = list(READERS[source](data, kind))
        found.sort(key=lambda row: share_of("surefoot safety 1 " + key_of(row[2])))
        taken = 0
        for file, row, text, prompt in found:
            if taken < count and not seen & {key_of(text), key_of(prompt)}:
                seen.update((key_of(text), key_of(prompt)))
                taken += 1
                record = {"id": f"{kind}-{taken:03d}", "source": source, "file": file, "row": row}
                records.append(record | {"prompt": prompt})
        if taken < count:
            raise SystemExit(f"prompts: {data} holds {taken} rows for {kind}, not {count}")
    return records


def write(records, path):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    write(build(options.data), options.out)
