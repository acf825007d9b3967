"""Odd data, by the titles of the first table of docs/data.md: what is kept, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """Data that comes out as it went in."""

    data: bytes
    rows: tuple[str, ...]
    """The rows as JSON: names, texts and the digits of numbers are to be the same."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Data that ends the command before the first request."""

    data: bytes
    says: str
    """How the message begins, behind the file's name."""


Case = Kept | Refused


def kept(data: str | bytes, *rows: str) -> Kept:
    return Kept(data if isinstance(data, bytes) else data.encode(), rows)


def refused(data: str | bytes, says: str) -> Refused:
    return Refused(data if isinstance(data, bytes) else data.encode(), says)


def texts(*values: str) -> tuple[str, ...]:
    """Rows with the one column `text`."""
    return tuple(json.dumps({"text": value}) for value in values)


def objects(*rows: str) -> dict[str, Case]:
    """Objects that are kept, as JSON Lines and as an array."""
    return {"jsonl": kept("\n".join(rows), *rows), "json": kept(f"[{','.join(rows)}]", *rows)}


def no_object(row: str, says: str) -> dict[str, Case]:
    """An object that is refused, behind a good one in line 1."""
    return {
        "jsonl": refused(f"{{}}\n{row}\n", f":2: {says}"),
        "json": refused(f"[{{}},\n{row}]", f":2: {says}"),
    }


def tables(data: str | bytes, *rows: str) -> dict[str, Case]:
    """A table with commas that is kept, also with tabs."""
    case = kept(data, *rows)
    return {"csv": case, "tsv": Kept(case.data.replace(b",", b"\t"), rows)}


def no_tables(data: str | bytes, says: str) -> dict[str, Case]:
    case = refused(data, says)
    return {"csv": case, "tsv": Refused(case.data.replace(b",", b"\t"), says)}


MARK = "\ufeff"
AB = '{"a": "1", "b": "2"}'
SEPARATORS = "x\u2028y\u0085z\x0b\x0c\x1c"
DIGITS = "9" * 5000
DEEP = "[" * 100_000 + "]" * 100_000
LESS_DEEP = "[" * 400 + "]" * 400
CODE = "=1+1 {{ 7 * 7 }} ${HOME} \x1b[31m <b>&amp;</b>"
FINE = "3.14159265358979323846264338327950288"
NAMES = ["a.b", "c d", "it's", 'say ""', "größe 日本 \U0001f600", "__class__", "items", "range"]
NAMED = json.dumps(dict.fromkeys(NAMES, "x"), ensure_ascii=False)
QUOTED_NAMES = ",".join('"' + name.replace('"', '""') + '"' for name in NAMES)
SOME_NUMBERS = '{"a": [1, 1.0, 1.10, -0, -0.0, 1E5, 1e-400, 0e999], "b": true, "c": null}'

CASES: dict[str, dict[str, Case]] = {
    "a byte order mark": {
        "jsonl": kept(MARK + AB, AB),
        "json": kept(f"{MARK}[{AB}]", AB),
        **tables(f"{MARK}a,b\n1,2\n", AB),
        "txt": kept(MARK + "x\n", *texts("x")),
    },
    "lines that end in CRLF": {
        "jsonl": kept(f"{AB}\r\n{AB}\r\n", AB, AB),
        "json": kept(f"[\r\n{AB},\r\n{AB}\r\n]\r\n", AB, AB),
        **tables("a,b\r\n1,2\r\n", AB),
        "txt": kept("x\r\ny\r\n", *texts("x", "y")),
    },
    "lines that end in CR": {
        "jsonl": refused(f"{AB}\r{AB}\r", ":1: not valid JSON: extra data"),
        "json": kept(f"[\r{AB},\r{AB}\r]\r", AB, AB),
        **no_tables("a,b\r1,2\r", ":1: a lone CR outside quotes"),
        "txt": kept("x\ry\r\n", *texts("x\ry")),
    },
    "line breaks inside a text": {
        **objects('{"a": "w\\nx\\r\\ny\\rz"}'),
        **tables('a,b\n"w\nx\r\ny\rz",2\n', '{"a": "w\\nx\\r\\ny\\rz", "b": "2"}'),
        "rows": kept('[{a: "w\\nx\\r\\ny\\rz"}]', '{"a": "w\\nx\\r\\ny\\rz"}'),
    },
    "U+2028, U+0085 and other separators inside a text": {
        **objects('{"a": "x\u2028y\u0085z"}'),
        **tables(f"a,b\n{SEPARATORS},2\n", json.dumps({"a": SEPARATORS, "b": "2"})),
        "txt": kept(f"{SEPARATORS}\n", *texts(SEPARATORS)),
        "rows": kept('[{a: "x\\u2028y\\u0085z"}]', '{"a": "x\u2028y\u0085z"}'),
    },
    "a NUL byte": {
        **no_object('{"a": "x\0y"}', "not valid JSON: invalid control character"),
        **tables("a,b\nx\0y,2\n", '{"a": "x\\u0000y", "b": "2"}'),
        "txt": kept("x\0y\n", *texts("x\0y")),
    },
    "a NUL as an escape": {
        **objects('{"a": "x\\u0000y"}'),
        "rows": kept('[{a: "x\\0y"}]', '{"a": "x\\u0000y"}'),
    },
    "bytes that are not UTF-8": {
        "jsonl": refused(b'{}\n{"a": "gr\xfc\xdfe"}\n', ":2: not UTF-8: byte 0xfc"),
        "json": refused(b'[{},\n{"a": "gr\xfc\xdfe"}]', ":2: not UTF-8: byte 0xfc"),
        **no_tables(b"a,b\ngr\xfc\xdfe,2\n", ":2: not UTF-8: byte 0xfc"),
        "txt": refused(b"x\ngr\xfc\xdfe\n", ":2: not UTF-8: byte 0xfc"),
    },
    "UTF-16": {
        "jsonl": refused(AB.encode("utf-16"), ": looks like UTF-16 text"),
        "json": refused(f"[{AB}]".encode("utf-16"), ": looks like UTF-16 text"),
        **no_tables("a,b\n1,2\n".encode("utf-16"), ": looks like UTF-16 text"),
        "txt": refused("text".encode("utf-16"), ": looks like UTF-16 text"),
    },
    "UTF-16 without a byte order mark": {
        "jsonl": refused(AB.encode("utf-16-le"), ": looks like UTF-16 text"),
        "json": refused(f"[{AB}]".encode("utf-16-be"), ": looks like UTF-16 text"),
        **no_tables("a,b\n1,2\n".encode("utf-16-le"), ": looks like UTF-16 text"),
        "txt": refused("text".encode("utf-16-be"), ": looks like UTF-16 text"),
    },
    "half of a surrogate pair": {
        **objects('{"a": "x\\ud800y", "b": {"\\udfff": 1.50}}'),
        **no_tables(b"a,b\nx\xed\xa0\x80y,2\n", ":2: not UTF-8: byte 0xed"),
        "txt": refused(b"x\xed\xa0\x80y\n", ":1: not UTF-8: byte 0xed"),
        "rows": refused('[{a: "x\\ud800y"}]', ":4:16: \\ud800 is no character"),
    },
    "half of a surrogate pair in a name": {
        **no_object('{"x\\ud800": 1}', "the column's name 'x\\ud800' holds half of a surrogate"),
        "rows": refused('[{"x\\ud800": 1}]', ":4:13: \\ud800 is no character"),
    },
    "NaN and Infinity": {
        **no_object('{"a": [1, NaN]}', "NaN is not JSON"),
        **tables("a,b\nNaN,-Infinity\n", '{"a": "NaN", "b": "-Infinity"}'),
        "txt": kept("NaN\n", *texts("NaN")),
        "rows": refused("[{a: .nan}]", ":4: a row that JSON cannot hold"),
    },
    "a number out of range, 1e999": {
        **no_object('{"a": -1e999}', "the number -1e999 is out of range"),
        **tables("a,b\n1e999,2\n", '{"a": "1e999", "b": "2"}'),
        "txt": kept("1e999\n", *texts("1e999")),
        "rows": refused("[{a: 1e999}]", ":4: a row that JSON cannot hold"),
    },
    "an integer over 2^53": {
        **objects('{"a": 9007199254740993, "b": -123456789012345678901234567890}'),
        **tables("a,b\n9007199254740993,007\n", '{"a": "9007199254740993", "b": "007"}'),
        "txt": kept("9007199254740993\n", *texts("9007199254740993")),
        "rows": kept("[{a: 9007199254740993}]", '{"a": 9007199254740993}'),
    },
    "an integer of 4,300 digits": {
        **objects(f'{{"a": {DIGITS[:4300]}}}'),
        **tables(f"a,b\n{DIGITS[:4300]},2\n", f'{{"a": "{DIGITS[:4300]}", "b": "2"}}'),
        "txt": kept(DIGITS[:4300], *texts(DIGITS[:4300])),
    },
    "an integer of 5,000 digits": {
        **no_object(f'{{"a": {DIGITS}}}', "a number of 5,000 digits"),
        **tables(f"a,b\n{DIGITS},2\n", f'{{"a": "{DIGITS}", "b": "2"}}'),
        "txt": kept(DIGITS, *texts(DIGITS)),
    },
    "more digits than a float holds": {
        **objects(f'{{"a": {FINE}, "b": [0.1000000000000000000001, 1e-400]}}'),
        **tables(f"a,b\n{FINE},2\n", f'{{"a": "{FINE}", "b": "2"}}'),
        "txt": kept(FINE, *texts(FINE)),
    },
    "1, 1.0, 1.10, -0.0 and 1E5": {
        **objects(SOME_NUMBERS),
        **tables("a,b\n1.10,1E5\n", '{"a": "1.10", "b": "1E5"}'),
        "txt": kept("-0.0\n", *texts("-0.0")),
    },
    "a name twice": {
        **no_object('{"a": 1, "b": {}, "a": 2}', "an object has the name 'a' twice"),
        **no_tables("a,b,a\n1,2,3\n", ":1: the header names column 'a' twice"),
        "rows": refused("[{a: 1, a: 2}]", ":4:17: the key 'a' stands here a second time"),
    },
    "a name twice in an inner object": {
        **no_object('{"a": [{"b": "x:y", "b": 2}]}', "an object has the name 'b' twice"),
        "rows": refused("[{a: {b: 1, b: 2}}]", ":4:21: the key 'b' stands here a second time"),
    },
    "an empty name": {
        **objects('{"": 1, " ": 2}'),
        **no_tables("a,,b\n1,2,3\n", ":1: column 2 of the header has no name"),
    },
    "names with dots, spaces, quotes and other scripts, `__class__`": {
        **objects(NAMED),
        **tables(f"{QUOTED_NAMES}\n{','.join('x' * len(NAMES))}\n", NAMED),
        "rows": kept(f"[{NAMED}]", NAMED),
    },
    "a name that templates use: row, vars, steps": {
        **{
            ending: refused(data, "spec.yaml:4:3: the source has a column 'steps', which templates")
            for ending, data in [
                ("jsonl", '{"steps": 1}'),
                ("json", '[{"steps": 1}]'),
                ("csv", "steps,b\n1,2\n"),
                ("tsv", "steps\tb\n1\t2\n"),
            ]
        },
        "rows": refused("[{steps: 1}]", "the source has a column 'steps', which templates"),
    },
    "a column that only some rows have": {
        **objects('{"a": 1}', '{"b": 2}', "{}"),
        "rows": kept("[{a: 1}, {b: 2}]", '{"a": 1}', '{"b": 2}'),
    },
    "a record with more or fewer cells than the header": no_tables(
        "a,b\n1,2\n1,2,3\n", ":3: expected 2 cells as in the header, found 3"
    ),
    "a quote that is never closed": {
        **no_object('{"a": "x}', "not valid JSON: unterminated string"),
        **no_tables('a,b\n1,2\n"x,2\n1,2\n', ":3: a quote in the record that begins here is never"),
        "txt": kept('"x\n', *texts('"x')),
        "rows": refused('[{a: "x}]', ":4:14: this quote is closed only in line 7"),
    },
    "a quote inside a bare cell": tables('a,b\n5" wide,2\n', '{"a": "5\\" wide", "b": "2"}'),
    "text behind a closing quote": no_tables(
        'a,b\n"x" y,2\n', ":2: a cell goes on after its closing quote"
    ),
    "arrays 400 deep": {
        **objects(f'{{"a": {LESS_DEEP}}}'),
        **tables(f"a,b\n{LESS_DEEP},2\n", f'{{"a": "{LESS_DEEP}", "b": "2"}}'),
        "txt": kept(LESS_DEEP, *texts(LESS_DEEP)),
    },
    "arrays 100,000 deep": {
        **no_object(f'{{"a": {DEEP}}}', "the JSON is nested too deeply: more than 500 levels"),
        **tables(f"a,b\n{DEEP},2\n", f'{{"a": "{DEEP}", "b": "2"}}'),
        "txt": kept(DEEP, *texts(DEEP)),
    },
    "a row that is no object": {
        "jsonl": refused('{}\n["a"]\n', ":2: expected a JSON object, found an array"),
        "json": refused('[{},\n["a"]]\n', ":2: expected a JSON object, found '['"),
        "rows": refused("[a]", ":4:"),
    },
    "an empty file": {
        "jsonl": kept(""),
        "json": refused("", ":1: expected a JSON array, found the end of the file"),
        **tables(""),
        "txt": kept(""),
    },
    "a header without rows": tables("a,b\n"),
    "an empty array": {"json": kept("[ ]\n")},
    "blank lines": {
        "jsonl": kept(f"\n \t\r\n{AB}\n\n{AB}\n\n", AB, AB),
        "json": kept(f"\n[\n\n{AB}\n\n,{AB}\n]\n\n", AB, AB),
        **tables("\na,b\n\n1,2\n\r\n1,2\n\n", AB, AB),
        "txt": kept("x\n\n\ny\n", *texts("x", "", "", "y")),
    },
    "a last line without its end": {
        "jsonl": kept(f"{AB}\n{AB}", AB, AB),
        "json": kept(f"[{AB}]", AB),
        **tables("a,b\n1,2", AB),
        "txt": kept("x\ny", *texts("x", "y")),
    },
    "a last line that is torn": {
        "jsonl": refused(f'{AB}\n{{"a": 1, "b', ":2: not valid JSON: unterminated string"),
        "json": refused(f"[{AB},\n{{", ":2: not valid JSON: expecting property name"),
        **no_tables("a,b\n1,2\n1", ":3: expected 2 cells as in the header, found 1"),
    },
    "an empty text, and one of spaces": {
        **objects('{"a": "", "b": "  "}'),
        **tables('a,b\n,  \n"","  "\n', *['{"a": "", "b": "  "}'] * 2),
        "txt": kept("\n  \n", *texts("", "  ")),
        "rows": kept('[{a: "", b: "  "}]', '{"a": "", "b": "  "}'),
    },
    "text that looks like a template, a formula, HTML or a terminal's code": {
        **objects(json.dumps({"a": CODE})),
        **tables(f"a,b\n{CODE},2\n", json.dumps({"a": CODE, "b": "2"})),
        "txt": kept(f"{CODE}\n", *texts(CODE)),
    },
    "rows that are the same": {
        **objects(AB, AB, AB),
        **tables("a,b\n1,2\n1,2\n", AB, AB),
        "txt": kept("x\nx\n", *texts("x", "x")),
        "rows": kept("[{a: 1}, {a: 1}]", '{"a": 1}', '{"a": 1}'),
    },
}
