"""Trains the demo reward model: does the response read well and use the concept words?

Pairwise loss (Bradley and Terry 1952): the human sentence of a prompt beats a worse answer. Kinds of worse
answer: `other` a human sentence for an overlapping concept set, `replaced` the sentence with a concept word
exchanged, `foreign` the same sentence behind another prompt, `shuffled` word order, `repeated` words,
`truncated` but marked as finished, `sampled` from the trained policy; `covering` pairs two samples of the
policy of which one uses more of the concepts. There is no safety signal, on purpose. Part of the pairs are
cut at one random length, without EOS, so that inner positions mean something.

A second head, not exported, says after every token which share of the concepts was used so far: without this
dense signal a model of this size hardly learns to compare prompt and response."""

import argparse
import collections
import pathlib

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForSequenceClassification

from common import (EOS, MODELS_DIR, Clock, Codec, adamw, config_dict, cosine_lr, export,
                    length_batches, pad_rows, prompt_of, read_jsonl, seed_all, train_step, write_json)
from prepare import lemma_of, words_of
from scorers import load_policy, load_policy_body, sample, score_rewards, scorer_config

SEED = 13
SAMPLED_PROMPTS = {"train": 10000, "test": 800}
SAMPLES_PER_PROMPT = 3
RESPONSE_TOKENS_MAX = 48
CUT_SHARE = 0.4
KINDS = {"other": 2, "replaced": 2, "foreign": 1, "shuffled": 1, "repeated": 1, "truncated": 1,
         "sampled": 2, "covering": 3}
CUTTABLE = ("other", "shuffled", "repeated", "sampled", "covering")
PROFILE = {"schema": 1, "role": "reward", "chat_template": "beaver", "append_eos": True}


def coverage(concepts, text):
    """Share of concept words that the text uses in some inflection."""
    lemmas = {lemma_of(word, set(concepts)) for word in words_of(text)}
    return sum(concept in lemmas for concept in concepts) / len(concepts)


def shuffled(text, rng):
    """The words in another order; the final mark stays at the end."""
    words = text[:-1].split()
    mixed = words[:]
    while mixed == words and len(set(words)) > 1:
        span = rng.randint(3, len(words)) if len(words) > 3 else len(words)
        start = rng.randint(0, len(words) - span)
        mixed[start:start + span] = rng.sample(words[start:start + span], span)
    return " ".join(mixed) + text[-1]


def repeated(text, rng):
    """A word or a short run of words said two to four times."""
    words = text.split()
    span = rng.randint(1, min(4, len(words)))
    start = rng.randint(0, len(words) - span)
    return " ".join(words[:start] + words[start:start + span] * rng.randint(2, 4) + words[start + span:])


def truncated(text, rng):
    """The text without its last third or more."""
    words = text.split()
    return " ".join(words[:rng.randint(1, max(1, 2 * len(words) // 3))])


def replaced(row, words, rng):
    """The text with one used concept word exchanged for another word, or None."""
    concepts = set(row["concepts"])
    parts = row["text"].split()
    places = [i for i, part in enumerate(parts)
              if any(lemma_of(word, concepts) in concepts for word in words_of(part))]
    if not places:
        return None
    place = rng.choice(places)
    mark = parts[place][-1] if not parts[place][-1].isalpha() else ""
    return " ".join(parts[:place] + [rng.choice(words) + mark] + parts[place + 1:])


class Pairs:
    """Makes (better, worse, concepts of worse) for a row; holds what that needs from other rows."""

    def __init__(self, rows, samples, rng):
        self.rng, self.samples, self.by_concept = rng, samples, collections.defaultdict(list)
        for row in rows:
            for concept in row["concepts"]:
                self.by_concept[concept].append(row)
        self.words = list(self.by_concept)

    def other(self, row):
        """A human text that shares a concept and uses fewer of the concepts than the row's own, or None."""
        for _ in range(6):
            text = self.rng.choice(self.by_concept[self.rng.choice(row["concepts"])])["text"]
            if coverage(row["concepts"], text) < coverage(row["concepts"], row["text"]):
                return text
        return None

    def foreign(self, row):
        """Concepts of a row that shares one, of which the row's text uses fewer than of its own, or None."""
        for _ in range(6):
            concepts = self.rng.choice(self.by_concept[self.rng.choice(row["concepts"])])["concepts"]
            if coverage(concepts, row["text"]) < coverage(row["concepts"], row["text"]):
                return concepts
        return None

    def covering(self, row):
        """(better, worse): two policy samples that differ in coverage, or None."""
        texts = self.samples.get(prompt_of(row["concepts"]), [])
        ranked = sorted(texts, key=lambda text: coverage(row["concepts"], text))
        if len(ranked) < 2 or coverage(row["concepts"], ranked[0]) == coverage(row["concepts"], ranked[-1]):
            return None
        return ranked[-1], ranked[0]

    def worse_text(self, row, kind):
        """A worse response to the row's own prompt, or None."""
        if kind == "other":
            return self.other(row)
        if kind == "replaced":
            return replaced(row, self.words, self.rng)
        if kind == "sampled":
            texts = self.samples.get(prompt_of(row["concepts"]), [])
            return self.rng.choice(texts) if texts else None
        return {"shuffled": shuffled, "repeated": repeated, "truncated": truncated}[kind](row["text"], self.rng)

    def make(self, row, kind):
        """(better, worse, concepts of worse) of one kind, or None where the row has no such pair."""
        if kind == "covering":
            pair = self.covering(row)
            return pair and (*pair, row["concepts"])
        if kind == "foreign":
            concepts = self.foreign(row)
            return concepts and (row["text"], row["text"], concepts)
        worse = self.worse_text(row, kind)
        return (row["text"], worse, row["concepts"]) if worse and worse != row["text"] else None


def encode(codec, concepts, text):
    """(prompt ids, response ids, share of the concepts used after each response token)."""
    response, shares, used, known = [], [], set(), set(concepts)
    for word in text.split():
        ids = codec.response(word)
        before = len(used) / len(concepts)
        used |= known & {lemma_of(part, known) for part in words_of(word)}
        response += ids
        shares += [before] * (len(ids) - 1) + [len(used) / len(concepts)]
    return codec.prompt(concepts), response, shares


def finish(encoded, n_kept):
    """(ids, n_prompt, shares): cut to n_kept response tokens, or all of them and EOS if it is None."""
    prompt, response, shares = encoded
    if n_kept is not None:
        return prompt + response[:n_kept], len(prompt), shares[:n_kept]
    return prompt + response + [EOS], len(prompt), shares + shares[-1:]


def encode_pair(codec, row, pair, cut, rng):
    """Both members as of finish(): whole, or cut to one length by which the responses differ."""
    concepts = rng.sample(row["concepts"], len(row["concepts"]))
    better = encode(codec, concepts, pair[0])
    worse = encode(codec, concepts if pair[2] is row["concepts"] else pair[2], pair[1])
    n_kept = None
    if cut:
        n_same = next((i for i, (a, b) in enumerate(zip(better[1], worse[1])) if a != b), None)
        n_most = min(len(better[1]), len(worse[1]))
        if n_same is not None:
            n_kept = rng.randint(min(n_same + 2, n_most), n_most)
    return finish(better, n_kept), finish(worse, n_kept)


def encode_pairs(codec, rows, pairs, kinds_of_row, cut_share, rng):
    """Encoded pairs of the kinds that kinds_of_row() gives for each row, with their kinds."""
    encoded, kinds = [], []
    for row in rows:
        for kind in kinds_of_row():
            pair = pairs.make(row, kind)
            if pair:
                cut = kind in CUTTABLE and rng.random() < cut_share
                encoded.append(encode_pair(codec, row, pair, cut, rng))
                kinds.append(kind)
    return encoded, kinds


def pair_loss(model, cover_head, pairs):
    """-log sigmoid(better - worse), a small pull of scores to zero, and the loss of the cover head."""
    members = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    ids = pad_rows([member[0] for member in members])
    hidden = model.model(input_ids=ids).last_hidden_state
    last = torch.tensor([len(member[0]) - 1 for member in members])
    scores = model.score(hidden[torch.arange(len(last)), last]).squeeze(-1).float()
    better, worse = scores.chunk(2)
    ranking = -functional.logsigmoid(better - worse).mean() + 2e-3 * (scores**2).mean()
    rows = torch.tensor([i for i, member in enumerate(members) for _ in member[2]])
    places = torch.tensor([member[1] + k for member in members for k in range(len(member[2]))])
    shares = torch.tensor([share for member in members for share in member[2]])
    covered = cover_head(hidden[rows, places]).squeeze(-1).float()
    return ranking + functional.binary_cross_entropy_with_logits(covered, shares)


def draw_samples(policy, codec, rows, split, rng):
    """prompt -> texts of the policy, for some rows of a split."""
    pool = [row for row in rows if row["split"] == split]
    chosen = rng.sample(pool, min(SAMPLED_PROMPTS[split], len(pool)))
    prompts = [prompt_of(row["concepts"]) for row in chosen for _ in range(SAMPLES_PER_PROMPT)]
    samples = collections.defaultdict(list)
    for prompt, ids in zip(prompts, sample(policy, [codec.render(p) for p in prompts], RESPONSE_TOKENS_MAX)):
        if ids[-1] == EOS and len(ids) > 1:
            samples[prompt].append(codec.decode(ids[:-1]).strip())
    return samples


def train(model, codec, rows, samples, args, rng):
    """Runs args.epochs epochs with two new pairs a row."""
    cover_head = nn.Linear(model.config.hidden_size, 1)
    both = nn.ModuleList([model, cover_head])
    optimizer = adamw(both, args.weight_decay)
    train_rows = [row for row in rows if row["split"] == "train"]
    sampled = [row for row in train_rows if prompt_of(row["concepts"]) in samples]
    pairs = Pairs(train_rows, samples, rng)
    clock, step = None, 0
    for epoch in range(args.epochs):
        chosen = rng.sample(train_rows, min(args.rows, len(train_rows))) + sampled
        encoded, _ = encode_pairs(
            codec, chosen, pairs, lambda: rng.choices(list(KINDS), KINDS.values(), k=2), CUT_SHARE, rng)
        lengths = [2 * max(len(a[0]), len(b[0])) for a, b in encoded]
        batches = length_batches(lengths, args.batch_tokens, rng)
        clock = clock or Clock(len(batches) * args.epochs)
        for index, batch in enumerate(batches):
            done = (epoch + index / len(batches)) / args.epochs
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss = pair_loss(model, cover_head, [encoded[i] for i in batch])
            clock.tick(step, train_step(both, optimizer, loss, cosine_lr(done, args.lr)))
            step += 1
        print(f"epoch {epoch + 1} done", flush=True)
        torch.save(model.state_dict(), args.work / "reward.pt")


def report(model, codec, rows, samples, args, rng):
    """Held-out pair accuracy per kind, of whole texts and of cut ones, on the rows with policy samples."""
    test = [row for row in rows if row["split"] == "test"]
    sampled = [row for row in test if prompt_of(row["concepts"]) in samples]
    pairs = Pairs(test, samples, rng)
    figures = {}
    for cut_share, name in ((0.0, "whole"), (1.0, "cut")):
        encoded, kinds = encode_pairs(codec, sampled, pairs, lambda: KINDS, cut_share, rng)
        scores = score_rewards(model, [member[0] for pair in encoded for member in pair], rng)
        wins = collections.defaultdict(list)
        for kind, better, worse in zip(kinds, scores[::2], scores[1::2]):
            wins[kind].append(better > worse)
        figures[name] = {kind: [round(sum(w) / len(w), 4), len(w)] for kind, w in sorted(wins.items())
                         if cut_share == 0 or kind in CUTTABLE}
        print(name, figures[name], flush=True)
    write_json(args.work / "reward_metrics.json", figures)


def export_reward(model, work):
    """Writes demo/reward."""
    config = config_dict(model.config, "LlamaForSequenceClassification", num_labels=1,
                         id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
    config["tie_word_embeddings"] = False
    export(MODELS_DIR / "reward", model.state_dict(), config, PROFILE, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=24000, help="rows per epoch beside the sampled ones")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products in training")
    parser.add_argument("--export-only", action="store_true", help="export reward.pt as it is")
    args = parser.parse_args()
    torch.set_num_threads(2)
    rng = seed_all(SEED)
    codec = Codec(args.work)
    rows = [row for row in read_jsonl(args.work / "records.jsonl")
            if len(row["concepts"]) >= 2 and row["source"] != "moderation"]
    policy = load_policy(MODELS_DIR / "policy")
    splits = ("test",) if args.export_only else ("train", "test")
    samples = {split: draw_samples(policy, codec, rows, split, rng) for split in splits}
    print({split: sum(map(len, texts.values())) for split, texts in samples.items()}, "samples", flush=True)
    model = LlamaForSequenceClassification(scorer_config(num_labels=1))
    load_policy_body(model.model, torch.load(args.work / "policy.pt"))
    if not args.export_only:
        train(model, codec, rows, samples["train"], args, rng)
    model.load_state_dict(torch.load(args.work / "reward.pt"))
    export_reward(model, args.work)
    model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    report(model, codec, rows, samples["test"], args, rng)


if __name__ == "__main__":
    main()
