"""Benchmarks of evenflow against other proxies, on loopback; `python -m bench --help`."""
