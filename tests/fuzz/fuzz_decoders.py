"""Fuzzes the decoders: damaged records through the compiled kernels and through their plain twins, which must say the same.

``python -m tests.fuzz.fuzz_decoders --seconds 60 [--format csv] [--seed 7]``.  Two child processes decode each input, whole and cut into
pieces: one with compiled kernels (under sanitizers where they are built so), one with ``ASYNCFLOW_KERNELS=reference``.  An input on which
they differ, on which pieces give other rows than the whole, or which ends a child, is kept in ``build/fuzz`` and ends the run with 1;
``--replay FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "build" / "fuzz"
REFUSED = "the stream cannot be read"

SCHEMA = {
    "ts": "timestamp[ms]",
    "at": "timestamp",
    "key": "string",
    "value": "float64",
    "n": "int64",
    "ok": "bool",
}
COLUMNS = {"lines": ["line"], "regex": ["key", "value", "n"], "raw": ["n", "value", "ok"]}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "csv": [{}, {"header": False}, {"delimiter": ";", "null": "NA"}],
    "json": [{}],
    "lines": [{}],
    "regex": [{"pattern": r"(?P<key>\w+) (?P<value>\S+) (?P<n>-?\d+)"}],
    "raw": [{"dtype": [["n", "<i8"], ["value", "<f8"], ["ok", "?"]]}],
}
HEADER = b"ts,at,key,value,n,ok\n"
SEEDS: dict[str, list[bytes]] = {
    "csv": [
        HEADER
        + b"1700000000000,2023-11-14T22:13:20Z,a,1.5,7,true\n,,,,,\n0,1970-01-01T00:00:00+01:00,b,-0.0,-1,false\n"
        * 3,
        HEADER
        + b'12,2024-02-29 00:00:00.5,"he said ""no"", twice",1e308,9223372036854775807,true\r\n"1","","x\ny",,"",\r\n'
        * 3,
        HEADER + b"1,9999-12-31T23:59:59.999999999Z,some rather longer key,17.123456789012345678,0,1\n" * 12,
    ],
    "json": [
        b'{"ts":1700000000000,"at":"2023-11-14T22:13:20Z","key":"a","value":1.5,"n":7,"ok":true}\n' * 4,
        b'{"key": "\\u00e9\\ud83d\\ude00 \\"q\\"", "meta": {"ts": [1, {"n": 2}]}, "value": -1e-7, "n": null, "ts": 0}\n'
        * 4,
        b'{"n":1,"n":2}\n{}\n[]\n{"ok":false,"value":"Infinity","ts":1.0,"key":"","at":"1969-07-20T20:17:40.123Z"}\r\n'
        * 3,
    ],
    "lines": [b"one\ntwo\r\n\n\xc3\xa9\xe2\x82\xac\n" * 5],
    "regex": [b"alpha 1.5 7\nbeta nan -1\n" * 5],
    "raw": [bytes(range(17)) * 6],
}
TOKENS = (
    b'"', b'""', b"\\", b"\n", b"\r\n", b"\r", b",", b";", b":", b"{", b"}", b"[", b"]", b" ", b"T", b"\x00", b"\xff", b"\xc3",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"\\u0000", b"null", b"NaN", b"-inf", b"1e999", b"-0.0", b"5e-324", b"+99:59",
    b"9223372036854775808", b"0" * 40, b"1" * 25, b"2023-02-30", b"0000-01-01T00:00:00Z", b"9999-12-31T24:00:00",
    b"[" * 300, b'"' * 65, b"x" * 1025, b" " * 33, b"\n" * 64,
)  # fmt: skip


def damaged(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """One to six small wounds; now and then grown over the kernels' tiles."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(out) + 1)
        end = min(len(out), at + chance.choice((1, 2, 7, 30, 200)))
        match chance.randrange(7):
            case 0 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end] * chance.randint(1, 3)
            case 3 | 4:
                out[at:at] = chance.choice(TOKENS)
            case 5:
                del out[at:]
            case 6:
                other = chance.choice(others)
                out[at:] = other[chance.randrange(len(other)) :]
    if chance.random() < 0.02:
        out *= 70_000 // (len(out) + 1) + 1
    return bytes(out)


# --- the child


def answer(request: dict[str, Any]) -> str:
    """Everything that decoding gives, as text; says so where pieces give something else."""
    import msgspec

    from asyncflow import formats
    from asyncflow.errors import DataError
    from asyncflow.formats.contract import DecodeRequest
    from asyncflow.model.schema import Field, Schema
    from tests.formats.reading import read

    module = formats.find_decoder(request["format"])
    data = base64.b64decode(request["data"])
    types = {"line": "string"} if request["format"] == "lines" else SCHEMA
    schema = Schema(tuple(Field.parse(name, types[name]) for name in request["columns"]))
    said = []
    for sizes in ([], request["sizes"]):
        try:
            options = msgspec.convert(request["options"], module.DecoderOptions)
            wanted = DecodeRequest(schema, schema.names, (), request["max_record_bytes"], True)
            said.append(repr(read(module.decoder(options, wanted), data, sizes)))
        except DataError as error:
            said.append(f"{REFUSED}: {error}")
    both_refused = all(text.startswith(REFUSED) for text in said)
    return said[0] if both_refused or said[0] == said[1] else f"PIECES DIFFER: {apart(*said)}"


def apart(one: str, other: str) -> str:
    """Two long texts where they part."""
    at = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    begin = max(0, at - 200)
    return f"\n  ...{one[begin : at + 300]}\n  ...{other[begin : at + 300]}"


def child() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


class Engine:
    """A child process that decodes with one kind of kernel."""

    def __init__(self, kernels: str) -> None:
        self.kernels = kernels
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.fuzz_decoders", "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"ASYNCFLOW_KERNELS": kernels, "PYTHONPATH": str(ROOT)},
            text=True,
        )

    def answer(self, request: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(request, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else f"ENDED by {self._process.wait()} ({self.kernels})"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def made(name: str, chance: random.Random) -> str:
    seeds = SEEDS[name]
    data = damaged(chance.choice(seeds), chance, seeds)
    columns = COLUMNS.get(name) or [column for column in SCHEMA if chance.random() < 0.8] or ["key"]
    sizes = [chance.choice((0, 1, 2, 3, 17, 64, 100, 1000)) for _ in range(chance.randrange(12))]
    request = {"format": name, "options": chance.choice(OPTIONS[name]), "columns": columns, "sizes": sizes}
    request |= {
        "max_record_bytes": chance.choice((64, 1024, 1 << 20)),
        "data": base64.b64encode(data).decode(),
    }
    return json.dumps(request)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--format", choices=list(SEEDS), help="only this one; all in turn when left out")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child()
        return 0
    chance = random.Random(arguments.seed)
    names = [arguments.format] if arguments.format else list(SEEDS)
    engines = [Engine("compiled"), Engine("reference")]
    tried, end = 0, time.monotonic() + arguments.seconds
    try:
        while time.monotonic() < end:
            request = (
                arguments.replay.read_text() if arguments.replay else made(names[tried % len(names)], chance)
            )
            compiled, twin = (engine.answer(request) for engine in engines)
            tried += 1
            if compiled != twin or compiled.startswith(("PIECES", "ENDED")):
                KEPT.mkdir(parents=True, exist_ok=True)
                kept = KEPT / f"decoders-{arguments.seed}-{tried}.json"
                kept.write_text(request)
                print(compiled if compiled == twin else apart(compiled, twin))
                print(f"kept: {kept}")
                return 1
            if arguments.replay:
                break
    finally:
        for engine in engines:
            engine.close()
    print(f"{tried} inputs of {', '.join(names)}, seed {arguments.seed}: compiled kernels and twins agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
