"""What an endpoint's engine costs a call: processor time against a bare client's, in one run.

python benchmarks/bench_endpoints.py [N] [CONCURRENCY]     N requests (2000), 64 under way

The server is a process of its own and answers at once. The bare client posts the same bodies with
the same number under way and reads the text out of the JSON: no checks, no retries, no rota.
"""

import asyncio
import json
import subprocess
import sys
import time

import httpx2

from arabic_dialog.core.records import Request, Sampling
from arabic_dialog.models.endpoints import OpenAIEngine
from arabic_dialog.models.protocol import request_body

SERVER = """
import asyncio, json, sys
TEXT = "المستخدم: ما أشهر أنواع الخبز في مصر؟\\n" * 20
CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
RAW = json.dumps({"model": "m", "choices": [CHOICE], "usage": {"completion_tokens": 300}}).encode()
HEAD = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(RAW)}\\r\\n\\r\\n"
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            lines = head.lower().split(b"\\r\\n")
            length = next(int(l.split(b":")[1]) for l in lines if l.startswith(b"content-length"))
            await reader.readexactly(length)
            writer.write(HEAD.encode() + RAW)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def bare(url, requests, sampling, concurrency):
    "Texts from a client that trusts everything"

    async def run():
        waiting, texts = iter(requests), []
        limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx2.AsyncClient(limits=limits, timeout=60) as client:

            async def work():
                for request in waiting:
                    body = request_body(request, sampling, "m")
                    answer = await client.post(url + "/chat/completions", json=body)
                    texts.append(json.loads(answer.content)["choices"][0]["message"]["content"])

            await asyncio.gather(*(work() for _ in range(concurrency)))
        return texts

    return asyncio.run(run())


def engine(url, requests, sampling, concurrency):
    "Texts from the engine"
    made = OpenAIEngine([url], "m", concurrency=concurrency, key_variable="")
    return [c.text for c in made.complete(requests, sampling)]


def main(n=2000, concurrency=64):
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    requests = [Request(f"r{i}", f"اكتب حوارًا عن الخبز رقم {i}") for i in range(n)]
    speed = {}
    try:
        for way in (bare, engine):
            way(url, requests[:50], Sampling(), concurrency)
        for way in (bare, engine) * 3:
            start = time.process_time()  # of the client alone: the wall's depends on others
            texts = way(url, requests, Sampling(), concurrency)
            assert len(texts) == n
            speed.setdefault(way, []).append(n / (time.process_time() - start))
    finally:
        server.kill()
        server.wait()
    best = {way: max(speeds) for way, speeds in speed.items()}
    print(f"{n} requests, {concurrency} under way; the best of three")
    print(f"a processor's second: {best[bare]:,.0f} calls bare, {best[engine]:,.0f} by the engine")
    print(f"the engine makes {best[engine] / best[bare]:.2f} × as many")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
