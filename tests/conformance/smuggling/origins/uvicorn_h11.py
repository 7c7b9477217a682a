"""An origin on uvicorn with h11: writes a line of JSON for each request that it understood."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Read the body, write the record, answer."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    target = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    record = {
        "connection": scope["client"][1],
        "method": scope["method"],
        "target": target.decode("latin-1"),
        "fields": [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]],
        "body": base64.b64encode(body).decode(),
    }
    print(json.dumps(record), flush=True)
    answer = scope["method"].encode() + b" " + target
    headers = [(b"x-echo", answer), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    http="h11",
    ws="none",
    lifespan="off",
    log_level="critical",
    h11_max_incomplete_event_size=1 << 20,
    timeout_keep_alive=60,
)
