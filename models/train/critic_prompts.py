"""Prompts to train the demo policy's critic on: concept sets of the training split, none of which is in
models/demo/prompts.jsonl, in its shape and mixture. Reads what prepare.py wrote to --work.

    python models/train/critic_prompts.py --work demo-work
"""

import argparse
import json
import pathlib
import random

from common import read_jsonl, write_jsonl
from prepare import MODELS_DIR, PROMPTS_PER_SOURCE, SEED, SENSITIVE_WORDS, prompt_of

PER_PROMPT_SHIPPED = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    args = parser.parse_args()
    rng = random.Random(SEED)
    words = json.loads((args.work / "words.json").read_text())
    harmless = set(words) - set(SENSITIVE_WORDS)
    records = [row for row in read_jsonl(args.work / "records.jsonl")
               if row["split"] == "train" and len(row["concepts"]) >= 3
               and harmless.issuperset(row["concepts"])]
    held_out = {row["prompt"] for row in read_jsonl(MODELS_DIR / "prompts.jsonl")}
    prompts, seen = [], set()
    for source, shipped in PROMPTS_PER_SOURCE.items():
        pool = [row for row in records if row["source"] == source]
        rng.shuffle(pool)
        wanted = PER_PROMPT_SHIPPED * shipped
        for row in pool:
            concepts, prompt = frozenset(row["concepts"]), prompt_of(row["concepts"])
            if wanted == 0 or concepts in seen or prompt in held_out:
                continue
            seen.add(concepts)
            prompts.append({"prompt": prompt, "source": source})
            wanted -= 1
    rng.shuffle(prompts)
    write_jsonl(args.work / "critic_prompts.jsonl",
                [{"id": f"critic-{i:04d}", **row} for i, row in enumerate(prompts)])
    print(len(prompts), "prompts")


if __name__ == "__main__":
    main()
