"""The traffic profiles: which requests are sent, as whole HTTP/1.1 messages."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOST = "bench.example.org"


@dataclass(frozen=True)
class Profile:
    """One kind of traffic; `is_large` marks those where bytes and not requests cost."""

    name: str
    text: str
    requests: Callable[[], list[bytes]]
    is_large: bool = False

    def write(self, directory: Path) -> Path:
        """Write the requests as both clients read them: each after a line with its length."""
        file = directory / f"{self.name}.requests"
        file.write_bytes(b"".join(b"%d\n%s" % (len(data), data) for data in self.requests()))
        return file


def _get(path: str) -> Callable[[], list[bytes]]:
    return lambda: [f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()]


def _post(path: str, size: int) -> Callable[[], list[bytes]]:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
    )
    return lambda: [head.encode() + b"x" * size]


def _browser() -> list[bytes]:
    """What a browser sends: 14 header fields of about 900 bytes, path and cookie at random."""
    chance = random.Random(7)

    def token(length: int) -> str:
        return "".join(chance.choices(string.ascii_letters + string.digits, k=length))

    def one() -> bytes:
        path = f"/shop/{token(6)}/{token(10)}?page={chance.randint(1, 99)}&ref={token(8)}"
        fields = {
            "Host": HOST,
            "Connection": "keep-alive",
            "sec-ch-ua": '"Not A(Brand";v="8", "Chromium";v="132", "Google Chrome";v="132"',
            "sec-ch-ua-mobile": "?0",
            "sec-ch-ua-platform": '"Linux"',
            "Upgrade-Insecure-Requests": "1",
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/132.0.0.0 Safari/537.36",
            "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
            "image/apng,*/*;q=0.8",
            "Sec-Fetch-Site": "same-origin",
            "Sec-Fetch-Mode": "navigate",
            "Referer": f"https://{HOST}/shop/{token(6)}/",
            "Accept-Encoding": "gzip, deflate, br, zstd",
            "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
            "Cookie": f"session={token(32)}; consent=1; cart={token(24)}; theme=dark",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()

    return [one() for _ in range(1024)]


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("100b", "GET, 100-byte answer", _get("/100b")),
        Profile("10kb", "GET, 10 KiB answer", _get("/10kb")),
        Profile("1mb", "GET, 1 MiB answer", _get("/1mb"), is_large=True),
        Profile("post10kb", "POST of 10 KiB", _post("/100b", 10 * 1024)),
        Profile("upload1mb", "POST of 1 MiB", _post("/100b", 1024 * 1024), is_large=True),
        Profile("browser", "GET, 14 header fields, random path and cookie", _browser),
    )
}
