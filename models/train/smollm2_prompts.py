"""Writes the prompts whose answers the SmolLM2 scorers train on, as JSON Lines for `surefoot sweep`; with
--collect, what the sweeps answered as samples.jsonl and, behind openings that draw unsafe text, as
answers.jsonl, labelled."""

import argparse
import collections
import json
import pathlib

import smollm2_data
from common import read_jsonl, seed_all, write_jsonl
from smollm2_cost import FORMS

SEED = 20
TASKS = ["Write a sentence with the words: {0}, {1}", "Write one sentence about {0} and {1}.", "Give me a tip about {0}.",
         "Explain {0} in one sentence.", "Tell me a fact about {0}.", "What is a {0}?", "Write a short story about a {0}.",
         "Why do people like {0}?", "Write a message to a friend about {0}."]
COUNTS = {"tweet0": 500, "tweet1": 500, "caption": 500, "question": 700, "moderation": 400, "topic": 900,
          "advbench": 300, "toxigen": 300}
UNSAFE_COUNTS = {"toxigen-hate": 400, "toxigen-neutral": 300, "tweets-after": 1300, "tweets-before": 150,
                 "tweets-neither": 250}
TEST_SHARE = 0.25
WORDS = 900


def opening(text, rng):
    """The first three to seven words, never all."""
    words = text.split()
    return " ".join(words[:rng.randint(3, min(7, len(words) - 3))])


def frequent_words(data):
    """The words that most of CommonGen's concept sets hold."""
    with open(data / "prompts/commongen/commongen.train.src_alpha.txt", encoding="utf-8") as stream:
        counts = collections.Counter(word for line in stream for word in line.split())
    return [word for word, _ in counts.most_common(WORDS)]


def prompts_of(rows, words, share, rng):
    """(kind, prompt) of one split."""
    def some(kind, source, label=None, least=0, most=10**6):
        found = [row for row in rows if row["source"] == source and label in (None, row["label"])
                 and least <= len(row["text"].split()) <= most]
        return rng.sample(found, min(int(COUNTS[kind] * share), len(found)))

    for kind, source, label in (("tweet0", "tweets", 0), ("tweet1", "tweets", 1), ("caption", "captions", 0)):
        for row in some(kind, source, label, least=7):
            yield kind, rng.choice(FORMS).format(opening(row["text"], rng))
    for row in some("toxigen", "toxigen", least=6):
        yield "toxigen", f"Complete the sentence: {opening(row['text'], rng)}"
    for row in some("moderation", "moderation", 0, least=4, most=40):
        yield "moderation", row["text"]
    for kind, source in (("question", "truthful"), ("advbench", "advbench")):
        for prompt in sorted({row["prompt"] for row in rows if row["source"] == source})[:int(COUNTS[kind] * share)]:
            yield kind, prompt
    for _ in range(int(COUNTS["topic"] * share)):
        yield "topic", rng.choice(TASKS).format(*rng.sample(words, 2))


def unsafe_prompts(data):
    """(kind, prompt) of the training split: beginnings of tweets and statements, as UNSAFE_COUNTS."""
    for kind, count in UNSAFE_COUNTS.items():
        source, cut = kind.split("-")
        openings = smollm2_data.tweet_openings if source == "tweets" else smollm2_data.statement_openings
        found = {smollm2_data.key_of(prompt): prompt for *_, prompt in openings(data, cut, "train")}
        for key in sorted(found, key=smollm2_data.share_of)[:count]:
            yield kind, found[key]


def collect(work, data):
    """samples.jsonl of the answers of the first two sweeps, answers.jsonl of those of the others."""
    rows = []
    for heat in ("cool", "hot"):
        for record in read_jsonl(work / f"answers_{heat}.jsonl"):
            rows.append({"prompt": record["input"]["prompt"], "text": record.get("text", "").strip(), "heat": heat,
                         "kind": record["input"]["kind"], "split": record["input"]["split"],
                         "finished": record["finish_reason"] == "eos"})
    write_jsonl(work / "samples.jsonl", rows)
    answers, profanity, marked = [], smollm2_data.Profanity(data), smollm2_data.marked_words(data)
    for path in (work / "answers_unsafe_1.jsonl", work / "answers_unsafe_2.jsonl"):
        for record in read_jsonl(path):
            given, text = record["input"], record.get("text", "").strip()
            label = smollm2_data.label_of_answer(given["kind"], given["prompt"], text, profanity, marked)
            if label is not None and len(smollm2_data.key_of(text)) >= 8:
                answers.append({"prompt": given["prompt"], "text": text, "kind": given["kind"], "label": label})
    write_jsonl(work / "answers.jsonl", answers)
    print(json.dumps({str(key): n for key, n in collections.Counter((a["kind"], a["label"]) for a in answers).items()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    if args.collect:
        collect(args.work, args.data)
        return
    rng = seed_all(SEED)
    rows, words, out = list(smollm2_data.records(args.data)), frequent_words(args.data), []
    for split, share in (("train", 1.0), ("test", TEST_SHARE)):
        for kind, prompt in prompts_of([row for row in rows if row["split"] == split], words, share, rng):
            out.append({"id": f"{kind}-{len(out):05d}", "prompt": prompt, "kind": kind, "split": split})
    write_jsonl(args.work / "smollm2_prompts.jsonl", out)
    write_jsonl(args.work / "smollm2_prompts_hot.jsonl", rng.sample(out, min(2200, len(out))))
    unsafe = [{"id": f"{kind}-{i:05d}", "prompt": prompt, "kind": kind}
              for i, (kind, prompt) in enumerate(unsafe_prompts(args.data))]
    write_jsonl(args.work / "smollm2_prompts_unsafe.jsonl", unsafe)
    print(json.dumps(collections.Counter(row["kind"] for row in out + unsafe)))


if __name__ == "__main__":
    main()
