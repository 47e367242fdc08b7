"""Writes worker/tokenizer/unicode_tables.c: where the Unicode of Hugging Face `tokenizers` 0.23.3 differs
from version 14, which is that of Python 3.11 and of PCRE2 10.42.

    python3.11 make_unicode_tables.py > unicode_tables.c

The expressions of a pre-tokenizer are matched by Oniguruma, which knows newer characters; the normal
forms come from an older table, which does not know some that are in version 14.
"""
import unicodedata
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = ["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
              "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf"]
CODES = [c for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(map(chr, CODES))


def ranges(codes):
    out = []
    for code in sorted(codes):
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return out


def members(category):
    pieces = pre_tokenizers.Split(Regex(r"\p{%s}+" % category), "removed", invert=True).pre_tokenize_str(TEXT)
    return {ord(c) for piece, _ in pieces for c in piece}


def reorders(nfd, text):
    return nfd.normalize_str(text) != text


assert unicodedata.unidata_version == "14.0.0"
rows = []
for category in CATEGORIES:
    known = {c for c in CODES if unicodedata.category(chr(c)) in (category, "Mn" if category == "Mc" else category)}
    rows += [(low, high, category) for low, high in ranges(members(category) - known)]
rows.sort()

compatible = normalizers.NFKD()
canonical = normalizers.NFD()
kept = ranges(c for c in CODES if unicodedata.normalize("NFKD", chr(c)) != chr(c) == compatible.normalize_str(chr(c)))
starters = ranges(c for c in CODES if unicodedata.combining(chr(c)) and not reorders(canonical, chr(c) + "\u0334")
                  and not reorders(canonical, "\u0345" + chr(c)) and unicodedata.combining(chr(c)) not in (1, 240))

print("// Made by tests/parity/make_unicode_tables.py.")
print('#include "worker/tokenizer/unicode_newer.h"\n')
print("const struct unicode_newer unicode_newer[] = {")
for low, high, category in rows:
    print('    {0x%05X, 0x%05X, "%s"},' % (low, high, category))
print("};\nconst size_t unicode_newer_count = sizeof unicode_newer / sizeof *unicode_newer;\n")
for name, table in [("unicode_undecomposed", kept), ("unicode_unordered", starters)]:
    print("const struct unicode_range %s[] = {" % name)
    for low, high in table:
        print("    {0x%05X, 0x%05X}," % (low, high))
    print("};\nconst size_t %s_count = sizeof %s / sizeof *%s;" % (name, name, name))
    print("" if name == "unicode_undecomposed" else "", end="" if name == "unicode_unordered" else "\n")
