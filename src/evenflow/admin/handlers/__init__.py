"""The handlers of the HTTP interface: each translates a request to controller calls."""
