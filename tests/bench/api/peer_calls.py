# SPDX-License-Identifier: Apache-2.0
"""peer_calls.py BASE_URL IN.jsonl OUT.jsonl --in-flight N [--stream] [--retry]: chat completions for each document, as a strong Python
programmer does it: uvloop, one aiohttp session with as many connections as calls in flight, N tasks that share one iterator (cheaper than a task for each
call), orjson, request bodies made ahead of nothing but the text, no per-call logging, the collector frozen after start-up.

--retry: 429, 408, 409, 5xx, resets and bad JSON are tried again after full jitter (base 0.25 s, cap 8 s), never before Retry-After, up to 9 times.
Prints one JSON line: wall_first_to_last_s (own clock), cpu_s, peak_rss_bytes, calls, requests, lost, tokens, and for streams first_token_wall_ns
(by document, when its first token was read)."""
import argparse
import asyncio
import gc
import json
import random
import resource
import time

import aiohttp
import orjson
import uvloop

BASE_S, CAP_S, ATTEMPTS = 0.25, 8.0, 9
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class Client:
    def __init__(self, args, session):
        self.url, self.retry, self.is_stream = args.url + "/chat/completions", args.retry, args.stream
        self.session = session
        self.calls = self.requests = self.lost = self.tokens = 0
        self.first_token = {}
        self.begun = self.ended = None

    async def call(self, document):
        body = {"model": "any", "messages": [{"role": "user", "content": document["text"]}]}
        if self.is_stream:
            body.update(stream=True, stream_options={"include_usage": True})
        body = orjson.dumps(body)
        self.calls += 1
        for attempt in range(ATTEMPTS if self.retry else 1):
            floor = 0.0
            try:
                self.requests += 1
                if self.begun is None:
                    self.begun = time.perf_counter()
                async with self.session.post(self.url, data=body) as answer:
                    if answer.status == 200:
                        text = await (self.stream(answer, document["id"]) if self.is_stream else self.whole(answer))
                        self.ended = time.perf_counter()
                        return text
                    await answer.read()
                    floor = self.floor(answer.headers)
                    if answer.status not in AGAIN:
                        break
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):
                pass
            if self.retry and attempt + 1 < ATTEMPTS:
                await asyncio.sleep(max(floor, random.random() * min(CAP_S, BASE_S * 2 ** attempt)))
        self.lost += 1
        return None

    @staticmethod
    def floor(headers):
        if "retry-after-ms" in headers:
            return float(headers["retry-after-ms"]) / 1000
        try:
            return float(headers.get("Retry-After", 0))
        except ValueError:
            return 0.0

    async def whole(self, answer):
        made = orjson.loads(await answer.read())
        self.tokens += made["usage"]["completion_tokens"]
        return made["choices"][0]["message"]["content"]

    async def stream(self, answer, name):
        """Events by lines of whatever came; aiohttp's own iterator over lines is several times slower."""
        pieces, rest, done = [], b"", False
        async for data in answer.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not line.startswith(b"data: "):
                    continue
                if line == b"data: [DONE]":
                    done = True
                    continue
                event = orjson.loads(line[6:])
                for choice in event["choices"]:
                    text = choice["delta"].get("content")
                    if text:
                        if not pieces:
                            self.first_token[name] = time.time_ns()
                        pieces.append(text)
                        self.tokens += 1
        if not done:
            raise ValueError("the stream has no end")
        return "".join(pieces)


async def main(args):
    with open(args.input, "rb") as f:
        documents = iter([orjson.loads(line) for line in f])
    gc.collect()
    gc.freeze()
    connector = aiohttp.TCPConnector(limit=args.in_flight, keepalive_timeout=60)
    headers = {"Authorization": "Bearer test", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=600)
    with open(args.output, "wb") as out:
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            client = Client(args, session)

            async def worker():
                for document in documents:
                    answer = await client.call(document)
                    if answer is not None:
                        out.write(orjson.dumps({**document, "answer": answer}) + b"\n")
            await asyncio.gather(*(worker() for _ in range(args.in_flight)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "wall_first_to_last_s": client.ended - client.begun if client.ended else None, "cpu_s": used.ru_utime + used.ru_stime,
        "peak_rss_bytes": used.ru_maxrss * 1024, "calls": client.calls, "requests": client.requests, "lost": client.lost,
        "tokens": client.tokens, "first_token_wall_ns": client.first_token}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--retry", action="store_true")
    uvloop.run(main(parser.parse_args()))
