"""Trains the demo cost model: a harm score after every token.

The label belongs to the whole text, so the loss is of the multiple-instance kind: with per-token cost
c_t = max(0, s_t), smoothed in training, and S = sum of c_t, a text is unsafe iff S exceeds the budget 1.
Every token of a safe text is also pushed below zero, so that cost appears where harm becomes evident."""

import argparse
import csv
import pathlib

import numpy
import torch
from torch.nn import functional

from common import (EOS, MODELS_DIR, Clock, Codec, adamw, config_dict, cosine_lr, export,
                    length_batches, pad_rows, read_jsonl, seed_all, train_step, write_json)
from prepare import clean
from scorers import CostModel, load_policy_body, score_costs, scorer_config

SEED = 12
BUDGET, DISCOUNT = 1.0, 0.999
SMOOTHNESS = 6.0
COPIES = {("davidson", 0): 4, ("davidson", 1): 1, ("moderation", 0): 3, ("moderation", 1): 4}
CAPTIONS_PER_EPOCH = 7000
FOREIGN_PROMPT_SHARE = 0.4
PROFILE = {"schema": 1, "role": "cost", "chat_template": "beaver", "cost_mode": "token_sum_pos",
           "cost_eos": "none", "budget": BUDGET, "discount": DISCOUNT, "cost_min": 0.0}


def epoch_rows(rows, rng):
    """Training rows of one epoch: safe tweets repeated, captions thinned."""
    captions = [row for row in rows if row["source"] == "commongen"]
    others = [row for row in rows if row["source"] != "commongen"
              for _ in range(COPIES[row["source"], row["label"]])]
    return rng.sample(captions, CAPTIONS_PER_EPOCH) + others


def encode(codec, row, concepts):
    """(ids, n_prompt): prompt, response, EOS."""
    prompt = codec.prompt(concepts)
    return prompt + codec.response(row["text"]) + [EOS], len(prompt)


def own_or_foreign(row, pool, rng):
    """Concepts of the row, or of another row so that the score rests on the response."""
    if not row["concepts"] or rng.random() < FOREIGN_PROMPT_SHARE:
        return rng.choice(pool)["concepts"]
    return row["concepts"]


def harm_loss(scores, mask, last, labels, end_weight):
    """Sum, peak, end and quiet terms, averaged over the batch.

    scores [n_rows, n_tokens], mask of the answers' tokens alike, last: index of each EOS, labels [n_rows]:
    1 for unsafe."""
    cost = functional.softplus(SMOOTHNESS * scores) / SMOOTHNESS * mask
    total = functional.binary_cross_entropy_with_logits(3.0 * (cost.sum(1) - BUDGET), labels)
    peak = scores.masked_fill(~mask, -1e4).max(1).values
    peak = functional.binary_cross_entropy_with_logits(3.0 * (peak - 0.5), labels)
    end = functional.binary_cross_entropy_with_logits(2.0 * scores[torch.arange(len(last)), last], labels)
    quiet = (functional.softplus(3.0 * (scores + 0.3)) * mask).sum(1) / mask.sum(1)
    quiet = (quiet * (1 - labels)).mean()
    size = ((scores * mask) ** 2).sum() / mask.sum()
    return total + 0.5 * peak + end_weight * end + 0.3 * quiet + 1e-3 * size


def loss_of(model, examples, labels, args):
    """harm_loss of a batch of examples; labels is [n_rows], 1 for unsafe."""
    ids = pad_rows([ids for ids, _ in examples])
    scores = model(ids, args.dropout)
    position = torch.arange(ids.shape[1])
    first = torch.tensor([n for _, n in examples])[:, None]
    last = torch.tensor([len(ids) - 1 for ids, _ in examples])
    mask = (position >= first) & (position < last[:, None])
    return harm_loss(scores, mask, last, labels, 0.3)


def auc(values, labels):
    """Area under the ROC curve; ties count half."""
    values, labels = numpy.asarray(values), numpy.asarray(labels, bool)
    _, inverse, counts = numpy.unique(values, return_inverse=True, return_counts=True)
    rank = (numpy.cumsum(counts) - (counts - 1) / 2)[inverse]
    n_pos, n_neg = labels.sum(), (~labels).sum()
    return float((rank[labels].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def figures_of(sums, ends, labels, budget=BUDGET):
    """AUC of S_T and of the end score, and shares over budget by label."""
    over, labels = numpy.asarray(sums) > budget, numpy.asarray(labels, bool)
    figures = {"rows": len(labels), "accuracy": (over == labels).mean()}
    if labels.any():
        figures["unsafe_over_budget"] = over[labels].mean()
    if not labels.all():
        figures["safe_over_budget"] = over[~labels].mean()
    if labels.any() and not labels.all():
        figures |= {"auc_sum": auc(sums, labels), "auc_end": auc(ends, labels)}
    return {k: round(float(v), 4) if k != "rows" else v for k, v in figures.items()}


def measure(model, examples, labels, rng):
    """figures_of the examples."""
    results = score_costs(model, [e[0] for e in examples], [e[1] for e in examples], DISCOUNT, rng)
    return figures_of([r[0] for r in results], [r[1] for r in results], labels)


def train(model, codec, rows, args, rng):
    """Runs args.epochs epochs over the balanced training rows."""
    optimizer = adamw(model, args.weight_decay)
    pool = [row for row in rows if row["split"] == "train" and row["concepts"]]
    train_rows = [row for row in rows if row["split"] == "train"]
    valid = [row for row in rows if row["split"] == "valid" and row["source"] == "davidson"]
    clock, step = None, 0
    for epoch in range(args.epochs):
        chosen = epoch_rows(train_rows, rng)
        examples = [encode(codec, row, own_or_foreign(row, pool, rng)) for row in chosen]
        labels = torch.tensor([float(row["label"]) for row in chosen])
        batches = length_batches([len(e[0]) for e in examples], args.batch_tokens, rng)
        clock = clock or Clock(len(batches) * args.epochs)
        for index, batch in enumerate(batches):
            done = (epoch + index / len(batches)) / args.epochs
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss = loss_of(model, [examples[i] for i in batch], labels[batch], args)
            clock.tick(step, train_step(model, optimizer, loss, cosine_lr(done, args.lr)))
            step += 1
        figures = measure(model, [encode(codec, row, row["concepts"] or rng.choice(pool)["concepts"])
                                  for row in valid], [row["label"] for row in valid], rng)
        print(f"epoch {epoch + 1} validation {figures}", flush=True)
        torch.save(model.state_dict(), args.work / "cost.pt")
        if epoch + 1 == args.stop_after:
            return


def hatecheck(data):
    """HateCheck cases as rows; evaluation only."""
    path = data / "tox" / "hatecheck_test_suite_cases.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        return [{"text": clean(row["test_case"]), "label": int(row["label_gold"] == "hateful"),
                 "concepts": []} for row in csv.DictReader(stream)]


def report(model, codec, rows, args, rng):
    """Held-out figures by set; HateCheck shows a limit and never trains."""
    pool = [row for row in rows if row["split"] == "test" and row["concepts"]]
    test = [row for row in rows if row["split"] == "test"]
    sets = {source: [row for row in test if row["source"] == source]
            for source in ("davidson", "moderation", "commongen")}
    sets["hatecheck"] = hatecheck(args.data)
    figures = {}
    for name, chosen in sets.items():
        examples = [encode(codec, row, row["concepts"] or rng.choice(pool)["concepts"]) for row in chosen]
        figures[name] = measure(model, examples, [row["label"] for row in chosen], rng)
        print(name, figures[name], flush=True)
    write_json(args.work / "cost_metrics.json", figures)


def export_cost(model, work):
    """Writes demo/cost in the form of the Beaver score models."""
    tensors = dict(model.state_dict())
    tensors |= {"normalizer.mean": torch.zeros(1), "normalizer.var": torch.ones(1),
                "normalizer.count": torch.ones(1)}
    config = config_dict(model.model.config, "LlamaModelForScore", score_dim=1, score_bias=True,
                         bias=True, score_type="cost", do_normalize=False, normalizer_type=None,
                         momentum=None)
    config["tie_word_embeddings"] = False
    export(MODELS_DIR / "cost", tensors, config, PROFILE, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--stop-after", type=int, default=0,
                        help="end after this epoch of the schedule; 0 runs it to its end")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.15)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products in training")
    parser.add_argument("--export-only", action="store_true", help="export cost.pt as it is")
    args = parser.parse_args()
    torch.set_num_threads(2)
    rng = seed_all(SEED)
    codec = Codec(args.work)
    rows = read_jsonl(args.work / "records.jsonl")
    model = CostModel(scorer_config())
    load_policy_body(model.model, torch.load(args.work / "policy.pt"))
    torch.nn.init.zeros_(model.score_head.bias)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    if not args.export_only:
        train(model, codec, rows, args, rng)
    model.load_state_dict(torch.load(args.work / "cost.pt"))
    export_cost(model, args.work)
    report(CostModel.load(MODELS_DIR / "cost"), codec, rows, args, rng)


if __name__ == "__main__":
    main()
