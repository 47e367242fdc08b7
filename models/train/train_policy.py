"""Trains the demo policy: concept words in, one short sentence out.

Cross-entropy on the response tokens and EOS only. Reports perplexity on the validation split after each
epoch and on the test split at the end, and writes policy.pt into --work after every epoch."""

import argparse
import math
import pathlib

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from common import (EOS, MODELS_DIR, Clock, Codec, adamw, config_dict, cosine_lr, export,
                    length_batches, llama_config, pad_rows, read_jsonl, seed_all, train_step, write_json)

SEED = 11
SAFE_TWEET_COPIES = 3
PROFILE = {"schema": 1, "role": "policy", "chat_template": "beaver"}


def policy_config():
    """Shape of the policy: 5.4 M parameters."""
    return llama_config(dim=256, n_layers=6, n_heads=8, n_kv_heads=4, hidden=688)


def select(rows, split):
    """Texts the policy learns from: captions and tweets with at least one concept."""
    return [row for row in rows
            if row["split"] == split and row["concepts"] and row["source"] != "moderation"]


def balance(rows):
    """Safe tweets are rare: each counts several times."""
    return [row for row in rows for _ in range(
        SAFE_TWEET_COPIES if row["source"] == "davidson" and row["label"] == 0 else 1)]


def encode(codec, row, rng):
    """(ids, n_prompt): prompt with its concepts in a random order, response, EOS."""
    concepts = rng.sample(row["concepts"], len(row["concepts"]))
    prompt = codec.prompt(concepts)
    return prompt + codec.response(row["text"]) + [EOS], len(prompt)


def batch_loss(model, examples, reduction):
    """Cross-entropy over response positions of [n_rows, n_tokens]; returns (loss, n_targets)."""
    ids = pad_rows([example[0] for example in examples])
    hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
    position = torch.arange(1, ids.shape[1])
    first = torch.tensor([example[1] for example in examples])[:, None]
    end = torch.tensor([len(example[0]) for example in examples])[:, None]
    mask = (position >= first) & (position < end)
    logits = model.lm_head(hidden[mask]).float()
    return functional.cross_entropy(logits, ids[:, 1:][mask], reduction=reduction), int(mask.sum())


@torch.no_grad()
def perplexity(model, examples, tokens_max, rng):
    """exp of the mean negative log-likelihood per response token, EOS included."""
    total, count = 0.0, 0
    for batch in length_batches([len(e[0]) for e in examples], tokens_max, rng):
        loss, n_targets = batch_loss(model, [examples[i] for i in batch], "sum")
        total, count = total + loss.item(), count + n_targets
    return math.exp(total / count)


def train(model, codec, rows, args, rng):
    """Runs args.epochs epochs; the order of concepts is drawn anew in each."""
    optimizer = adamw(model, args.weight_decay)
    pool = balance(select(rows, "train"))
    valid = [encode(codec, row, rng) for row in select(rows, "valid")]
    clock, step = None, 0
    for epoch in range(args.epochs):
        examples = [encode(codec, row, rng) for row in pool]
        batches = length_batches([len(e[0]) for e in examples], args.batch_tokens, rng)
        clock = clock or Clock(len(batches) * args.epochs)
        for index, batch in enumerate(batches):
            done = (epoch + index / len(batches)) / args.epochs
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss, _ = batch_loss(model, [examples[i] for i in batch], "mean")
            clock.tick(step, train_step(model, optimizer, loss, cosine_lr(done, args.lr)))
            step += 1
        print(f"epoch {epoch + 1} validation perplexity "
              f"{perplexity(model, valid, args.batch_tokens, rng):.2f}", flush=True)
        torch.save(model.state_dict(), args.work / "policy.pt")


def report(model, codec, rows, args, rng):
    """Held-out perplexity by source on the test split, from the weights as shipped."""
    result = {}
    test = select(rows, "test")
    for source in ("commongen", "davidson"):
        examples = [encode(codec, row, rng) for row in test if row["source"] == source]
        result[source] = round(perplexity(model, examples, args.batch_tokens, rng), 2)
    result["all"] = round(
        perplexity(model, [encode(codec, row, rng) for row in test], args.batch_tokens, rng), 2)
    print("test perplexity", result)
    write_json(args.work / "policy_metrics.json", result)


@torch.no_grad()
def sharpen(model, factor):
    """Multiplies all logits by factor, through the final norm: temperature 1 then is 1/factor before."""
    model.model.norm.weight *= factor


def export_policy(model, work):
    """Writes demo/policy."""
    tensors = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    directory = MODELS_DIR / "policy"
    export(directory, tensors, config_dict(model.config, "LlamaForCausalLM"), PROFILE, work)
    write_json(directory / "generation_config.json", {
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "do_sample": True,
        "temperature": 1.0, "top_p": 1.0, "top_k": 0})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--batch-tokens", type=int, default=2560)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products in training")
    parser.add_argument("--sharpen", type=float, default=1.0, help="factor on all logits at export")
    parser.add_argument("--export-only", action="store_true", help="export policy.pt as it is")
    args = parser.parse_args()
    torch.set_num_threads(2)
    rng = seed_all(SEED)
    codec = Codec(args.work)
    rows = read_jsonl(args.work / "records.jsonl")
    model = LlamaForCausalLM(policy_config())
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    if not args.export_only:
        train(model, codec, rows, args, rng)
    model.load_state_dict(torch.load(args.work / "policy.pt"))
    sharpen(model, args.sharpen)
    export_policy(model, args.work)
    model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    report(model, codec, rows, args, rng)


if __name__ == "__main__":
    main()
