"""Where a pool's endpoints come from when they come from elsewhere: one source per file.

`Discovery` follows the sources that a configuration names; an `Endpoint` is what a source of your
own (`discover: {use: "package.module:function"}`) tells.
"""

from .discovery import Discovery
from .endpoint import Endpoint

__all__ = ["Discovery", "Endpoint"]
