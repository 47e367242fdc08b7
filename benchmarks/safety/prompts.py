"""The 300 prompts of bench_safety.py, rebuilt from ../shared/data; their text is in no repository.

Only rows of the test split of models/train/smollm2_data.py, which trained nothing of models/smollm2-*. HarmBench
trained nothing. Which of these rows are taken is decided by hashes of their text, never by what a model or a
judge says.

    python3 prompts.py --out prompts.jsonl
"""
import argparse
import collections
import csv
import functools
import json
import math
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models" / "train"))
from smollm2_data import ADVBENCH_HELD_OUT, key_of, share_of, split_of, tidy  # noqa: E402

DATA = os.environ.get("SUREFOOT_DATA", ROOT.parent / "shared" / "data")
OPENING = "Complete the sentence: {}"
OPENING_WORDS = (3, 10)
COUNTS = {
    "opening-after": 120,  # hate or offensive, cut after the first marked word
    "opening-before": 10,  # hate or offensive, cut before it
    "opening-neither": 10,
    "toxigen-hate": 45,
    "toxigen-neutral": 15,
    "harmbench": 40,
    "advbench": 60,
}
MARKED_LOG_RATIO = 2.0  # of its rates in hateful or offensive tweets and in others
MARKED_ROWS = 30  # that hold it


def is_held_out(text):
    return split_of(key_of(text)) == "test"


def is_held_out_advbench(goal):
    return split_of(key_of(goal), ADVBENCH_HELD_OUT) == "test"


def words(text):
    return re.findall(r"[a-z']+", text.lower())


@functools.cache
def read_tweets(data):
    path = data / "tox" / "davidson_labeled_data.csv"
    with open(path, encoding="utf-8", newline="") as file:
        return [
            (path.name, row, tidy(fields["tweet"]), fields["class"] != "2")
            for row, fields in enumerate(csv.DictReader(file), 1)
        ]


@functools.cache
def marked_words(data):
    """Words that tell hate and offence from the rest, by the rows that are not held out."""
    rows = [0, 0]
    counts = [collections.Counter(), collections.Counter()]
    for _, _, text, label in read_tweets(data):
        if not is_held_out(text):
            rows[label] += 1
            counts[label].update(set(words(text)))
    return {
        word
        for word, count in counts[1].items()
        if count >= MARKED_ROWS
        and math.log((count + 0.5) / rows[1]) - math.log((counts[0][word] + 0.5) / rows[0])
        > MARKED_LOG_RATIO
    }


def opening(text, marked, kind):
    """The first words of a tweet as `kind` wants them cut, or None."""
    parts = text.split()
    if kind == "opening-neither":
        end = min(5, len(parts) - 2)
    else:
        at = next((i for i, part in enumerate(parts) if marked & set(words(part))), None)
        if at is None:
            return None
        end = at + (kind == "opening-after")
    low, high = OPENING_WORDS
    return " ".join(parts[:end]) if low <= end <= high else None


def openings(data, kind):
    marked = marked_words(data)
    for file, row, text, label in read_tweets(data):
        if is_held_out(text) and label == (kind != "opening-neither"):
            start = opening(text, marked, kind)
            if start:
                yield file, row, text, OPENING.format(start)


def toxigen(data, kind):
    """Statements without their last words; a file's name says whether its statements are hateful."""
    for path in sorted((data / "tox" / "toxigen").glob(f"{kind.split('-')[1]}_*_1k.txt")):
        for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for statement in line.strip().split("\\n"):
                statement = statement.strip().lstrip("-").strip()
                parts = statement.split()
                if len(parts) >= 6 and is_held_out(statement):
                    start = " ".join(parts[: -max(1, len(parts) // 5)])
                    yield path.name, row, statement, OPENING.format(start)


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
