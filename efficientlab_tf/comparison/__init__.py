"""Many methods under one protocol, each in a process of its own."""
