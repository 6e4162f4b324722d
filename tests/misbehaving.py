"""A server that speaks OpenAI's protocol on 127.0.0.1 and misbehaves as it is told to."""

import asyncio
import json
import threading
from collections import Counter
from contextlib import contextmanager


def answer(body, text=None, **changes):
    "What a good server answers"
    prompt = body.get("prompt") or body["messages"][0]["content"]
    text = f"جواب {prompt}" if text is None else text
    choice = (
        {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
    )
    return {
        "model": body["model"],
        "choices": [choice | {"index": 0, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 5},
    } | changes


class Misbehaving:
    "`fault(body, n)` names what goes wrong with the n-th call for this prompt, or is None"

    def __init__(self, fault=lambda body, n: None, delay=0.0, models=("what-it-has",), **place):
        self.fault, self.delay, self.url = fault, delay, ""
        self.models = models  # what GET …/models says
        self.base, self.port = place.get("base", "/v1"), place.get("port", 0)
        self.calls, self.good = Counter(), Counter()
        self.bodies, self.headers = [], []
        self.under_way, self.most = 0, 0

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)
                }
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                try:
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    if not await self._answer(
                        writer, head[0], headers, json.loads(raw) if raw else {}
                    ):
                        break
                finally:
                    self.under_way -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer, line, headers, body):
        "Answer one call; false: the connection is over"
        place = line.split()[1].removeprefix(self.base)
        if place not in ("/models", "/chat/completions", "/completions"):
            return await self._send(writer, 404, {"detail": "Not Found"})
        if line.startswith("GET"):
            return await self._send(writer, 200, {"data": [{"id": m} for m in self.models]})
        prompt = body.get("prompt") or body["messages"][0]["content"]
        self.calls[prompt] += 1
        self.bodies.append(body)
        self.headers.append(headers | {"line": line})
        fault = self.fault(body, self.calls[prompt])
        if fault is None:
            self.good[prompt] += 1
            return await self._send(writer, 200, answer(body))
        if isinstance(fault, int):
            return await self._send(writer, fault, {"error": {"message": "out of order"}})
        if isinstance(fault, tuple):  # status, what is said, and perhaps headers
            return await self._send(writer, *fault)
        if fault in BROKEN:
            await BROKEN[fault](self, writer, json.dumps(answer(body)).encode())
            return False
        return await self._send(writer, 200, FALSE[fault](body))

    async def _time_out(self, writer, whole):
        await asyncio.sleep(30)

    async def _send_half(self, writer, whole):
        half = whole[: len(whole) // 2]
        await self._send(writer, 200, half, {"Content-Length": str(len(whole))})

    async def _cut_off(self, writer, whole):
        await self._send(writer, 200, whole[:-30], {"Content-Length": "", "Connection": "close"})

    async def _cut_chunks(self, writer, whole):
        head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + f"{len(whole):x}\r\n".encode() + whole + b"\r\n")  # no last chunk
        await writer.drain()

    async def _reset(self, writer, whole):
        writer.transport.abort()

    async def _send(self, writer, status, content, more=None):
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        headers |= more or {}
        lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in headers.items() if v)]
        writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
        await writer.drain()
        return True

    @contextmanager
    def running(self):
        "Serve from a thread; the server is gone afterwards"
        loop, started, tasks = asyncio.new_event_loop(), threading.Event(), set()

        async def serve(reader, writer):
            tasks.add(t := asyncio.current_task())
            t.add_done_callback(tasks.discard)
            await self._serve(reader, writer)

        async def start():
            server = await asyncio.start_server(serve, "127.0.0.1", self.port)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            return server

        async def stop(server):
            server.close()
            for t in list(tasks):
                t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        def run():
            server = loop.run_until_complete(start())
            loop.call_soon(started.set)
            loop.run_forever()
            loop.run_until_complete(stop(server))
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        started.wait(10)
        self.stop = lambda: (
            loop.is_closed() or loop.call_soon_threadsafe(loop.stop),
            thread.join(10),
        )
        try:
            yield self
        finally:
            self.stop()


# Faults of the wire: how a connection ends
BROKEN = {
    "timeout": Misbehaving._time_out,
    "half": Misbehaving._send_half,
    "cut": Misbehaving._cut_off,
    "reset": Misbehaving._reset,
    "chunks cut": Misbehaving._cut_chunks,
}
# Faults of the answer: what is said in place of it
FALSE = {
    "not json": lambda body: b"<html>busy</html>",
    "empty": lambda body: b"",
    "invalid": lambda body: b'{"choices": \xff',
    "error": lambda body: {"error": {"message": "upstream", "code": 502}},
    "wrong model": lambda body: answer(body, model="another-model"),
}
# Answers that came whole, and in which no reply is
BAD = {
    "no choices": lambda body: answer(body, choices=[]),
    "abort": lambda body: answer(body, choices=[{"text": "نصف", "finish_reason": "abort"}]),
    "null": lambda body: answer(body, choices=[{"message": {"content": None}}]),
    "tool call": lambda body: answer(
        body, choices=[{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]
    ),
}
FALSE |= BAD
