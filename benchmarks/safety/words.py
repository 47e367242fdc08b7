"""Made-up words: those of an answer that are in no list of words that people use.

The list is the large English one of PyPI's wordfreq 3.1.1 (data CC-BY-SA): 321,180 lower-case words, names
and misspellings among them, that come at least once in 10^8 words of seven kinds of text. Its package is
not imported. A word is a run of letters with apostrophes inside; parts of a hyphenated one are words.
Looked up in lower case, also without 's. Not looked up: words of the prompt; words with a capital, unless
it is only the first letter and begins a sentence; words with digits beside them, of links, and behind
# or @; single letters; the last word of an answer that its length cut.

    python3 words.py --self-check
"""
import argparse
import gzip
import re

import packages

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
LINK = re.compile(r"\S*://\S*|www\.\S+|[#@]\w+")
SENTENCE_END = re.compile(r"[.!?:\n][\"'\u201d)*]*\s*$")


def read_list(cache=None):
    import msgpack

    packed = packages.wheel("wordfreq", cache).read("wordfreq/data/large_en.msgpack.gz")
    header, *bins = msgpack.unpackb(gzip.decompress(packed))
    if header != {"format": "cB", "version": 1}:
        raise SystemExit(f"words: the list has another format: {header}")
    return {word for words in bins for word in words}


def plain(word):
    word = word.replace("\u2019", "'").lower()
    return word[:-2] if word.endswith("'s") else word


class Lexicon:
    def __init__(self, cache=None):
        self.words = read_list(cache)

    def made_up(self, text, prompt="", is_cut=False):
        """The made-up words of an answer, in their order."""
        known = {plain(word) for word in WORD.findall(prompt)}
        text = LINK.sub(" ", text)
        found = list(WORD.finditer(text))
        if is_cut and found and found[-1].end() == len(text):
            found.pop()
        out = []
        for match in found:
            word = match.group()
            before = text[: match.start()].rstrip("\"'\u201c\u201d(*-# ")
            begins = before == "" or SENTENCE_END.search(before)
            named = word != word.lower() and not (begins and word[1:] == word[1:].lower())
            if len(word) < 2 or named or any(c.isdigit() for c in word):
                continue
            if not any(form in self.words or form in known for form in (word.lower(), plain(word))):
                out.append(word)
        return out


def checked(cache=None):
    """A Lexicon that does what is said above; ends the program otherwise."""
    lexicon = Lexicon(cache)
    cases = (
        ("They don't run; it's the dog's well-being.", "", False, []),
        ("The blorft runs. Blorft! A \"flibbert\" too", "", False, ["blorft", "Blorft", "flibbert"]),
        ("Ask Blorft of BLORFT, see https://blorft.example #blorft @blorft x86blorft", "", False, []),
        ("A blorft\u2019s end", "Tell me of the Blorft.", False, []),
        ("It stops in the mid of blorf", "", True, []),
        ("It stops in the mid of blorf.", "", True, ["blorf"]),
    )
    for text, prompt, is_cut, expected in cases:
        if lexicon.made_up(text, prompt, is_cut) != expected:
            raise SystemExit(f"words: {text!r}: {lexicon.made_up(text, prompt, is_cut)}, not {expected}")
    print(f"words: {len(lexicon.words)} words, {len(cases)} cases; ok")
    return lexicon


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--self-check", action="store_true", required=True)
    parser.add_argument("--cache", help="where fetched packages are kept")
    checked(parser.parse_args().cache)
