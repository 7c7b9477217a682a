"""Which of the configured tokens a presented one is.

Tokens kept as SHA-256 are found by their digest at once. One kept as a password's hash takes
milliseconds and megabytes to check, so that is done in a thread, one at a time, and what came of it
is remembered for a bounded number of presented tokens.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final

from evenflow.admin.access import Token

REMEMBERED: Final = 1024

Verify = Callable[[str, bytes], bool]
"""Whether a password's hash is that of some bytes."""


class Credentials:
    """Finds tokens. Used on one event loop."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._checked: OrderedDict[tuple[str, bytes], bool] = OrderedDict()
        self._checking = asyncio.Lock()

    async def known(self, tokens: Sequence[Token], presented: str | None) -> Sequence[Token]:
        """The tokens, those kept by a slow hash with the digest of what was presented if it is theirs."""
        if presented is None or all(token.digest is not None for token in tokens):
            return tokens
        secret = presented.partition(" ")[2].strip().encode()
        digest = sha256(secret).digest()
        if any(token.digest == digest for token in tokens):
            return tokens
        return [
            replace(token, digest=digest)
            if token.digest is None and await self._is(token.hashed, secret, digest)
            else token
            for token in tokens
        ]

    async def _is(self, hashed: str, secret: bytes, digest: bytes) -> bool:
        key = hashed, digest
        async with self._checking:
            if key in self._checked:
                self._checked.move_to_end(key)
                return self._checked[key]
            found = await asyncio.to_thread(self._verify, hashed, secret)
            self._checked[key] = found
            while len(self._checked) > REMEMBERED:
                self._checked.popitem(last=False)
            return found
