"""Certificates from an authority by ACME (RFC 8555): what to ask and what to make of the answers.

Everything here decides; nothing is sent, waited for or served. A procedure is a generator: it
yields what has to be done (a `Call`, a `Show`, a `Pause`) and is sent what came of it.
"""
