"""Writes neox.json and llama2.json: texts with the ids that Hugging Face tokenizers gives them.

    python3 make_vectors.py TOK_DIR        # needs tokenizers==0.23.3

TOK_DIR holds olmo_neox_tokenizer.json and llama2_tokenizer.json. Texts are random, from a fixed seed;
only characters of Unicode 9 and earlier occur, so that no library's Unicode version decides. `ids` is
with special tokens as ordinary text, `special_ids` with special tokens recognised, `text_out` the
decoding of `ids`. BOS is never added.
"""
import json
import random
import sys
import tokenizers

PIECES = ["'s", "'LL", " ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", " \n", "1", "12", "1234", "a", "the ",
          "Hello", " world", "e\u0301", "\u1e9b\u0323", "\u2581", "\u0085", "\u00a0", "\u200d", "<0x0A>",
          "\u017f", "\U0001f600", "\U0001f469\u200d\U0001f680", "<s>", "</s>", "<unk>", "<|endoftext|>",
          "<|padding|>", "|||IP_ADDRESS|||"]
RANGES = [(0x20, 0x7e)] * 6 + [
    (0x09, 0x0d), (0xa1, 0x17f), (0x300, 0x33f), (0x3b1, 0x3c9), (0x410, 0x44f), (0x5d0, 0x5ea),
    (0x621, 0x63a), (0x915, 0x939), (0xe01, 0xe3a), (0x1100, 0x1112), (0x1161, 0x1175), (0x2010, 0x2027),
    (0x3041, 0x3096), (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0xff01, 0xff5e), (0x1f600, 0x1f64f)]


def make_text(rng):
    parts = []
    for _ in range(rng.randint(1, 14)):
        if rng.random() < 0.5:
            parts.append(rng.choice(PIECES))
        else:
            low, high = rng.choice(RANGES)
            parts.extend(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 5)))
    return "".join(parts)


def write(source, target):
    tokenizer = tokenizers.Tokenizer.from_file(source)
    rng = random.Random(20)
    cases = []
    for text in [make_text(rng) for _ in range(200)]:
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        special_ids = tokenizer.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, "ids": ids, "special_ids": special_ids,
                      "text_out": tokenizer.decode(ids)})
    with open(target, "w") as out:
        out.write('{"made_by": "tokenizers %s, make_vectors.py",\n "cases": [\n' % tokenizers.__version__)
        out.write(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
        out.write("\n]}\n")


write(sys.argv[1] + "/olmo_neox_tokenizer.json", "neox.json")
write(sys.argv[1] + "/llama2_tokenizer.json", "llama2.json")
