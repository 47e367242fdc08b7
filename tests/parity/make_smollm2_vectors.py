"""Writes tests/vectors/gguf/smollm2.json: ids of prompts and what SmolLM2-135M-Instruct continues
them with greedily, by transformers on the weights that the `gguf` package dequantises, in float32.

    python tests/parity/make_smollm2_vectors.py SmolLM2-135M-Instruct.Q4_1.gguf

needs torch, transformers, tokenizers and gguf. transformers builds the tokenizer of such a file
without the Digits step that the model's own tokenizer.json has; it is put in here.
"""
import json
import os
import pathlib
import sys

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

STEPS = 64
CHATS = [
    "Write a sentence with the words: dog, park, run",
    "What is the capital of France?",
    "Explain photosynthesis to a child.",
    "List three colours.",
    "Translate to French: good morning",
    "What is 17 + 25?",
    "Give me a recipe for pancakes.",
    "Who wrote Romeo and Juliet?",
    "Why is the sky blue?",
    "Write a haiku about autumn.",
]
TEXTS = [
    "The history of the Roman Empire begins",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village by the sea,",
    "In 1969, the first humans",
    "The three most important inventions of the 20th century are:\n\n1.",
    "Water boils at 100 degrees",
    "Dear Sir or Madam,\n\nI am writing to",
    "import numpy as np\n\nx = np.",
    "A triangle with sides 3, 4 and 5",
    "  Two spaces, a tab\tand an emoji 🙂 ",
]


def main():
    path = pathlib.Path(sys.argv[1]).resolve()
    os.environ["HF_HUB_OFFLINE"] = "1"
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer])
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name,
                                                 dtype=torch.float32)
    model.eval()
    texts = list(TEXTS)
    for chat in CHATS:
        texts.append(tokenizer.apply_chat_template([{"role": "user", "content": chat}],
                                                   tokenize=False, add_generation_prompt=True))
    cases = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        out, cache, gap = [], None, float("inf")
        step = torch.tensor([ids])
        with torch.no_grad():
            for _ in range(STEPS):
                result = model(step, past_key_values=cache, use_cache=True)
                cache = result.past_key_values
                top = result.logits[0, -1].topk(2)
                gap = min(gap, float(top.values[0] - top.values[1]))
                out.append(int(top.indices[0]))
                step = torch.tensor([[out[-1]]])
        cases.append({"text": text, "ids": ids, "next": out, "gap": round(gap, 6)})
        print(f"{gap:.5f} {tokenizer.decode(out)!r}", flush=True)
    target = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "gguf" / "smollm2.json"
    target.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
