"""Writes tests/vectors/jinja/cases.json: templates over every construct that the interpreter has, with
what jinja2 as transformers calls it gives for them ("text"), or null where it raises; and
tests/vectors/jinja/real.json: hashes of what the chat templates of a directory give for ten
conversations.

    python tests/parity/make_jinja_vectors.py tests/vectors/jinja ../shared/data/tok/chat_templates

Needs transformers and jinja2; the C test reads the files alone."""

import json
import pathlib
import sys

from jinja_parity import CONVERSATIONS, TRUSTED
from jinja_reference import render_reference

MESSAGES = [
    {"role": "system", "content": " Be kind.\n"},
    {"role": "user", "content": "Hi <|im_start|> there"},
    {"role": "assistant", "content": "<think>\nso\n</think>\n\nYes?"},
    {"role": "user", "content": "d\u00e9j\u00e0 vu \u00df \u03a3\u03a3 \U0001f600\tx"},
]
VARIABLES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "messages": MESSAGES,
    "tools": None,
    "add_generation_prompt": True,
    "n": 7,
    "x": 2.5,
    "neg": -3,
    "flag": False,
    "word": "h\u00e9llo W\u00d6rld",
    "list": [3, 1, 2, 1],
    "names": ["b", "A", "c", "a"],
    "nested": {"a": {"b": [1, {"c": "deep"}]}, "items": "own", "k-1": None},
    "people": [{"name": "Zo", "age": 3}, {"name": "al", "age": 2}, {"name": "Bo"}],
    "empty": "",
}

# One template each; what is printed shows the construct.
CASES = r"""
{{ 1 + 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }}
{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1e16 }} {{ 1e15 }} {{ 0.1 + 0.2 }} {{ 1.0 }} {{ 1e-5 }} {{ 0.0001 }} {{ 123456789.123 }} {{ 5e-324 }}
{{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1_0.5_0 }} {{ 1e3 }} {{ 00 }}
{{ 2 ** 3 ** 2 }} {{ -n }} {{ +n }} {{ - - n }} {{ not not n }} {{ -x|abs }} {{ neg|abs }}
{{ true + 1 }} {{ True == 1 }} {{ 1 == 1.0 }} {{ "1" == 1 }} {{ none == None }} {{ false < true }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ "a" + 1 }}
{{ 1 + "a" }}
{{ [1] + [2] }} {{ (1,) + (2, 3) }} {{ [0] * 3 }} {{ 3 * "ab" }} {{ "ab" * -1 }} {{ (1, 2) * 2 }}
{{ "a" ~ 1 ~ none ~ true ~ [1, "x"] ~ undefinedthing }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 in [1, 2] in [[1, 2]] }} {{ "a" < "b" }} {{ [1, 2] < [1, 3] }} {{ (1,) <= (1, 0) }}
{{ 1 < "a" }}
{{ "h" in word }} {{ "zz" not in word }} {{ "name" in people[0] }} {{ 1 in [] }} {{ not 1 in [1] }}
{{ 1 in "abc" }}
{{ 1 in none }}
{{ n and "yes" }} {{ flag or "no" }} {{ 0 or "" or [] }} {{ n and 0 and 1 }} {{ flag and boom.x }}
{{ "a" if flag else "b" }} {{ "a" if n }} [{{ "a" if flag }}] {{ ("a" if flag) is undefined }} {{ 1 if 0 else 2 if 0 else 3 }}
{{ missing }} [{{ missing.attr }}]
{{ missing is defined }} {{ missing is none }} {{ missing == missing2 }} {{ missing|length }} {{ missing|list }} {% for a in missing %}x{% endfor %}
{{ missing + 1 }}
{{ missing() }}
{{ missing['a'] }}
{{ missing[0:1] }}
{{ -missing }}
{{ nested.a.b[1].c }} {{ nested['a']['b'][0] }}
{{ nested['items'] }} {{ nested.get('items') }} {{ nested.get('zz') }} {{ nested.get('zz', 5) }} {{ nested['k-1'] }} [{{ nested.zz }}]
{{ nested.zz.y }}
{{ list[0] }} {{ list[-1] }} [{{ list[9] }}] [{{ list['a'] }}] {{ list.0 }} [{{ list[1.5] }}] {{ list[true] }}
{{ word[0] }}{{ word[1] }}{{ word[-1] }} [{{ word[99] }}] {{ word[1:4] }} {{ word[::-1] }} {{ word[::2] }} {{ word[-3:] }} {{ word[:-3] }} {{ word[5:2] }} {{ word[5:2:-1] }} {{ word[:100] }} {{ word[-100:2] }}
{{ list[1:] }} {{ list[::-1] }} {{ list[-2:] }} {{ list[:0] }} {{ list[10:] }} {{ list[::2] }} {{ list[3:0:-2] }} {{ (1, 2, 3)[1:] }} {{ list[none:2] }} {{ list[-1:-3:-1] }}
{{ list[::0] }}
{{ list["a":] }}
{{ nested[0:1] }}
{{ none.foo is undefined }} {{ n.foo is undefined }} {{ none[0] is undefined }}
{{ word.__class__ }}|{{ word.__class__ is defined }}
{{ word.__class__.__mro__ }}
{{ list.append }}|{{ list.append is defined }}
{{ list.append(1) }}
{{ nested.pop('a') }}
{{ nested.update({}) }}
{{ ''['upper']() }}{{ word['upper']() }} {{ messages[1]['content'].split('<|')[0] }}
{% if n > 5 %}big{% elif n %}small{% else %}zero{% endif %} {% if flag %}a{% elif empty %}b{% elif "" %}c{% else %}d{% endif %}
{% for m in messages %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.previtem.role }}{% if not loop.last %}/{{ loop.nextitem.role }}{% endif %};{% endfor %}
{% for m in messages %}{{ loop.previtem.role }}{% endfor %}
{% for m in messages %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }},{% endfor %}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ loop.length }}{{ loop.last }}{{ m.content[:2] }};{% else %}none{% endfor %}
{% for m in messages if m.role == 'tool' %}x{% else %}none{% endfor %}{% for a in [] %}{% else %}empty{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }};{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for a, b in [1] %}{{ a }}{% endfor %}
{% for k, v in people[0].items() %}{{ k }}={{ v }},{% endfor %}{% for k in people[0] %}{{ k }},{% endfor %}{% for k in people[0].keys() %}{{ k }}{% endfor %}{% for v in people[0].values() %}{{ v }}{% endfor %}
{% for c in "h\u00e9y" %}{{ c }}.{% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}{% for i in range(2, 4) %}{{ i }}{% endfor %}
{% for i in 5 %}{{ i }}{% endfor %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in [1] %}{% continue %}{% else %}E{% endfor %}{% for i in [1] %}{% break %}{% else %}F{% endfor %}{% for i in [1] %}{{ i }}{% else %}G{% endfor %}
{% for i in [1, 2] %}{% for j in [1, 2] %}{{ loop.index }}{% if j == 1 %}{% continue %}{% endif %}x{% endfor %}{{ loop.index }};{% endfor %}
{% for i in [1, 2, 2, 3] %}{{ loop.changed(i) }}{{ loop.cycle("a", "b") }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}
{% break %}
{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = a + i %}{{ a }};{% endfor %}{{ a }}
{% set ns = namespace(a=1, b='x') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}{% set ns.c = [1] %}{{ ns.c }}{{ ns['a'] }}
{% set ns = namespace({'a': 1}) %}{{ ns.a }} {{ ns }} {% set ns.d = 2 %}{{ ns.d }}
{% set ns = namespace() %}{% set ns._x = 1 %}
{{ namespace(_x=1) }}
{% set word.x = 1 %}
{% set ns.q = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (d, e) = [5, 6] %}{{ d }}{{ e }}
{% set a, b = 1 %}
{% set x = 5 %}{% if n %}{% set x = 6 %}{% endif %}{{ x }}
{% if flag %}{% set n = 1 %}{% endif %}{{ n }}
{% for i in [1] %}{{ n }}{% endfor %}{% set n = 1 %}{{ n }}
{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 1 %}{{ m() }}
{% for i in [1, 2] %}{% if i == 2 %}{{ z is defined }}{% endif %}{% set z = i %}{{ z }}{% endfor %}{{ z is defined }}
{% set a %}x{{ n }}y{% endset %}[{{ a }}]{% set b | upper %}ab{% endset %}{{ b }}{% set c | replace("a", "b") | upper %}aa{% endset %}{{ c }}
{% macro hi(a, b="d", c=a) %}({{ a }},{{ b }},{{ c }}){% endmacro %}{{ hi(1) }}{{ hi(1, 2) }}{{ hi(b=3, a=4) }}{{ hi() }}{{ hi(1, c=5) }}
{% macro hi(a) %}{{ a }}{% endmacro %}{{ hi(1, 2) }}
{% macro hi(a) %}{{ a }}{% endmacro %}{{ hi(z=2) }}
{% macro hi(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ hi(1, 2, 3, z=2, y=1) }}{{ hi(*[1, 2], **{"q": 3}) }}
{% macro box(t) %}<{{ t }}:{{ caller() }}>{% endmacro %}{% call box("a") %}in {{ n }}{% endcall %}
{% macro each(l) %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(v) each([1, 2]) %}[{{ v }}]{% endcall %}
{% macro nocall() %}{{ caller() }}{% endmacro %}{{ nocall() }}
{% macro fact(k) %}{% if k > 1 %}{{ k * (fact(k - 1)|int) }}{% else %}1{% endif %}{% endmacro %}{{ fact(5) }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}{{ a }}
{% filter upper %}ab{{ word }}{% endfilter %}{% filter replace("a", "b")|upper %}aa{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% set a = 5 %}{{ a }}{% endwith %}{{ a is defined }}{% with %}x{% endwith %}
{% generation %}a{{ n }}{% set q = 1 %}{% endgeneration %}{{ q is defined }}
{% print n %}{% print n, word %}{% print n + 1, %}
{{ "it's" }} {{ 'a"b' }} {{ "a\nb\t\\ \x41 \u00e9 \101 \q" }} {{ "a" "b" 'c' }} {{ "\'" }}
{{ "é\é" }}
{{ [1, 'a', none, true, 1.5, {"k": (1,)}, [], (), {}] }} {{ ["it's", 'q"', "b'\"", "\n\t\\é\x07\u200b"] }}
{{ {"a": 1, 1: "b", none: 2, (1, 2): 3} }} {{ {"a": 1}["a"] }} {{ {1: 2}[1.0] }} {{ {"a": 1, "a": 2} }}
{{ {[1]: 2} }}
{{ dict(a=1, b=2) }} {{ dict({"x": 1}, y=2) }} {{ dict([("a", 1), ["b", 2]]) }}
{{ (1, 2, 3) }} {{ (1,) }} {{ () }} {{ 1, 2 }}
{{ "  a b ".strip() }}|{{ "xxaxx".strip("x") }}|{{ "xya".lstrip("yx") }}|{{ " a ".rstrip() }}|{{ "\u3000a\x1c\u00a0".strip() }}|{{ "a\u200b".strip() }}|{{ "a  "|trim }}|{{ "xax"|trim("x") }}|{{ 5|trim }}
{{ "a,b,,c".split(",") }} {{ "a,b,c".split(",", 1) }} {{ " a  b ".split() }} {{ " a b c".split(none, 1) }} {{ "a,b,c".rsplit(",", 1) }} {{ "abc".split("x") }} {{ "".split() }} {{ "".split(",") }} {{ "a b".split(sep=" ") }} {{ "aXbX".rsplit("X") }}
{{ "a".split("") }}
{{ "a\nb\r\nc\rd\x0be\u2028f\n".splitlines() }} {{ "a\nb".splitlines(true) }}
{{ "abc".startswith("ab") }} {{ "abc".endswith(("x", "bc")) }} {{ "abc".startswith("b", 1) }} {{ "abc".startswith("") }} {{ "abc".endswith("b", 0, 2) }} {{ "abc".startswith("a", 5) }}
{{ "abc".startswith(1) }}
{{ word.upper() }} {{ word.lower() }} {{ word.title() }} {{ word.capitalize() }} {{ "\u00df\ufb01\u0130\u03a3 A\u03a3 \u03a3a".lower() }} {{ "\u00df\ufb01\u0149".upper() }} {{ "\ufb01x \u01c6".title() }} {{ "\ufb01x".capitalize() }} {{ "it's a-b"|title }} {{ "they're".title() }} {{ "ab cD-ef (gh"|title }}
{{ "banana".replace("a", "o") }} {{ "banana".replace("a", "o", 1) }} {{ "ab".replace("", "-") }} {{ "ab"|replace("", "-", 2) }} {{ "banana"|replace("an", "") }} {{ 5|replace("5", "6") }} {{ "aaa".replace("aa", "b") }}
{{ "banana".find("n") }} {{ "banana".find("z") }} {{ "banana".rfind("n") }} {{ "banana".find("n", 3) }} {{ "h\u00e9llo".find("l") }} {{ "banana".count("an") }} {{ "banana".index("b") }} {{ "aaa".count("") }} {{ "banana".find("", 9) }}
{{ "banana".index("z") }}
{{ ",".join(["a", "b"]) }} {{ ", ".join(x for x in []) }}
{{ "-".join("abc") }} {{ [1, 2]|join(", ") }} {{ people|join(",", attribute="name") }} {{ []|join }} {{ "abc"|join("-") }} {{ {"a": 1, "b": 2}|join("+") }}
{{ ",".join([1]) }}
{{ "a-b-c".partition("-") }} {{ "a-b-c".rpartition("-") }} {{ "abc".partition("-") }} {{ "abc".rpartition("-") }}
{{ "abc".removeprefix("a") }} {{ "abc".removesuffix("c") }} {{ "abc".removeprefix("x") }}
{{ " \t".isspace() }} {{ "".isspace() }} {{ "ab".isalpha() }} {{ "a1".isalpha() }} {{ "AB1".isupper() }} {{ "1".isupper() }} {{ "ab".islower() }} {{ "12".isdecimal() }}
{{ "{} {}".format(1, "a") }} {{ "{1}{0}".format(1, 2) }} {{ "{a}".format(a=3) }} {{ "{{}}".format() }}
{{ "{} {1}".format(1, 2) }}
{{ "{}".format() }}
{{ "%s %d %5.2f|%-4s|%04d|%+d|%x|%%|%r|%i|%e|%g|%5s" % ("a", 3.7, 2.345, "b", 42, 5, 255, "q", 7, 12345.678, 0.0001, "z") }}
{{ "%s" % "one" }} {{ "%s" % [1] }} {{ "%(a)s %(b)d" % {"a": 1, "b": 2} }} {{ "%s-%s"|format(1, 2) }} {{ "%.2s|" % "abc" }}
{{ "%s %s" % "one" }}
{{ "%s" % (1, 2) }}
{{ "%d" % "a" }}
{{ nested.keys()|list }} {{ nested.values()|list|length }} {{ nested.items()|list|length }} {{ nested.keys() }} {{ people[0].items() }}
{{ list.index(2) }} {{ list.count(1) }} {{ (1, 2).index(2) }}
{{ list.index(9) }}
{{ list|length }} {{ word|count }} {{ nested|length }} {{ ""|length }} {{ range(5)|length }}
{{ 5|length }}
{{ list|first }} {{ list|last }} {{ word|first }} {{ word|last }} {{ []|first is undefined }} {{ nested|first }} {{ nested|last }} {{ range(3)|last }}
{{ list|sort }} {{ list|sort(reverse=true) }} {{ names|sort }} {{ names|sort(case_sensitive=true) }} {{ people[:2]|sort(attribute="age") }} {{ people[:2]|sort(attribute="name", reverse=true) }} {{ [none, none]|sort }} {{ "bca"|sort }}
{{ people|sort(attribute="age") }}
{{ [1, "a"]|sort }}
{{ list|sort(missing) }}
{{ list|sort(none) }}
{{ {"b": 1, "A": 3, "c": 2}|dictsort }} {{ {"b": 1, "a": 3}|dictsort(by="value") }} {{ {"b": 1, "A": 3}|dictsort(true) }} {{ {"b": 1, "a": 3}|dictsort(reverse=true) }}
{{ list|reverse|list }} {{ "abc"|reverse }} {{ list|unique|list }} {{ names|unique|list }} {{ names|unique(true)|join }}
{{ list|min }} {{ list|max }} {{ names|min }} {{ names|max }} {{ people[:2]|min(attribute="age") }} {{ []|min is undefined }} {{ list|sum }} {{ people[:2]|sum(attribute="age") }} {{ [1.5, 2]|sum }}
{{ people|map(attribute="name")|list }} {{ people|map(attribute="age", default=0)|list }} {{ names|map("upper")|join }} {{ names|map("replace", "a", "z")|list }} {{ [[1, 2], [3]]|map("first")|list }} {{ none|map("upper")|list }} {{ [{"a": {"b": 1}}]|map(attribute="a.b")|list }} {{ [[5, 6]]|map(attribute="1")|list }}
{{ names|map|list }}
{{ names|map("nofilter")|list }}
{{ list|select("odd")|list }} {{ list|reject("odd")|list }} {{ [0, 1, ""]|select|list }} {{ list|select("gt", 1)|list }} {{ list|select("in", [1, 2])|list }}
{{ messages|selectattr("role", "equalto", "user")|map(attribute="role")|list }} {{ people|selectattr("age")|list|length }} {{ people|rejectattr("age", "defined")|map(attribute="name")|first }} {{ messages|selectattr("role", "==", "system")|list|length }} {{ messages|selectattr("role", "in", ["user"])|list|length }}
{{ (messages|selectattr("role", "equalto", "user"))|length }}
{% set g = list|select("odd") %}{{ g|list }}{{ g|list }}{{ (list|map("string"))[0] is undefined }}{% set h = list|map("string") %}{{ h|first }}{{ h|list }}
{{ list|batch(2)|list }} {{ list|batch(3, "x")|list }} {{ list|slice(3)|list }} {{ list|slice(3, 0)|list }}
{{ missing|default("d") }} {{ missing|d }} {{ none|default("d") }} {{ ""|default("d", true) }} {{ 0|default(1, boolean=true) }} {{ n|default(1) }} {{ missing.x|default("q") }}
{{ "12"|int }} {{ "x"|int }} {{ "x"|int(5) }} {{ "1.9"|int }} {{ 2.9|int }} {{ -2.9|int }} {{ " 7 "|int }} {{ none|int }} {{ true|int }} {{ "1_0"|int }} {{ []|int(3) }} {{ "nan"|int }} {{ "inf"|int }} {{ "1e3"|int }} {{ "0x10"|int }} {{ "+5"|int }}
{{ "1.5"|float }} {{ "x"|float }} {{ 2|float }} {{ "inf"|float }} {{ "1e400"|float }} {{ "1_0.5"|float }} {{ "0x10"|float }} {{ none|float(1) }}
{{ 2.5|round }} {{ 3.5|round }} {{ 2.567|round(2) }} {{ 2.5|round(0, "ceil") }} {{ 2.567|round(1, "floor") }} {{ 7|round }} {{ 2.675|round(2) }} {{ -0.5|round }} {{ 1e22|round(2) }}
{{ 5|string }} {{ none|string }} {{ [1]|string }} {{ 5|string + "x" }} {{ 1.50|string }} {{ true|string|lower }}
{{ "a<b>&\"'"|e }} {{ "a<b"|escape|upper }} {{ ("<"|safe) + "<" }} {{ "<" + ("<"|e) }} {{ ("<"|e) ~ "<" }} {{ ("<"|safe|e) }} {{ "<"|safe is escaped }} {{ "a"|e|length }}
{{ "a\n\nb\nc"|indent }}|{{ "a\nb"|indent(2, true) }}|{{ "a\n\nb"|indent(width=3, blank=true) }}|{{ "a\nb\n"|indent("> ") }}|{{ ""|indent }}
{{ "one two  three"|wordcount }} {{ "foo bar baz qux"|truncate(9) }} {{ "foo bar baz qux"|truncate(9, true) }} {{ "foo bar baz qux"|truncate(11) }} {{ "foo bar baz qux"|truncate(11, false, "..", 0) }} [{{ "ab"|center(7) }}] [{{ "abc"|center(6) }}]
{{ nested|tojson }} {{ word|tojson }} {{ "a\"\\\n\r\t\b\f\x01\x7f/<>é\u2028"|tojson }} {{ [1, 2.0, none, true, (1, 2), {}, []]|tojson }} {{ {"b": 1, "a": {"d": 1, "c": 2}}|tojson(sort_keys=true) }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}
{{ nested|tojson(indent=2) }} {{ [[], {}, [1]]|tojson(indent=1) }} {{ {"a": 1}|tojson(separators=(",", ":")) }} {{ "é\U0001f600\x7f"|tojson(ensure_ascii=true) }} {{ [1]|tojson(indent="--") }} {{ [1, 2]|tojson(indent=0) }}
{{ missing|tojson }}
{{ [missing]|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ nested|items|list|length }} {% for k, v in people[0]|items %}{{ k }}{{ v }}{% endfor %}{{ missing|items|list }}
{{ 5|items|list }}
{{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ n is number }} {{ n is integer }} {{ x is float }} {{ x is integer }} {{ true is integer }} {{ true is number }} {{ true is boolean }} {{ true is true }} {{ 1 is true }} {{ flag is false }} {{ none is none }}
{{ word is string }} {{ list is sequence }} {{ word is sequence }} {{ nested is mapping }} {{ nested is sequence }} {{ nested is iterable }} {{ 5 is iterable }} {{ word is iterable }} {{ (list|map("abs")) is sequence }} {{ (list|map("abs")) is iterable }} {{ range is callable }} {{ "Ab" is lower }} {{ "AB" is upper }} {{ missing is sequence }} {{ missing is iterable }} {{ missing is callable }}
{{ n is eq 7 }} {{ n is equalto(7) }} {{ n is ne 7 }} {{ n is gt 3 }} {{ n is lessthan 3 }} {{ n is in [7] }} {{ n is not none }} {{ n is not in [7] }} {{ none is sameas none }} {{ true is sameas true }} {{ list is sameas list }} {{ "upper" is filter }} {{ "odd" is test }} {{ n is ge(7) }} {{ n is le 6 }}
{{ "a" is odd }}
{{ n is defined and n is string or 1 }} {{ not n is defined }} {{ n is defined == true }}
{{ n | nofilter }}
{% if false %}{{ n | nofilter }}{% endif %}ok
{% if true %}{{ n | nofilter }}{% endif %}
{{ n is notest }}
{{ 1 if true else n|nofilter }}
{{ raise_exception("no: " ~ n) }}
{{ raise_exception() }}
{% if flag %}{{ raise_exception("x") }}{% endif %}fine
{{ strftime_now("%Y-%m-%d") }} {{ strftime_now("%d %b %Y") }} {{ strftime_now("%A, %B %d, %H:%M:%S %j %a %-d %-m %y %%") }}
{{ range(3) }} {{ range(1, 5, 2) }} {{ range(0)|list }} {{ range(3)[1] }} {{ 2 in range(3) }} {{ range(3) == range(3) }}
{{ range(100001) }}
{{ range(1, 2, 0) }}
{{ range("a") }}
{{ loop is defined }} {{ range is defined }} {{ namespace is defined }}
{{ messages|length }}{{ messages[-1].role }}{{ messages[1:]|map(attribute='role')|join(',') }}{{ (messages[2].content.split('</think>')|last).lstrip('\n') }}
{%- set system_message = messages[0]['content'] | trim -%}{%- set loop_messages = messages[1:] -%}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ '<|' ~ message.role ~ '|>' }}{{ message['content'] }}{% endfor %}{{ system_message }}
{{ [n] | first + 1 }} {{ -n|abs }} {{ (-n)|abs }} {{ n|string|length }} {{ "%d" % n|int }}
{{ n(1) }}
{{ word() }}
{{ {"a": [1, 2]}.a[1] }} {{ [1, 2][1] }} {{ "abc"[1] }} {{ (1, 2)[0] }} {{ [[1, 2], [3]][0][1] }} {{ {"f": {"g": "h"}}["f"]["g"] }}
{{ {} is defined }}{{ {}.a is defined }}{{ {"a": 1}.a }}{{ {'}}': '{{'} }}
{% set a = {"x": 1} %}{% set b = dict(a, y=2) %}{{ b }}{{ a }}{{ a == {"x": 1} }}{{ a != b }}
{{ 9223372036854775807 }} {{ -9223372036854775807 }}
{% set x %}{% endset %}[{{ x }}]{{ x is string }}
{% if n %}
{% endfor %}
{% if n %}
{{ n
{{ n }
{% set = 1 %}
{% unknown %}
{{ 1 2 }}
{{ (1 }}
{{ 'a }}
{{ a b }}
{{ | upper }}
{% for in x %}{% endfor %}
{{ [1, 2 }}
{{ $ }}
{% macro %}{% endmacro %}
{% set true = 1 %}
{% set loop = 1 %}{{ loop }}
{% for loop in [1] %}{% endfor %}
{# unfinished
{% raw %} unfinished
{{ f(a=1, 2) }}
{{ dict(a=1, a=2) }}
{{ n is odd is even }}
{{ recursive is defined }}{{ "in" }}
a{{ "" }}b{{ none }}c{{ [] }}d{{ {} }}
""".strip("\n")

# Cases of several lines, which the list above takes line by line.
LONG_CASES = [
    "a {#- c -#} b{# x #}{#\n y #}\nc\n",
    "a {%- raw -%} {{ x }} {%- endraw -%} b {% raw %}\n{% if %}{% endraw %}\nz\n",
    "  {% if n %}\n  in\n    {%- if n -%}\n  tight\n    {%- endif %}\n  {%+ if n %}kept{% endif +%}\nend\n",
    "  {{ n }}\n  {{- n -}}\n  x\n\n",
    "line\n   {# comment #}\n   {% set q = 1 %}   \ntail\n\n",
    "{% if n -%}\n   a\n{%- endif %}   \n{%- if n %}   b{% endif %}\n\n\nend\n\n",
    "\r\na\r{% if n %}\r\n  b\r\n{% endif %}\r\n",
    "{% for m in messages %}\n  {{ m.role }}:\n  {% if loop.last %}\n  last\n  {% endif %}\n{% endfor %}\n",
    "{{ 'line \\\ncontinued' }}",
    "x\u00a0\u3000{%- if n %}\u2003y{% endif -%}\u2028 z",
    " {%if n%}a{%endif%}\n {%-if n-%} b {%-endif-%} c",
    "{%\n  set a = [\n  1,\n  2,\n]\n%}{{ a }}\n{{\n a\n}}",
    "\t{# c #}\n \t{%+ if n %}\n\t{% endif %}\n",
    "{{ '{{' }}{{ '{%' }}{{ \"{#\" }}}}",
    "{#- -#}{#--#}{# - #}{##}{#}#}x",
    "{#",
    "",
    "\n",
    "\n\n",
    "plain",
]

# What jinja2 knows and the interpreter refuses by name.
REFUSED = r"""
{% for x in [1] recursive %}{{ x }}{% endfor %}
{% include "a" %}
{% import "a" as b %}
{% from "a" import b %}
{% extends "a" %}
{% block a %}{% endblock %}
{% autoescape true %}{% endautoescape %}
{{ nested.items }}
{{ n.real }}
{{ word.encode() }}
{{ word.zfill(5) }}
{{ cycler(1, 2) }}
{{ joiner() }}
{{ lipsum() }}
{{ self }}
{{ word|pprint }}
{{ word|urlencode }}
{{ people|groupby("age") }}
{{ word|wordwrap(3) }}
{{ list|random }}
{{ 99999999999999999999 }}
{{ 9223372036854775807 + 1 }}
{{ "10"|int(base=16) }}
{{ "\ud800" }}
{{ "\N{DASH}" }}
{{ "{:>5}".format(1) }}
{{ list[1:2, 3] }}
{{ hé }}
{{ "a"|e|replace("a", "b") }}
{{ n is sameas 7 }}
{% macro m(caller) %}{% endmacro %}
""".strip("\n")


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def write(path, content):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(content, out, ensure_ascii=True, indent=0)
        out.write("\n")


def write_cases(path):
    cases = []
    for text in [line for line in CASES.split("\n") if line] + LONG_CASES:
        kind, result = render_reference(text, VARIABLES)
        cases.append({"template": text, "text": result if kind == "ok" else None})
    for text in REFUSED.split("\n") + ["{{ h\u00e9 }}"]:
        cases.append({"template": text, "refused": True})
    write(path, {"variables": VARIABLES, "cases": cases})


def write_real(path, directory):
    conversations = [{"messages": messages, "tools": None, "documents": None,
                      "add_generation_prompt": add, **more}
                     for _, messages, add, more in CONVERSATIONS]
    templates = {}
    for file in sorted(directory.glob("*.jinja")):
        results = [render_reference(file.read_text(encoding="utf-8"), {**TRUSTED, **data})
                   for data in conversations]
        templates[file.name] = [f"{fnv1a(text.encode()):016x}" if kind == "ok" else None
                                for kind, text in results]
    write(path, {"trusted": TRUSTED, "conversations": conversations, "templates": templates})


def main():
    directory = pathlib.Path(sys.argv[1])
    write_cases(directory / "cases.json")
    write_real(directory / "real.json", pathlib.Path(sys.argv[2]))


if __name__ == "__main__":
    main()
