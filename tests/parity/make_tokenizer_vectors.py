"""Tokenizers against Hugging Face `tokenizers` 0.23.3 and `transformers` 5.24.

    python3 make_tokenizer_vectors.py write TOK_DIR OUT_DIR
    python3 make_tokenizer_vectors.py compare TOOL DIRECTORY...

`write` stores what the C tests need to do without Python: hard_texts.json, and for each of some tiny
tokenizers (the cross product of conventions, made here) and of the real ones of TOK_DIR a line of
hashes. `compare` runs the built tool tests/tokenizer_ids on model directories that hold any real
tokenizer and counts differences; a directory with a file `reference.json` takes its ids from that
tokenizer.json instead of transformers.

A line of hashes has three for each text: of the ids with special tokens recognised, of the ids without,
and of the decoding of the first, special tokens shown. A hash is FNV-1a, 32 bits, over the ids as little-
endian 32-bit words, or over the bytes of the text.
"""
import base64
import json
import os
import random
import subprocess
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers
from tokenizers import Tokenizer

N_TINY_TEXTS = 64

# Words that added tokens of the tiny tokenizers are made of stand in these texts.
HAND_WRITTEN = [
    "Hello world", " Hello", "Hello ", "  two  spaces  ", "a\tb\t\tc", "line\nline\n\nline\n", "a\r\nb\r\n\r\nc",
    "\r", "\n", " ", "  ", "   ", "\t \t", "\n \n", " \n", "\u00a0\u00a0x", "x\u3000y", "\u2028a\u2029b", "\u0085x",
    "<s>a</s>b", "<s> a </s> b", " <s>", "</s>", "<s></s><s>", "x<unk>y", "<|im_start|>user\nHi<|im_end|>\n",
    "a<|im_start|>b", "<|im_start|", "|im_end|>", "TOOL", "aTOOL", "TOOLa", "a TOOL b", "a  TOOL  b", "TOOLBOX",
    "TOOLTOOL", "\u00c9COLE \u00e9cole", "e\u0301cole E\u0301COLE", "\u1e9b\u0323 \ufb01 \u00bd \u2460 \uff21",
    "1 12 123 1234 12345 123456789", "3.14159 1,000,000 0x1F 10%", "\u0663\u0664\u0665 \u0967\u0968 \u2167 \u00b2\u00b3 \u00bc",
    "It's I'll we've they'd I'm you're 'S 'LL 'Ve", "don\u2019t \u2018x\u2019 \u201cq\u201d", "HTTPServer parseXMLDoc camelCase SNAKE_CASE",
    "for (int i = 0; i < n; i++) {\n    x[i] += 2;\n}\n", "def f(x):\n\treturn x**2  # ok\n", "a=b+c;d&&e||f!g?h:i",
    "!!!???...,,,;;;:::", "--- *** ### ___ ===", "$100 \u20ac50 \u00a325 \u00a530", "foo@bar.com http://x.y/z?a=1&b=%20",
    "\u4f60\u597d\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0451\u0416", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5 \u03a3\u03a3", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u1ea4n \u0111\u1ed9ng ti\u1ebfng Vi\u1ec7t",
    "\U0001f600\U0001f603", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f44d\U0001f3fd \u270c\ufe0f \u2764\ufe0f", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
    "a\u0300\u0301\u0302\u0303b", "o\u0323\u0301 o\u0301\u0323", "\u0344\u0345", "\u1100\u1161\u11a8", "\u200b\u200c\u200d\u2060\ufeff", "\u202eabc\u202c", "\x00a\x01b\x1f\x7f",
    "\ufffd\ufffe\uffff", "\U000e0001\U000f0000\U0010ffff", "\u0378\u0530\u2fe0", "\u0130I\u0131i \u01c5 \u00df\u1e9e", "\u2581a\u2581 \u2581\u2581b", "<0x41><0x0A>", "\u0120\u010a",
    "x" * 40, "ab" * 30, " " * 17 + "x", "\n" * 9, "\t" * 5 + "y", "0" * 23, "\u00e9" * 12, "a " * 12, "=" * 33,
    "The quick brown fox jumps over the lazy dog.", "word " * 9 + "end", "MiXeD CaSe WoRdS", "na\u00efve caf\u00e9 r\u00e9sum\u00e9",
    "\U00020000\U0002a6d6", "\u17d2\u1780", "\u0f40\u0f71\u0f72", "\u1f98 \u1fbc \u01f0", "\u212b \u2126 \u00c5", "\ufdfa", "\u3392 \u33c2",
    "\u1680\u2003\u202f", "e\u200d\u0301", "'\u017f 'S", "\u2019s \u02bc", "a_b__c", "\u203f\u2040", "\U0001d7d8\U0001d400", "\u0600\u06dd", "\u24b6\U0001f130",
]
PIECES = ["'s", "'LL", " ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", " \n", "1", "12", "1234", "a", "the ", "Hello",
          " world", "e\u0301", "\u1e9b\u0323", "\u2581", "\u0085", "\u00a0", "\u200d", "<0x0A>", "\u017f", "\U0001f600",
          "\U0001f469\u200d\U0001f680", "\U0001f3fd", "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "TOOL", "...", "?!", "//"]
RANGES = [(0x20, 0x7e)] * 6 + [
    (0x09, 0x0d), (0xa1, 0x17f), (0x180, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x52f), (0x590, 0x5ff),
    (0x600, 0x6ff), (0x700, 0x8ff), (0x900, 0xdff), (0xe00, 0xfff), (0x1000, 0x11ff), (0x1200, 0x1fff), (0x2000, 0x2bff),
    (0x2c00, 0x2fff), (0x3000, 0x30ff), (0x3100, 0x33ff), (0x4e00, 0x9fff), (0xa000, 0xabff), (0xac00, 0xd7a3), (0xf900, 0xffff),
    (0x10000, 0x11fff), (0x12000, 0x16fff), (0x1d100, 0x1d7ff), (0x1f000, 0x1faff), (0x20000, 0x20100), (0x0, 0x20)]


def random_text(rng):
    parts = []
    for _ in range(rng.randint(1, 12)):
        if rng.random() < 0.45:
            parts.append(rng.choice(PIECES))
        else:
            low, high = rng.choice(RANGES)
            parts.extend(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 5)))
    return "".join(parts)


def make_texts():
    rng = random.Random(41)
    return HAND_WRITTEN + [random_text(rng) for _ in range(440 - len(HAND_WRITTEN))]


def fnv(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "%08x" % value


def hash_ids(ids):
    return fnv(b"".join(i.to_bytes(4, "little") for i in ids))


def triple(backend, text):
    """backend: a tokenizers.Tokenizer. BOS and EOS are left out."""
    backend.encode_special_tokens = True
    plain = backend.encode(text, add_special_tokens=False).ids
    backend.encode_special_tokens = False
    ids = backend.encode(text, add_special_tokens=False).ids
    return hash_ids(ids) + hash_ids(plain) + fnv(backend.decode(ids, skip_special_tokens=False).encode())


# ---- tiny tokenizers ----
MARKERS = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "TOOL", "<|"]
# No merge may spell a marker: ordinary text never becomes a special token here, whatever merges say.
TRAINING = [t for t in HAND_WRITTEN if not any(m in t for m in MARKERS)] + ["low lower lowest new newer newest wide wider widest the cat and the dog", "tool HELLO hello"] * 3
CONTENTS = ["<unk>", "<s>", "</s>"]


def added(content, **flags):
    token = {"id": None, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
    return dict(token, **flags)


def number(base, tokens):
    """Gives the ids that the library will give."""
    vocab = base["model"]["vocab"]
    if isinstance(vocab, list):
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
    known, following = dict(vocab), len(vocab)
    out = []
    for token in tokens:
        token = dict(token)
        if token["content"] not in known:
            known[token["content"]] = following
            following += 1
        token["id"] = known[token["content"]]
        out.append(token)
    return out


def train_bases():
    from tokenizers import models, normalizers, pre_tokenizers, trainers, decoders

    byte = Tokenizer(models.BPE())
    byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte.decoder = decoders.ByteLevel()
    byte.train_from_iterator(TRAINING, trainers.BpeTrainer(
        vocab_size=380, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    byte = json.loads(byte.to_str())

    spm = Tokenizer(models.BPE())
    spm.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    spm.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=300, limit_alphabet=90, show_progress=False))
    spm = json.loads(spm.to_str())
    pieces = CONTENTS + ["<0x%02X>" % b for b in range(256)]
    pieces += [p for p, _ in sorted(spm["model"]["vocab"].items(), key=lambda kv: kv[1]) if p not in CONTENTS]
    spm["model"].update(vocab={p: i for i, p in enumerate(pieces)}, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    spm["decoder"] = SPM_DECODER
    spm["added_tokens"] = number(spm, [added(c) for c in CONTENTS])

    # Scores are multiples of a power of two, so that sums have many exact ties.
    uni = json.loads(json.dumps(spm))
    normal = [p for p in pieces if p not in CONTENTS and not p.startswith("<0x")]
    # For the same reason the names of special pieces do not occur in the texts.
    vocab = [["<unknown>", 0.0], ["<begin>", 0.0], ["<end>", 0.0]] + [["<0x%02X>" % b, -30.0] for b in range(256)]
    vocab += [[p, -2.0 - (i * 37 % 64) / 8 - (2.0 if len(p) == 1 else 0.0)] for i, p in enumerate(normal)]
    uni["model"] = {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": True}
    uni["normalizer"] = None
    uni["added_tokens"] = number(uni, [added(c) for c in ["<unknown>", "<begin>", "<end>", "<s>", "</s>"]])
    uni["pre_tokenizer"] = metaspace("always", True)
    uni["decoder"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    return {"byte": byte, "spm": spm, "uni": uni}


SPM_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
GEMMA_DECODER = dict(SPM_DECODER, decoders=SPM_DECODER["decoders"][:3])


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def byte_level(**options):
    return dict({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, **options)


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def normals(*steps):
    return {"type": "Sequence", "normalizers": list(steps)}


def replace(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")


RULES = [("\u00c9", "e"), ("e\u0301", "e"), ("\ufb01", "fi"), ("\u3000", " "), ("\u200d", ""), ("TOOL", "tool"),
         ("\u00bd", "1/2"), ("\uff21", "A"), ("\t", " "), ("\u2460", "1")]


def train_spm(texts, with_rules=False, **options):
    import io
    import sentencepiece

    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as directory:
        if with_rules:
            options["normalization_rule_tsv"] = os.path.join(directory, "rules.tsv")
            with open(options["normalization_rule_tsv"], "w") as out:
                for source, target in RULES:
                    out.write("\t".join(" ".join("%X" % ord(c) for c in part) for part in (source, target)) + "\n")
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=model, hard_vocab_limit=False,
                                                 minloglevel=3, **options)
    return model.getvalue()


def small_charsmap():
    """A SentencePiece map of a few rules, taken out of a model trained with them."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    proto = pb.ModelProto()
    proto.ParseFromString(train_spm(["abc abd abe hello world " * 5] * 40, True, vocab_size=14))
    return base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()


def write_spm(texts, target):
    """Models as SentencePiece stores them. Its special pieces have names that no text holds."""
    names = dict(unk_piece="<unknown>", bos_piece="<begin>", eos_piece="<end>", vocab_size=420, num_threads=1)
    llama = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<begin>", "eos_token": "<end>", "unk_token": "<unknown>"}
    lines = []
    for name, config, options in [
        ("bpe bytes", None, dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity")),
        ("bpe bytes first", {"legacy": False}, dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity")),
        ("bpe no bytes", None, dict(model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False)),
        ("bpe rules, user-defined", None, dict(model_type="bpe", byte_fallback=True, with_rules=True,
                                               user_defined_symbols=["TOOL", "<|im_start|>", "ab", "\n"])),
        ("bpe no prefix", None, dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                                     add_dummy_prefix=False, control_symbols=["<|im_end|>"])),
        ("bpe llama", llama, dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                                  user_defined_symbols=["TOOL"], control_symbols=["<s>"])),
        ("bpe llama legacy", dict(llama, legacy=True), dict(model_type="bpe", byte_fallback=True)),
        ("unigram", None, dict(model_type="unigram", normalization_rule_name="identity")),
        ("unigram bytes, rules", None, dict(model_type="unigram", byte_fallback=True, with_rules=True)),
        ("unigram user-defined", {"legacy": False}, dict(model_type="unigram", byte_fallback=True, normalization_rule_name="identity",
                                                         user_defined_symbols=["TOOL", "ab"], remove_extra_whitespaces=False)),
    ]:
        model = train_spm([t for t in TRAINING if t.strip() and max(t) < "\u0250" and t.isprintable()], **dict(names, **options))
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "tokenizer.model"), "wb") as out:
                out.write(model)
            if config:
                write_json(os.path.join(directory, "tokenizer_config.json"), config)
            backend = open_backend(directory)
            lines.append({"name": name, "config": config, "model": base64.b64encode(model).decode(),
                          "hashes": "".join(triple(backend, text) for text in texts[:N_TINY_TEXTS])})
    write_json(target, {"made_by": "transformers 5.24, make_tokenizer_vectors.py", "tokenizers": lines})


def variants(bases):
    """name, base, changes of tokenizer.json, tokenizer_config.json, config.json"""
    def v(name, base, config=None, model=None, options=None, tokens=None, **changes):
        if options:
            changes["model"] = options
        if tokens is not None:
            changes["added_tokens"] = number(bases[base], tokens)
        out.append({"name": name, "base": base, "set": changes, "config": config, "model": model})

    out = []
    tail = byte_level(use_regex=False)
    v("gpt2", "byte")
    v("gpt2 prefix", "byte", pre_tokenizer=byte_level(add_prefix_space=True))
    v("no regex", "byte", pre_tokenizer=tail)
    v("ignore merges", "byte", options={"ignore_merges": True})
    for name, pattern in [("qwen2", QWEN2), ("llama3", LLAMA3), ("o200k", O200K), ("tekken", TEKKEN)]:
        v(name, "byte", pre_tokenizer=sequence(split(pattern), tail))
    v("qwen2 removed inverted", "byte", pre_tokenizer=sequence(split(QWEN2, "Removed", True), tail))
    v("prefix after split", "byte", pre_tokenizer=sequence(split(QWEN2), byte_level(use_regex=False, add_prefix_space=True)))
    v("smollm", "byte", pre_tokenizer=sequence({"type": "Digits", "individual_digits": True}, byte_level()))
    v("digits together", "byte", pre_tokenizer=sequence({"type": "Digits", "individual_digits": False}, byte_level()))
    v("deepseek", "byte", pre_tokenizer=sequence(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u0e00-\u0eff\uac00-\ud7ff]+"), split(DEEPSEEK), tail))
    v("deepseek coder", "byte", pre_tokenizer=sequence(
        split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split("[\u4e00-\u9fa5\u0e00-\u0eff\uac00-\ud7ff]+"),
        {"type": "Digits", "individual_digits": True}, tail))
    v("falcon", "byte", pre_tokenizer=sequence(
        {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(), {"type": "Digits", "individual_digits": False},
        split("[0-9][0-9][0-9]")))
    v("whitespace", "byte", pre_tokenizer=sequence({"type": "Whitespace"}, tail))
    v("whitespace split", "byte", pre_tokenizer=sequence({"type": "WhitespaceSplit"}, tail))
    v("delimiter", "byte", pre_tokenizer=sequence({"type": "CharDelimiterSplit", "delimiter": "o"}, tail))
    v("fixed length", "byte", pre_tokenizer=sequence({"type": "FixedLength", "length": 3}, tail))
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        v("punctuation " + behavior, "byte", pre_tokenizer=sequence({"type": "Punctuation", "behavior": behavior}, tail))
        for invert in [False, True]:
            v("split %s %d" % (behavior, invert), "byte", pre_tokenizer=sequence(split("[a-l ]", behavior, invert), tail))
        v("string split " + behavior, "byte", pre_tokenizer=sequence(split(" ", behavior, False, "String"), tail))
    for kind in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"]:
        v(kind, "byte", normalizer={"type": kind})
    v("NFD and Lowercase", "byte", normalizer=normals({"type": "NFD"}, {"type": "Lowercase"}))
    for left, right in [(True, True), (True, False), (False, True)]:
        v("strip %d %d" % (left, right), "byte", normalizer={"type": "Strip", "strip_left": left, "strip_right": right})
    v("replace", "byte", normalizer=normals(replace("l", "LL"), replace("e+", "<>", "Regex"), replace(r"\A +| +\z", "", "Regex")))
    v("prepend", "byte", normalizer={"type": "Prepend", "prepend": "x"})
    v("nested", "byte", normalizer=normals(normals({"type": "NFKC"}), {"type": "Lowercase"}),
      pre_tokenizer=sequence(sequence(split("[a-l]"), {"type": "WhitespaceSplit"}), tail))
    for special in [False, True]:
        for normalized in [False, True]:
            for flag in ["lstrip", "rstrip", "single_word"]:
                tokens = [added("TOOL", special=special, normalized=normalized, **{flag: True}),
                          added("TOOLBOX", special=not special, normalized=normalized),
                          added("<|im_start|>", special=special, normalized=normalized), added("\n\n", special=special)]
                v("added %d %d %s" % (special, normalized, flag), "byte", tokens=tokens,
                  normalizer={"type": "Lowercase"} if normalized else None)
            spm_tokens = [added(c, normalized=normalized, special=special or c == "<unk>") for c in CONTENTS]
            v("spm added %d %d" % (special, normalized), "spm", tokens=spm_tokens + [added("TOOL", normalized=normalized)])
            v("metaspace added %d %d" % (special, normalized), "spm", tokens=spm_tokens, normalizer=None,
              pre_tokenizer=metaspace("first", False))
    v("spm", "spm")
    v("spm no fallback", "spm", options={"byte_fallback": False})
    v("spm no fuse", "spm", options={"byte_fallback": False, "fuse_unk": False})
    for scheme in ["always", "first", "never"]:
        for splits in [False, True]:
            v("metaspace %s %d" % (scheme, splits), "spm", normalizer=None, pre_tokenizer=metaspace(scheme, splits))
            v("unigram %s %d" % (scheme, splits), "uni", pre_tokenizer=metaspace(scheme, splits),
              decoder=dict(metaspace(scheme, splits)))
    v("metaspace after whitespace", "spm", normalizer=None,
      pre_tokenizer=sequence({"type": "WhitespaceSplit"}, metaspace("always", True)))
    v("gemma", "spm", normalizer=replace(" ", "\u2581"), decoder=GEMMA_DECODER,
      pre_tokenizer=split(" ", "MergedWithPrevious", False, "String"))
    v("unigram no fallback", "uni", options={"byte_fallback": False})
    v("unigram charsmap", "uni", normalizer=normals(
        {"type": "Precompiled", "precompiled_charsmap": small_charsmap()}, replace(" {2,}", " ", "Regex")))

    llama = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    v("class llama", "spm", dict(llama), {"model_type": "llama"})
    v("class llama fast", "spm", dict(llama, tokenizer_class="LlamaTokenizerFast", legacy=False), {"model_type": "llama"})
    v("class llama legacy", "spm", dict(llama, legacy=True), {"model_type": "llama"})
    v("class llama no prefix", "spm", dict(llama, add_prefix_space=False), {"model_type": "llama"})
    v("class llama in mistral", "spm", dict(llama), {"model_type": "mistral"})
    v("class llama in phi3", "spm", dict(llama), {"model_type": "phi3"})
    v("class llama byte level", "byte", dict(tokenizer_class="LlamaTokenizer"), {"model_type": "llama"}, normalizer={"type": "NFC"})
    v("class generic with prefix flag", "spm", dict(tokenizer_class="PreTrainedTokenizerFast", add_prefix_space=False, legacy=True))
    v("class qwen2", "byte", dict(tokenizer_class="Qwen2Tokenizer"), {"model_type": "qwen2"})
    v("class qwen2 by type", "byte", {}, {"model_type": "qwen3"})
    v("class gpt2", "byte", dict(tokenizer_class="GPT2Tokenizer"), {"model_type": "phi"},
      pre_tokenizer=sequence(split(QWEN2), tail))
    v("class gpt2 prefix", "byte", dict(tokenizer_class="GPT2TokenizerFast", add_prefix_space=True), {"model_type": "gpt2"})
    v("class neox", "byte", dict(tokenizer_class="GPTNeoXTokenizer"), {"model_type": "gpt_neox"})
    v("class gemma", "spm", dict(tokenizer_class="GemmaTokenizer", unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"),
      {"model_type": "gemma2"})
    v("class unknown", "spm", dict(tokenizer_class="SomebodysTokenizer"), {"model_type": "llama"})
    next_id = len(bases["spm"]["model"]["vocab"])
    listed = {str(i): {k: x for k, x in added(c).items() if k != "id"} for i, c in enumerate(CONTENTS)}
    listed[str(next_id)] = {"content": "TOOL", "special": False, "normalized": True, "lstrip": True}
    v("listed in the configuration", "spm", {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": listed})
    v("named in the configuration", "spm", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "bos_token": "<s>",
                                            "additional_special_tokens": ["TOOL", "<|im_start|>", "a"], "image_token": "<|im_end|>"})
    v("named object", "spm", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": {
        "__type": "AddedToken", "content": "TOOL", "lstrip": True, "rstrip": True, "normalized": False, "single_word": False}})
    return out


def build_directory(directory, base, variant):
    root = json.loads(json.dumps(base))
    for key, value in variant["set"].items():
        if key == "model":
            root["model"].update(value)
        else:
            root[key] = value
    for name, content in [("tokenizer.json", root), ("tokenizer_config.json", variant["config"]), ("config.json", variant["model"])]:
        if content is not None:
            with open(os.path.join(directory, name), "w") as out:
                json.dump(content, out)


def open_backend(directory):
    """What a directory means: transformers where it has a configuration, else its tokenizer.json."""
    from transformers import AutoTokenizer, TokenizersBackend

    if not os.path.exists(os.path.join(directory, "tokenizer_config.json")):
        if not os.path.exists(os.path.join(directory, "tokenizer.json")):
            return TokenizersBackend.from_pretrained(directory)._tokenizer
        return Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    config = json.load(open(os.path.join(directory, "tokenizer_config.json")))
    if "tokenizer_class" not in config and not os.path.exists(os.path.join(directory, "config.json")):
        return TokenizersBackend.from_pretrained(directory)._tokenizer
    return AutoTokenizer.from_pretrained(directory)._tokenizer


def write_json(path, value):
    with open(path, "w") as out:
        json.dump(value, out, ensure_ascii=True, separators=(",", ":"))
        out.write("\n")


def write_tiny(texts, target):
    bases = train_bases()
    lines = variants(bases)
    for variant in lines:
        with tempfile.TemporaryDirectory() as directory:
            build_directory(directory, bases[variant["base"]], variant)
            try:
                backend = open_backend(directory)
            except Exception:
                print(variant["name"])
                raise
            variant["hashes"] = "".join(triple(backend, text) for text in texts[:N_TINY_TEXTS])
    write_json(target, {"made_by": "tokenizers %s, make_tokenizer_vectors.py" % tokenizers.__version__, "bases": bases,
                        "variants": lines})


def real_sources(tok):
    """name, files of the directory, backend that they mean"""
    from tokenizers import models, normalizers, pre_tokenizers, decoders

    def byte_level_bpe(vocab, merges, pattern, normalizer, ignore=False):
        t = Tokenizer(models.BPE.from_file(vocab, merges)) if isinstance(vocab, str) else Tokenizer(models.BPE(vocab, merges))
        t.model.ignore_merges = ignore
        t.normalizer = normalizer
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
                                                   pre_tokenizers.ByteLevel(False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        return t

    j = lambda name: os.path.join(tok, name)
    gpt2 = Tokenizer(models.BPE.from_file(j("gpt2_vocab.json"), j("gpt2_merges.txt")))
    gpt2.pre_tokenizer, gpt2.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    gpt2.add_special_tokens(["<|endoftext|>"])
    qwen2 = byte_level_bpe(j("qwen2_vocab.json"), j("qwen2_merges.txt"), QWEN2, normalizers.NFC())
    for _, token in sorted(json.load(open(j("qwen2_tokenizer_config.json")))["added_tokens_decoder"].items(), key=lambda kv: int(kv[0])):
        qwen2.add_tokens([tokenizers.AddedToken(**token)])
    from transformers.convert_slow_tokenizer import TikTokenConverter

    reserved = iter(range(1000))
    named = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>", 9: "<|eot_id|>"}
    specials = [named.get(i) or "<|reserved_special_token_%d|>" % next(reserved) for i in range(256)]
    llama3 = TikTokenConverter(j("llama3_tokenizer.model"), extra_special_tokens=specials).converted()
    return [("gpt2", [("gpt2_vocab.json", "vocab.json"), ("gpt2_merges.txt", "merges.txt")], gpt2),
            ("qwen2", [("qwen2_vocab.json", "vocab.json"), ("qwen2_merges.txt", "merges.txt"),
                       ("qwen2_tokenizer_config.json", "tokenizer_config.json")], qwen2),
            ("llama2 json", [("llama2_tokenizer.json", "tokenizer.json")], Tokenizer.from_file(j("llama2_tokenizer.json"))),
            ("olmo neox", [("olmo_neox_tokenizer.json", "tokenizer.json")], Tokenizer.from_file(j("olmo_neox_tokenizer.json"))),
            ("llama3 ranks", [("llama3_tokenizer.model", "tokenizer.model")], llama3)]


def write_real(texts, tok, target):
    lines = [{"name": name, "files": files, "hashes": "".join(triple(backend, text) for text in texts)}
             for name, files, backend in real_sources(tok)]
    write_json(target, {"made_by": "tokenizers %s, make_tokenizer_vectors.py" % tokenizers.__version__, "tokenizers": lines})


def compare(tool, directories):
    texts = make_texts()
    for directory in directories:
        reference = os.path.join(directory, "reference.json")
        backend = Tokenizer.from_file(reference) if os.path.exists(reference) else open_backend(directory)
        run = subprocess.run([tool, directory], input="".join(json.dumps(t) + "\n" for t in texts), capture_output=True, text=True)
        if run.returncode != 0:
            print("%s: %s" % (directory, run.stderr.strip()))
            continue
        own = run.stdout.split("\n")
        wrong = [i for i, text in enumerate(texts) if own[i] != triple(backend, text)]
        print("%s: %d of %d differ" % (directory, len(wrong), len(texts)))
        for i in wrong[:4]:
            kinds = [k for n, k in enumerate(["ids", "plain ids", "decoding"]) if own[i][8 * n:8 * n + 8] != triple(backend, texts[i])[8 * n:8 * n + 8]]
            print("   ", i, ascii(texts[i]), kinds)


if sys.argv[1] == "write":
    hard = make_texts()
    write_json(os.path.join(sys.argv[3], "hard_texts.json"), {"texts": hard})
    write_tiny(hard, os.path.join(sys.argv[3], "tiny.json"))
    write_spm(hard, os.path.join(sys.argv[3], "spm.json"))
    write_real(hard, sys.argv[2], os.path.join(sys.argv[3], "real.json"))
else:
    compare(sys.argv[2], sys.argv[3:])
