"""What `make run` does: the whole service on one machine, with a PostgreSQL of its own.

Words: a *run* holds the data folder from its first line to its last; *ready* is what `/ready` says.
Everything that a run starts ends with it, however it ends; what a killed run leaves over, the next
one takes over.
"""
