"""Trains the reward model of SmolLM2: how well an answer does the task of its prompt. No safety signal.

An answer of the policy (or a human's, to a sentence opening) is to beat spoilt ones: another prompt's
(foreign), itself with another's second half (off-topic), with a repeated phrase, cut short, with its words
shuffled, and a sample at a high temperature (wild). Pairwise loss (Bradley and Terry 1952) at the end of
both and, where the beginning shows the difference, at one place inside."""

import argparse
import collections
import gzip
import json
import pathlib

import torch
from torch.nn import functional

import smollm2_data
from common import Clock, adamw, cosine_lr, length_batches, read_jsonl, seed_all, train_step, write_json
from smollm2 import ROOT, Scorer, States, encode, export, load_base, load_tokenizer
from smollm2_cost import FORMS

SEED = 22
PROFILE = {"role": "reward", "append_eos": True, "pooling": "last"}
CONFIG = {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}
CUTTABLE = {"foreign", "shuffled", "wild"}
TWEETS = {"train": 1200, "test": 150}
UNFINISHED_SHARE, TEST_GROUPS, HH_PAIRS = 0.25, 500, 600


def foreign(text, others, rng):
    """Another prompt's answer."""
    return rng.choice(others)


def off_topic(text, others, rng):
    """The first half, then another answer's second."""
    words, other = text.split(), rng.choice(others).split()
    if len(words) < 6 or len(other) < 6:
        return None
    return " ".join(words[:len(words) // 2] + other[len(other) // 2:])


def repeated(text, others, rng):
    """A phrase inside or the end said again, once to four times."""
    words = text.split()
    if len(words) < 4:
        return None
    size = rng.randint(1, min(8, len(words) - 1))
    start = rng.randint(0, len(words) - size)
    return " ".join(words[:start + size] + words[start:start + size] * rng.randint(1, 4) + words[start + size:])


def truncated(text, others, rng):
    """Its beginning."""
    words = text.split()
    if len(words) < 4:
        return None
    return " ".join(words[:rng.randint(1, len(words) - 1 - len(words) // 8)]).rstrip(".!?,")


def shuffled(text, others, rng):
    """Its words in another order, all or a stretch of at least four."""
    words = text.split()
    if len(set(words)) < 4:
        return None
    start = rng.randint(0, len(words) - 4)
    stop = rng.randint(start + 4, len(words))
    part = words[start:stop]
    while part == words[start:stop]:
        rng.shuffle(part)
        if len(set(part)) == 1:
            return None
    return " ".join(words[:start] + part + words[stop:])


SPOILT = {"foreign": foreign, "off-topic": off_topic, "repeated": repeated, "truncated": truncated, "shuffled": shuffled}


def answers(samples, rows, split, rng):
    """Good answers of a split: prompt, text, finished, wild ones."""
    wild = collections.defaultdict(list)
    for sample in samples:
        if sample["heat"] == "hot" and sample["text"]:
            wild[sample["prompt"]].append(sample["text"])
    out = [{**s, "wild": wild[s["prompt"]]} for s in samples
           if s["heat"] == "cool" and s["split"] == split and len(s["text"].split()) >= 3
           and (s["finished"] or rng.random() < UNFINISHED_SHARE)]
    tweets = [row["text"].split() for row in rows if row["source"] == "tweets" and row["split"] == split]
    for words in rng.sample([words for words in tweets if len(words) >= 9], TWEETS[split]):
        cut = rng.randint(3, min(6, len(words) - 5))
        whole = rng.random() < 0.3
        out.append({"prompt": rng.choice(FORMS).format(" ".join(words[:cut])), "kind": "human", "finished": True,
                    "text": " ".join(words if whole else words[cut:]), "wild": []})
    return out


def groups(good, kinds_of_row, rng):
    """(prompt, good text, finished, [(kind, worse text)]) of each answer that can be spoilt."""
    texts = [row["text"] for row in good]
    for row in good:
        worse = []
        for kind in kinds_of_row(row):
            if kind == "truncated" and not row["finished"]:
                continue
            if kind == "wild":
                text = rng.choice(row["wild"]) if row["wild"] else None
            else:
                text = SPOILT[kind](row["text"], texts, rng)
            if text and text != row["text"]:
                worse.append((kind, text))
        if worse:
            yield row["prompt"], row["text"], row["finished"], worse


def encoded(tokenizer, prompt, good, finished, worse, rng):
    """Encoded texts, the good one first. An answer that the limit cut has no EOS, nor have its rivals."""
    out = []
    for kind, text in [("good", good), *worse]:
        ids, first = encode(tokenizer, prompt, text)
        ended = finished and not (kind == "truncated" and rng.random() < 0.5)
        out.append((ids if ended else ids[:-1], first))
    return out


class Groups:
    """Groups of texts with their states."""

    def __init__(self, body, tokenizer, made, path, rng):
        self.members, self.kinds, texts = [], [], []
        for prompt, good, finished, worse in made:
            self.members.append(range(len(texts), len(texts) + 1 + len(worse)))
            self.kinds.append([kind for kind, _ in worse])
            texts += encoded(tokenizer, prompt, good, finished, worse, rng)
        self.states = States(body, texts, path)

    def batches(self, tokens_max, rng):
        """Lists of groups."""
        sizes = [len(m) * max(len(self.states.texts[i][0]) for i in m) for m in self.members]
        return length_batches(sizes, tokens_max, rng)

    def scores(self, scorer, batch):
        """For each group: (kind, good score, worse score) at the ends, and the score rows with their texts."""
        index = [i for group in batch for i in self.members[group]]
        scores = scorer(self.states.rows(index))
        last = torch.tensor([len(self.states.texts[i][0]) - 1 for i in index])
        ends, at = scores[torch.arange(len(index)), last], 0
        pairs = []
        for group in batch:
            pairs += [(kind, at, at + 1 + k) for k, kind in enumerate(self.kinds[group])]
            at += len(self.members[group])
        return index, scores, ends, pairs


def loss_of(scorer, data, batch, rng):
    """-log sigmoid(better - worse) at the ends and inside, and a small pull of scores to zero."""
    index, scores, ends, pairs = data.scores(scorer, batch)
    texts = [data.states.texts[i] for i in index]
    better, worse = (torch.tensor([pair[k] for pair in pairs]) for k in (1, 2))
    loss = -functional.logsigmoid(ends[better] - ends[worse]).mean() + 3e-3 * (ends**2).mean()
    places = []
    for kind, a, b in pairs:
        room = min(len(texts[a][0]) - texts[a][1], len(texts[b][0]) - texts[b][1]) - 1
        if kind in CUTTABLE and room > 2:
            step = rng.randint(2, room - 1)
            places.append((a, texts[a][1] + step, b, texts[b][1] + step))
    if places:
        a, i, b, j = torch.tensor(places).T
        loss = loss - 0.5 * functional.logsigmoid(scores[a, i] - scores[b, j]).mean()
    return loss


@torch.no_grad()
def measure(scorer, data, rng):
    """Share of pairs ranked rightly, by kind and of all."""
    scorer.eval()
    wins = collections.defaultdict(list)
    for batch in data.batches(4096, rng):
        _, _, ends, pairs = data.scores(scorer, batch)
        for kind, a, b in pairs:
            wins[kind].append(float(ends[a] > ends[b]))
    scorer.train()
    spoilt = [win for kind, values in wins.items() if kind in SPOILT for win in values]
    wins |= {"own task": spoilt} if spoilt else {}
    return {kind: [round(sum(won) / len(won), 4), len(won)] for kind, won in sorted(wins.items())}


def last_turns(data):
    """(last question, chosen, rejected) of the hh-rlhf pairs; evaluation only."""
    with gzip.open(data / "pref/hh_harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            good, bad = (row[side].rsplit("\n\nAssistant:", 1) for side in ("chosen", "rejected"))
            if good[0] == bad[0] and good[1].strip() and bad[1].strip():
                yield good[0].rsplit("\n\nHuman:", 1)[-1].strip(), good[1].strip(), bad[1].strip()


def train(scorer, data, check, args, rng):
    """Runs args.epochs over the groups."""
    optimizer = adamw(scorer, args.weight_decay)
    clock, step = None, 0
    for epoch in range(args.epochs):
        batches = data.batches(args.batch_tokens, rng)
        clock = clock or Clock(len(batches) * args.epochs)
        for index, batch in enumerate(batches):
            done = (epoch + index / len(batches)) / args.epochs
            clock.tick(step, train_step(scorer, optimizer, loss_of(scorer, data, batch, rng), cosine_lr(done, args.lr)))
            step += 1
        print("epoch", epoch + 1, check(), flush=True)
        torch.save(scorer.trained(), args.work / "smollm2_reward.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--worse", type=int, default=2, help="spoilt answers beside a good one")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--export-only", action="store_true", help="export smollm2_reward.pt as it is")
    args = parser.parse_args()
    torch.set_num_threads(2)
    rng = seed_all(SEED)
    body, tokenizer = load_base().model, load_tokenizer()
    rows = list(smollm2_data.records(args.data))
    samples = read_jsonl(args.work / "samples.jsonl")
    scorer = Scorer(body, bias=False)
    held_out = answers(samples, rows, "test", rng)
    held_out = rng.sample(held_out, min(TEST_GROUPS, len(held_out)))
    test = Groups(body, tokenizer, groups(held_out, lambda row: [*SPOILT, "wild"], rng), args.work / "reward_test.bin", rng)
    if not args.export_only:
        kinds = lambda row: rng.sample([*SPOILT, *["wild"] * bool(row["wild"])], args.worse)
        data = Groups(body, tokenizer, groups(answers(samples, rows, "train", rng), kinds, rng),
                      args.work / "reward_train.bin", rng)
        print(f"{len(data.members)} groups, {data.states.starts[-1]} tokens", flush=True)
        train(scorer, data, lambda: measure(scorer, test, rng), args, rng)
    scorer.load_state_dict(torch.load(args.work / "smollm2_reward.pt"), strict=False)
    export(ROOT / "smollm2-reward", scorer, "score", CONFIG, PROFILE)
    pairs = rng.sample(list(last_turns(args.data)), HH_PAIRS)
    hh = Groups(body, tokenizer, [(prompt, good, True, [("hh-rlhf", bad)]) for prompt, good, bad in pairs],
                args.work / "reward_hh.bin", rng)
    figures = measure(scorer, test, rng) | measure(scorer, hh, rng)
    print(figures)
    write_json(args.work / "smollm2_reward_metrics.json", figures)


if __name__ == "__main__":
    main()
