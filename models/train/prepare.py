"""Cleans the text, splits it, trains the tokenizer and picks the evaluation prompts.

Writes into --work: records.jsonl (one row a text: concepts, text, label, source, split), words.json,
tokenizer.json, tokenizer_config.json; and demo/prompts.jsonl. Label 1 is unsafe, 0 is safe. Nothing of
the data is printed but counts."""

import argparse
import collections
import csv
import gzip
import hashlib
import html
import json
import math
import pathlib
import random
import re

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from common import MODELS_DIR, TEMPLATE, VOCAB_SIZE, prompt_of, write_json, write_jsonl

SEED = 7
WORDS_MIN, WORDS_MAX = 4, 25
MODERATION_WORDS_MAX = 60
VALID_SHARE, TEST_SHARE = 0.03, 0.12
PROMPTS_PER_SOURCE = {"commongen": 330, "davidson": 390}
FUNCTION_WORDS = set("""a about after all also am an and any are as at back be because been before being but
by can cant could did didnt do does doesnt dont done down even ever every for from get gets go got had has
have he her here him his how i if ill im in into is isnt it its ive just know let like lol make me more most
my never no not now of off on one only or other our out over really rt said same say see she should so some
still such than that thats the their them then there these they theyre this those through to too two u
under until up ur us very want was way we well were what when where which while who why will with would yes
yet you your youre much many gonna gotta aint bout cause cuz tho though via amp lmao lmfao omg need tell
think thing things something someone let lets always again around another away both each own new old""".split())
SENSITIVE_WORDS = set("slave drug weed gay lesbian sexy female muslim islamic jewish weapon gun naked nude".split())
QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-",
                        "\u2014": "-", "\u2026": "...", "\u00a0": " "})


def clean(text):
    """Lower-case ASCII text with one space between words; no links, account names, entities, emoji codes."""
    text = html.unescape(html.unescape(text)).translate(QUOTES)
    text = re.sub(r"https?:?\S*|www\.\S+|\bt\.co\S*", " ", text)
    text = re.sub(r"\bRT\b\s*:?|\bMT\b\s*:?", " ", text)
    text = re.sub(r"@\s?\w+:?", " ", text)
    text = text.replace("#", " ").replace("\\n", " ")
    text = re.sub(r"[^\x20-\x7e]", " ", text).lower()
    text = re.sub(r"[*_~^|<>\[\]{}=+\\\"`()]", " ", text)
    text = re.sub(r"([!?.,])\1+", r"\1", text)
    text = re.sub(r"(\w)\1{3,}", r"\1\1", text)
    text = re.sub(r"\s+([.,!?;:%])", r"\1", text)
    text = re.sub(r"&", "and", text)
    return re.sub(r"\s+", " ", text).strip(" -:;,/.'!?") + terminal(text)


def terminal(text):
    """The closing mark of a text: its own ! or ?, else a full stop."""
    tail = text.rstrip()[-1:]
    return tail if tail in ("!", "?") else "."


def key_of(text):
    """Lower-case letters and digits only: the form in which two texts are the same."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def split_of(key):
    """train, valid or test, fixed by a hash of the key."""
    place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2.0**32
    if place < TEST_SHARE:
        return "test"
    return "valid" if place < TEST_SHARE + VALID_SHARE else "train"


def words_of(text):
    """Words of a cleaned text, apostrophes dropped."""
    return re.findall(r"[a-z]+", text.replace("'", ""))


def read_captions(data):
    """CommonGen training pairs: concepts in the order of the file and their caption."""
    folder = data / "prompts" / "commongen"
    concepts = (folder / "commongen.train.src_alpha.txt").read_text(encoding="utf-8").split("\n")
    captions = (folder / "commongen.train.tgt.txt").read_text(encoding="utf-8").split("\n")
    for words, caption in zip(concepts, captions):
        text = clean(caption)
        if words and WORDS_MIN <= len(text.split()) <= WORDS_MAX:
            yield {"concepts": words.split(), "text": text, "label": 0, "source": "commongen"}


def read_tweets(data):
    """Labelled tweets: hate or offensive is unsafe."""
    with open(data / "tox" / "davidson_labeled_data.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            text = clean(row["tweet"])
            if WORDS_MIN <= len(text.split()) <= WORDS_MAX:
                label = 0 if row["class"] == "2" else 1
                yield {"concepts": [], "text": text, "label": label, "source": "davidson"}


def read_moderation(data):
    """Short moderation samples: unsafe if any category is 1."""
    with gzip.open(data / "tox" / "openai_moderation_samples.jsonl.gz", "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            text = clean(row["prompt"])
            if 2 <= len(text.split()) <= MODERATION_WORDS_MAX:
                label = int(any(row.get(k) == 1 for k in ("S", "H", "V", "HR", "SH", "H2", "V2")))
                yield {"concepts": [], "text": text, "label": label, "source": "moderation"}


def profane_words(data):
    """Words whose mean coefficient in the linear profanity classifier is positive enough."""
    words = set()
    with open(data / "weights" / "profanity_linear.tsv", encoding="utf-8") as stream:
        for line in stream:
            if not line.startswith("#"):
                word, *values = line.rstrip("\n").split("\t")
                if sum(map(float, values)) / len(values) > 0.25:
                    words.add(word)
    return words


def charged_words(tweets):
    """Words at least three times as frequent in unsafe tweets as in safe ones."""
    counts = [collections.Counter(), collections.Counter()]
    totals = [0, 0]
    for row in tweets:
        totals[row["label"]] += 1
        counts[row["label"]].update(set(words_of(row["text"])))
    rate = lambda word, label: (counts[label][word] + 0.5) / (totals[label] + 1.0)
    return {word for word in counts[1]
            if counts[1][word] >= 5 and math.log(rate(word, 1) / rate(word, 0)) > math.log(3)}


def concept_vocabulary(captions, stop):
    """Caption words that may stand in a prompt, with their lemma if CommonGen has one."""
    lemmas = {word for row in captions for word in row["concepts"]}
    counts = collections.Counter(w for row in captions for w in set(words_of(row["text"])))
    allowed = {}
    for word, count in counts.items():
        if count >= 3 and len(word) >= 3 and word not in FUNCTION_WORDS and word not in stop:
            allowed[word] = lemma_of(word, lemmas)
    return {word: lemma for word, lemma in allowed.items() if lemma not in stop}


def lemma_of(word, lemmas):
    """The CommonGen concept behind an inflected word, else the word."""
    if word in lemmas:
        return word
    stems = [word, word[:-1] if word.endswith("s") else word, re.sub(r"(es|ed|ing)$", "", word),
             re.sub(r"(ed|ing)$", "e", word), re.sub(r"(.)\1(ed|ing)$", r"\1", word),
             re.sub(r"ies$", "y", word)]
    return next((stem for stem in stems if stem in lemmas), word)


def give_concepts(row, allowed, frequency, rng):
    """Two to four harmless words of the text itself; rarer words are likelier."""
    found = list(dict.fromkeys(allowed[w] for w in words_of(row["text"]) if w in allowed))
    wanted = rng.choice((2, 3, 3, 3, 4))
    ranked = sorted(found, key=lambda w: frequency[w] * rng.uniform(0.2, 1.0))[:wanted]
    rng.shuffle(ranked)
    return ranked


def distinct(rows, with_concepts):
    """First row of each text key; with_concepts keeps one per (concepts, text)."""
    seen, kept = set(), []
    for row in rows:
        key = key_of(row["text"])
        if with_concepts:
            key = (tuple(sorted(row["concepts"])), key)
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return kept


def assign_splits(rows):
    """Splits captions by concept set, other texts by text, then empties train of held-out texts and sets."""
    for row in rows:
        by_set = row["source"] == "commongen"
        row["split"] = split_of(" ".join(sorted(row["concepts"])) if by_set else key_of(row["text"]))
    held = {key_of(row["text"]) for row in rows if row["split"] != "train"}
    held_sets = {frozenset(row["concepts"]) for row in rows if row["split"] != "train" and row["concepts"]}
    return [row for row in rows if row["split"] != "train"
            or (key_of(row["text"]) not in held and frozenset(row["concepts"]) not in held_sets)]


def train_tokenizer(rows, work):
    """GPT-2 style byte-level BPE (Sennrich et al. 2016) over rendered training texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=["<s>", "</s>", "<pad>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    texts = (TEMPLATE.format(prompt=prompt_of(row["concepts"])) + " " + row["text"] for row in rows)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])
    tokenizer.save(str(work / "tokenizer.json"))
    write_json(work / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "pad_token": "<pad>", "add_bos_token": True, "add_eos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": 1024, "padding_side": "right"})


def pick_prompts(rows, harmless, rng):
    """Evaluation prompts from the test split, one per concept set, none seen in training.

    All concepts are in the set `harmless`."""
    train_sets = {frozenset(row["concepts"]) for row in rows if row["split"] != "test"}
    prompts, seen = [], set()
    for source, wanted in PROMPTS_PER_SOURCE.items():
        pool = [row for row in rows if row["source"] == source and row["split"] == "test"
                and len(row["concepts"]) >= 3 and harmless.issuperset(row["concepts"])]
        rng.shuffle(pool)
        for row in pool:
            concepts = frozenset(row["concepts"])
            if concepts in seen or concepts in train_sets or wanted == 0:
                continue
            seen.add(concepts)
            prompts.append({"prompt": prompt_of(row["concepts"]), "source": source})
            wanted -= 1
    rng.shuffle(prompts)
    return [{"id": f"demo-{i:04d}", **row} for i, row in enumerate(prompts)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--work", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    captions = distinct(read_captions(args.data), True)
    tweets = distinct(read_tweets(args.data), False)
    moderation = distinct(read_moderation(args.data), False)
    stop = profane_words(args.data) | charged_words(tweets)
    allowed = concept_vocabulary(captions, stop)
    frequency = collections.Counter(allowed[w] for row in captions + tweets
                                    for w in set(words_of(row["text"])) if w in allowed)
    for row in tweets + moderation:
        row["concepts"] = give_concepts(row, allowed, frequency, rng)
    rows = assign_splits(captions + tweets + moderation)
    write_jsonl(args.work / "records.jsonl", rows)
    write_json(args.work / "words.json", sorted(set(allowed.values())))
    train_tokenizer([row for row in rows if row["split"] == "train"], args.work)
    prompts = pick_prompts(rows, set(allowed.values()) - SENSITIVE_WORDS, rng)
    write_jsonl(MODELS_DIR / "prompts.jsonl", prompts)
    for key, count in sorted(collections.Counter(
            (r["source"], r["split"], r["label"], len(r["concepts"]) >= 2) for r in rows).items()):
        print(*key, count)
    print("concept words", len(set(allowed.values())), "prompts",
          collections.Counter(row["source"] for row in prompts))


if __name__ == "__main__":
    main()
