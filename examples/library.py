"""A balancer inside an asyncio program: changed while it serves, asked what it would do.

Run two servers first (`python -m http.server 8081`, `python -m http.server 8082`), then this.
"""

import asyncio

from evenflow import Backend, Config, LoadBalancer, Request


async def main() -> None:
    config = Config.model_validate(
        {
            "load_balancer": {"port": 8080},
            "backends": [{"id": "a", "url": "http://127.0.0.1:8081", "health_check_path": "/"}],
        }
    )
    async with LoadBalancer(config) as lb:
        await lb.add_backend(
            Backend(id="b", url="http://127.0.0.1:8082", weight=50, health_check_path="/")
        )
        await lb.set_strategy("weighted")
        for backend in lb.backends:
            print(backend.id, backend.status, backend.url)
        print(lb.explain(Request("GET", "/users/7", client="192.0.2.1")))
        print(f"serving {lb.addresses}; stop with Ctrl-C")
        await lb.serve_forever(handle_signals=True)


if __name__ == "__main__":
    asyncio.run(main())
