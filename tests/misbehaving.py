"""A server that speaks OpenAI's protocol on 127.0.0.1 and misbehaves as it is told to."""

import asyncio, json, threading
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

    def __init__(self, fault=lambda body, n: None, delay=0.0):
        self.fault, self.delay, self.url = fault, delay, ""
        self.calls, self.good, self.bodies, self.headers, self.under_way, self.most = (
            Counter(),
            Counter(),
            [],
            [],
            0,
            0,
        )

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
        if line.startswith("GET"):
            return await self._send(writer, 200, {"data": [{"id": "what-it-has"}]})
        prompt = body.get("prompt") or body["messages"][0]["content"]
        self.calls[prompt] += 1
        self.bodies.append(body)
        self.headers.append(headers | {"line": line})
        match fault := self.fault(body, self.calls[prompt]):
            case None:
                self.good[prompt] += 1
                return await self._send(writer, 200, answer(body))
            case int():
                return await self._send(writer, fault, {"error": {"message": "out of order"}})
            case (int(status), dict() | bytes() as said):
                return await self._send(writer, status, said)
            case (int(status), dict() | bytes() as said, dict(more)):
                return await self._send(writer, status, said, more)
            case "timeout":
                await asyncio.sleep(30)
            case "half":
                whole = json.dumps(answer(body)).encode()
                await self._send(
                    writer, 200, whole[: len(whole) // 2], {"Content-Length": str(len(whole))}
                )
            case "cut":
                await self._send(
                    writer,
                    200,
                    json.dumps(answer(body)).encode()[:-30],
                    {"Content-Length": "", "Connection": "close"},
                )
            case "reset":
                writer.transport.abort()
            case "not json":
                return await self._send(writer, 200, b"<html>busy</html>")
            case "no choices":
                return await self._send(writer, 200, answer(body, choices=[]))
            case "wrong model":
                return await self._send(writer, 200, answer(body, model="another-model"))
            case _:
                raise AssertionError(fault)
        return False

    async def _send(self, writer, status, said, more={}):
        raw = said if isinstance(said, bytes) else json.dumps(said).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(raw))} | more
        writer.write(
            f"HTTP/1.1 {status} X\r\n{''.join(f'{k}: {v}' + chr(13) + chr(10) for k, v in headers.items() if v)}\r\n".encode()
            + raw
        )
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
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
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
