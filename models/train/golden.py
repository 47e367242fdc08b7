"""Computes the golden vectors of the demo models with transformers, in float32 from the shipped weights.

Texts that the policy makes up are given as ids only, because some are offensive."""

import argparse
import json
import pathlib

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel

from common import EOS, MODELS_DIR, TEMPLATE, read_jsonl, seed_all
from scorers import sample

SEED = 15
GREEDY_STEPS = 24
GREEDY_PROMPTS = 4
SAMPLED_PROMPTS = 64
TOP = 5
SAFE_RESPONSES = (" a dog runs in the park.", " the man is riding a horse on the beach.",
                  " i like to eat pizza with my friends!")
TOKENIZER_TEXTS = (
    "", " ", "a", " a", "  two  spaces ", "the dog runs in the park.", " The Dog RUNS.", "don't can't we'll i'm",
    "1234567890 3.14", "tab\tand\nnewline\r\n", "caf\u00e9 na\u00efve \u00fcber", "\u4f60\u597d\u4e16\u754c",
    "\U0001f600 \U0001f44d\U0001f3fd", "!!!???...", "<s> </s> <pad>", "a<s>b</s>",
    "https://example.org/?q=1&x=y", "   leading and trailing   ", "BEGINNING OF CONVERSATION: USER: hi ASSISTANT: ok",
    TEMPLATE.format(prompt="Write a sentence with the words: dog, park, run") + SAFE_RESPONSES[0])


def header(model):
    """What a golden file says about its origin."""
    return {"model": f"models/demo/{model}", "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0], "dtype": "float32, weights upcast from float16"}


def write_cases(path, header_fields, cases):
    """Writes the header and one case a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps(header_fields)[:-1]
    body = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f'{head}, "cases": [\n{body}\n]}}\n', encoding="utf-8")


def rounded(value):
    """A logit or score with six digits after the point."""
    return round(float(value), 6)


def greedy_case(model, prompt_ids):
    """Greedy continuation with the top logits of every step; stops after EOS."""
    ids, steps = list(prompt_ids), []
    while len(steps) < GREEDY_STEPS and (not steps or steps[-1]["id"] != EOS):
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        values, indices = logits.topk(TOP)
        ids.append(int(indices[0]))
        steps.append({"id": ids[-1], "top": [[int(i), rounded(v)] for i, v in zip(indices, values)]})
    return {"prompt_ids": prompt_ids, "next_ids": [s["id"] for s in steps], "steps": [s["top"] for s in steps]}


def load_cost():
    """(body, head weight [1, dim], head bias [1]) of the cost model, all float32."""
    body = LlamaModel.from_pretrained(MODELS_DIR / "cost", dtype=torch.float32).eval()
    state = load_file(str(MODELS_DIR / "cost" / "model.safetensors"))
    body.load_state_dict({k.removeprefix("model."): v.float() for k, v in state.items()
                          if k.startswith("model.")})
    return body, state["score_head.weight"].float(), state["score_head.bias"].float()


def cost_scores(cost, ids):
    """Score at every position of ids."""
    body, weight, bias = cost
    hidden = body(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return (hidden @ weight.T + bias)[:, 0].tolist()


def most_costly(cost, policy, heads):
    """One policy sample for each prompt of heads: (index of the prompt, response ids) of the highest cost sum."""
    responses = sample(policy, heads, GREEDY_STEPS * 2)
    finished = [i for i, response in enumerate(responses) if response[-1] == EOS]
    worst = max(finished, key=lambda i: sum(
        max(0.0, s) for s in cost_scores(cost, heads[i] + responses[i])[len(heads[i]):-1]))
    return worst, responses[worst]


def text_cases(tokenizer, prompts):
    """(prompt row, prompt ids, response ids with EOS) of harmless written responses."""
    for row, response in zip(prompts, SAFE_RESPONSES):
        head = tokenizer(TEMPLATE.format(prompt=row["prompt"]))["input_ids"]
        yield row, head, tokenizer(response, add_special_tokens=False)["input_ids"] + [EOS]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path,
                        default=MODELS_DIR.parent.parent / "tests" / "vectors" / "demo")
    args = parser.parse_args()
    seed_all(SEED)
    tokenizer = AutoTokenizer.from_pretrained(MODELS_DIR / "policy")
    policy = LlamaForCausalLM.from_pretrained(MODELS_DIR / "policy", dtype=torch.float32).eval()
    reward = LlamaForSequenceClassification.from_pretrained(MODELS_DIR / "reward", dtype=torch.float32).eval()
    cost = load_cost()
    prompts = read_jsonl(MODELS_DIR / "prompts.jsonl")[:SAMPLED_PROMPTS]
    heads = [tokenizer(TEMPLATE.format(prompt=row["prompt"]))["input_ids"] for row in prompts]
    cases = list(text_cases(tokenizer, prompts))
    worst, response = most_costly(cost, policy, heads)
    cases.append((prompts[worst], heads[worst], response))
    write_cases(args.out / "policy.json", header("policy"), [
        {"prompt_id": row["id"]} | greedy_case(policy, head)
        for row, head in list(zip(prompts, heads))[:GREEDY_PROMPTS]])
    write_cases(args.out / "cost.json", header("cost"), [
        {"prompt_id": row["id"], "n_prompt": len(head), "ids": head + tail,
         "scores": [rounded(s) for s in cost_scores(cost, head + tail)]}
        for row, head, tail in cases])
    write_cases(args.out / "reward.json", header("reward"), [
        {"prompt_id": row["id"], "n_prompt": len(head), "ids": head + tail,
         "score": rounded(reward(input_ids=torch.tensor([head + tail])).logits[0, 0])}
        for row, head, tail in cases])
    write_cases(args.out / "tokenizer.json", header("policy"), [
        {"text": text, "ids": tokenizer(text)["input_ids"], "has_special": "<s>" in text or "</s>" in text}
        for text in TOKENIZER_TEXTS])


if __name__ == "__main__":
    main()
