"""Trains the cost model of SmolLM2: a harm score after every token of an answer.

The label belongs to the whole text, so the loss is of the multiple-instance kind, as in train_cost.py:
S = sum of max(0, s_t), smoothed in training, exceeds 1 iff the text is unsafe, and every token of a safe
text is pushed below zero, so that cost appears where harm becomes evident. It is served with the stricter
SERVED_BUDGET."""

import argparse
import pathlib

import numpy
import torch
from torch.nn import functional

import smollm2_data
from common import Clock, adamw, cosine_lr, read_jsonl, seed_all, train_step, write_json
from smollm2 import ROOT, Scorer, States, encode, export, load_base, load_exported, load_tokenizer
from train_cost import DISCOUNT, figures_of, harm_loss

SEED = 21
END_WEIGHT = 0.4
SERVED_BUDGET = 0.3  # where the accuracy on the validation texts is highest: 0.935, at 1 0.925
PROFILE = {"role": "cost", "cost_mode": "token_sum_pos", "cost_eos": "none", "budget": SERVED_BUDGET,
           "discount": DISCOUNT, "cost_min": 0.0}
CONFIG = {"architectures": ["LlamaModelForScore"], "score_dim": 1, "score_bias": True, "bias": True,
          "score_type": "cost", "do_normalize": False}
# How often a training text is seen in an epoch; those of half are drawn.
COPIES = {("tweets", 0): 2, ("tweets", 1): 0.5, ("moderation", 0): 2, ("moderation", 1): 3,
          ("toxigen", 0): 3, ("toxigen", 1): 3, ("advbench", 1): 2}
# The shares of texts that each epoch sees, of sources that are not named all, and its rate beside --lr.
# "profane" are tweets whose label is harmless and whose words are not, by smollm2_data.Profanity.
LATER = {"tweets": 0.12, "profane": 0.12, "captions": 0.12, "truthful": 0.12, "samples": 0.12, "moderation": 0.7}
EPOCHS = [{"answers": 0}, LATER | {"answers": 0},
          {"tweets": 0.06, "profane": 0, "captions": 0.12, "truthful": 0.2, "samples": 0.3, "moderation": 0.3,
           "toxigen": 0.5, "advbench": 0.4}]
LATER_LR = 0.5
REQUESTS = ["Write a tweet.", "Say something about people.", "What do you think?", "Write a sentence.",
            "Tell me something.", "Write a short comment.", "What do people say about this?",
            "Write a post for social media.", "What is the capital of France?", "How do I bake bread?",
            "Tell me a joke.", "Write a story about a dog.", "Why is the sky blue?"]
FORMS = ["Complete the sentence: {}", "Continue: {}", "{}", "Finish this sentence: {}",
         "Complete this sentence: {}..."]
PREFIXES = ["Sure! ", "Here is a sentence: ", "A possible sentence: ", "Of course. ", '"', "I think: ",
            "Here's one way to say it: "]
REFUSALS = ["I'm sorry, but I can't help with that.", "I cannot help with this request.",
            "I'm not able to assist with that, because it could hurt someone.",
            "Sorry, I can't do that. It is illegal and dangerous.",
            "As an AI assistant I don't give advice on crimes.",
            "I can't write this. Harming people is wrong, whoever they are.",
            "No. That would be harmful, and I won't take part in it.",
            "I understand that you are curious, but I can't provide instructions for that.",
            "If you think of hurting yourself, please talk to someone you trust or call a helpline.",
            "It's not right to insult people for where they come from or what they believe."]
OPENINGS = ["Sure, here is a {} about {}:", "Here is a {} about {}:", "Here's a {} on {} for beginners:"]
WORKS = ["short story", "guide", "tutorial", "list of tips", "poem", "script", "plan", "letter"]


def placed(row, pool, rng):
    """(prompt, answer): the text behind its own prompt, as the rest of a sentence, or behind another's."""
    text, words = row["text"], row["text"].split()
    if "prompt" in row:
        return (row["prompt"] if rng.random() < 0.7 else rng.choice(pool)), text
    draw = rng.random()
    if draw < 0.25 and len(words) >= 8:
        cut = rng.randint(2, min(6, len(words) // 2))
        return rng.choice(FORMS).format(" ".join(words[:cut])), " ".join(words[cut:])
    if draw < 0.3 and len(words) >= 6:
        return rng.choice(FORMS).format(" ".join(words[:4])), text
    return (rng.choice(REQUESTS) if draw < 0.55 else rng.choice(pool)), text


def train_texts(rows, samples, answers, profanity, rng):
    """(prompt, answer, label, source) of all epochs."""
    safe = [s for s in samples if s["kind"] in ("topic", "question", "caption", "tweet0")]
    short = [s["text"] for s in safe if s["kind"] == "topic" and len(s["text"].split()) < 30]
    topics = [s["prompt"] for s in safe if s["kind"] == "topic"]
    attacks = [row["prompt"] for row in rows if row["source"] == "advbench"]
    pool = attacks + topics + [" ".join(row["text"].split()[:5]) for row in rows if row["source"] in ("tweets", "captions")]
    out = []
    for row in rows:
        copies, source = COPIES.get((row["source"], row["label"]), 1), row["source"]
        if source == "tweets" and not row["label"] and profanity(row["text"]) >= smollm2_data.UNSAFE_FROM:
            source = "profane"
        for _ in range(int(copies) if copies >= 1 else int(rng.random() < copies)):
            prompt, answer = placed(row, pool, rng)
            draw = rng.random()
            if draw < 0.1:
                answer = rng.choice(PREFIXES) + answer
            elif draw < 0.16:
                answer = f"{rng.choice(short)} {answer}"
            elif draw < 0.2:
                answer = f"{answer} {rng.choice(short)}"
            out.append((prompt, answer, row["label"], source))
    out += [(s["prompt"], s["text"], 0, "samples") for s in safe]
    out += [(rng.choice(attacks), rng.choice(REFUSALS), 0, "samples") for _ in range(400)]
    for _ in range(300):
        topic = rng.choice(topics).split()[-1].rstrip(".?")
        out.append((rng.choice(topics), rng.choice(OPENINGS).format(rng.choice(WORKS), topic), 0, "samples"))
    return out + [(answer["prompt"], answer["text"], answer["label"], "answers") for answer in answers]


@torch.no_grad()
def measure(scorer, states, labels, rng, chosen=None):
    """AUC of S and of the score at the end, and shares over budget by label, of the chosen texts."""
    scorer.eval()
    index = numpy.array(range(len(labels)) if chosen is None else chosen)
    sums, ends = numpy.zeros(len(labels)), numpy.zeros(len(labels))
    for batch in states.batches(4096, rng, index):
        mask, last = states.places(batch)
        scores = scorer(states.rows(batch))
        step = (mask.cumsum(1) - 1).clamp(min=0)
        sums[batch] = (scores.clamp(min=0) * mask * DISCOUNT**step).sum(1).numpy()
        ends[batch] = scores[torch.arange(len(batch)), last].numpy()
    scorer.train()
    return figures_of(sums[index], ends[index], numpy.asarray(labels)[index], SERVED_BUDGET)


def train(scorer, states, texts, epochs, args, rng, check):
    """Runs epochs, {number: indices of texts}, each with a cosine schedule of its own."""
    labels = torch.tensor([label for _, _, label, _ in texts], dtype=torch.float32)
    for epoch, chosen in epochs.items():
        optimizer = adamw(scorer, args.weight_decay)
        batches = states.batches(args.batch_tokens, rng, chosen)
        clock = Clock(len(batches))
        for step, batch in enumerate(batches):
            mask, last = states.places(batch)
            hidden = functional.dropout(states.rows(batch), args.dropout)
            loss = harm_loss(scorer(hidden), mask, last, labels[batch], END_WEIGHT)
            rate = cosine_lr(step / len(batches), args.lr * LATER_LR ** epoch)
            clock.tick(step, train_step(scorer, optimizer, loss, rate))
        print("validation", check(), flush=True)
        torch.save(scorer.trained(), args.work / "smollm2_cost.pt")


def choose_texts(texts, first, rng):
    """{number: indices of its texts} of the epochs from `first` on."""
    return {epoch: [i for i, (*_, source) in enumerate(texts) if rng.random() < EPOCHS[epoch].get(source, 1)]
            for epoch in range(first, len(EPOCHS))}


def held_out(rows, data, rng):
    """(prompt, answer, label, source) of the test split and of the sets that never train."""
    pool = [" ".join(row["text"].split()[:5]) for row in rows if row["source"] == "tweets"]
    out = [(*placed(row, pool, rng), row["label"], row["source"]) for row in rows if row["split"] == "test"]
    foreign = [*smollm2_data.hatecheck(data), *smollm2_data.xstest(data)]
    return out + [("Write a sentence.", row["text"], row["label"], row["source"]) for row in foreign]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--after", type=int, default=0, metavar="N", help="go on behind N epochs from smollm2-cost")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--export-only", action="store_true", help="export smollm2_cost.pt as it is")
    args = parser.parse_args()
    torch.set_num_threads(2)
    rng = seed_all(SEED)
    body, tokenizer = load_base().model, load_tokenizer()
    rows = list(smollm2_data.records(args.data))
    scorer = Scorer(body, bias=True)
    print(f"{sum(p.numel() for p in scorer.trained().values()) / 1e6:.2f} M parameters trained")
    if not args.export_only:
        valid = [row for row in rows if row["split"] == "valid"]
        pool = [" ".join(row["text"].split()[:5]) for row in valid if row["source"] == "tweets"]
        placed_valid = [placed(row, pool, rng) for row in valid]
        valid_states = States(body, [encode(tokenizer, *pair) for pair in placed_valid], args.work / "cost_valid.bin")
        valid_labels = [row["label"] for row in valid]
        samples = [s for s in read_jsonl(args.work / "samples.jsonl") if s["split"] == "train"]
        texts = train_texts([row for row in rows if row["split"] == "train"], samples,
                            read_jsonl(args.work / "answers.jsonl"), smollm2_data.Profanity(args.data), rng)
        if args.after:
            load_exported(ROOT / "smollm2-cost", scorer, "score_head")
        epochs = choose_texts(texts, args.after, rng)
        used = sorted(set().union(*epochs.values()))
        texts, place = [texts[i] for i in used], {text: i for i, text in enumerate(used)}
        epochs = {epoch: [place[i] for i in chosen] for epoch, chosen in epochs.items()}
        states = States(body, [encode(tokenizer, p, a) for p, a, *_ in texts], args.work / "cost_train.bin")
        print(f"{len(texts)} texts, {states.starts[-1]} tokens", flush=True)
        train(scorer, states, texts, epochs, args, rng,
              lambda: measure(scorer, valid_states, valid_labels, rng))
    scorer.load_state_dict(torch.load(args.work / "smollm2_cost.pt"), strict=False)
    export(ROOT / "smollm2-cost", scorer, "score_head", CONFIG, PROFILE)
    test = held_out(rows, args.data, rng)
    test_states = States(body, [encode(tokenizer, p, a) for p, a, *_ in test], args.work / "cost_test.bin")
    test_labels = [label for _, _, label, _ in test]
    sets = {s: [i for i, t in enumerate(test) if t[3] == s] for s in dict.fromkeys(t[3] for t in test)}
    figures = {name: measure(scorer, test_states, test_labels, rng, chosen) for name, chosen in sets.items()}
    for name, values in figures.items():
        print(name, values, flush=True)
    write_json(args.work / "smollm2_cost_metrics.json", figures)


if __name__ == "__main__":
    main()
