"""Texts of the SmolLM2 scorers: labelled sets, their splits, and the prompts that their texts stand behind.

Splits go by the text in lower-case letters and digits (by the prompt where several texts share one), so
that a held-out text or prompt is nowhere in training. Licence-clean sets only, see MODEL_CARD.md."""

import csv
import gzip
import hashlib
import html
import json
import re

ADVBENCH_HELD_OUT = 0.5  # it is also an attack set
FLAGS = ("S", "H", "V", "HR", "SH", "H2", "V2")


def tidy(text):
    """A tweet in ASCII without links, names, marks of retweets and doubled punctuation."""
    text = html.unescape(html.unescape(text))
    text = text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x23: " "})
    text = re.sub(r"https?:?\S*|www\.\S+|\bt\.co\S*", " ", text)
    text = re.sub(r"\bRT\b\s*:?|\bMT\b\s*:?", " ", text)
    text = re.sub(r"@\s?\w+:?", " ", text)
    text = re.sub(r"([!?.,])\1+", r"\1", re.sub(r"[^\x20-\x7e]", " ", text))
    return re.sub(r"\s+", " ", text).strip(" -:;\"'")


def sentence(text):
    """With a capital first and a stop last."""
    return text[0].upper() + text[1:].rstrip(" .") + ("" if text[-1] in "!?" else ".")


def key_of(text):
    """What counts for equality: lower-case letters and digits."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def share_of(key):
    """A number of [0, 1) that depends on the key alone."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32


def split_of(key, test=0.12):
    """test, valid or train."""
    share = share_of(key)
    return "test" if share < test else "valid" if share < test + 0.03 else "train"


def tweets(data):
    with open(data / "tox/davidson_labeled_data.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield {"text": tidy(row["tweet"]), "label": int(row["class"] != "2"), "source": "tweets"}


def moderation(data):
    with gzip.open(data / "tox/openai_moderation_samples.jsonl.gz", "rt", encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            yield {"text": re.sub(r"\s+", " ", row["prompt"]).strip(), "source": "moderation",
                   "label": int(any(row.get(flag) == 1 for flag in FLAGS))}


def toxigen(data):
    """Its lines are made of few statements: each counts once."""
    seen = {}
    for path in sorted((data / "tox/toxigen").iterdir()):
        for line in path.read_text(encoding="utf-8").splitlines():
            for statement in line.split("\\n"):
                statement = statement.strip().lstrip("-").strip()
                if statement:
                    seen[statement] = int(path.name.startswith("hate"))
    for statement, label in seen.items():
        yield {"text": sentence(statement), "label": label, "source": "toxigen"}


def advbench(data):
    """The opening of a harmful answer, behind its prompt."""
    with open(data / "prompts/rd_advbench.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield {"text": row["target"] + ":", "label": 1, "source": "advbench", "prompt": row["goal"],
                   "split": split_of(key_of(row["goal"]), ADVBENCH_HELD_OUT)}


def captions(data):
    """A tenth of CommonGen's distinct training sentences."""
    seen = set()
    for line in open(data / "prompts/commongen/commongen.train.tgt.txt", encoding="utf-8"):
        if key_of(line) not in seen and share_of("caption" + line.strip()) < 0.1 and len(line.split()) > 5:
            seen.add(key_of(line))
            yield {"text": sentence(line.strip()), "label": 0, "source": "captions"}


def truthful(data):
    """Correct answers behind their questions."""
    with open(data / "pref/TruthfulQA.csv", encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            answers = [row["Best Answer"], *row["Correct Answers"].split(";")[:2]]
            for answer in dict.fromkeys(map(str.strip, answers)):
                if len(answer.split()) > 4:
                    yield {"text": sentence(answer), "label": 0, "source": "truthful", "prompt": row["Question"],
                           "split": split_of(key_of(row["Question"]))}


def hatecheck(data):
    """Evaluation only."""
    with open(data / "tox/hatecheck_test_suite_cases.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield {"text": row["test_case"], "label": int(row["label_gold"] == "hateful"), "source": "hatecheck"}


def xstest(data):
    """Its prompts as texts, unsafe ones and safe ones that look like them. Evaluation only."""
    with open(data / "prompts/xstest_prompts.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield {"text": row["prompt"], "label": int(row["label"] == "unsafe"), "source": "xstest"}


def records(data):
    """All labelled texts, each once: text, label (1 unsafe), source, split, maybe prompt."""
    seen = set()
    for source in (tweets, moderation, toxigen, advbench, captions, truthful):
        for row in source(data):
            key = key_of(row["text"]) + key_of(row.get("prompt", ""))
            if len(key) >= 8 and key not in seen:
                seen.add(key)
                yield {"split": split_of(key_of(row["text"])), **row}
