"""What `make run` does: the whole service on one machine, with a PostgreSQL of its own.

Words: a *run* holds the data folder from its first line to its last; *ready* is what `/ready` says.
Everything that a run starts ends with it, however it ends; what a killed run leaves over, the next
one takes over.

Decisions: web server and worker are children of the launcher itself. honcho would end both after
the first that ends, kills five seconds later, hands no lock on to them, and leaves them running
when it is killed; supervisor closes what they are to inherit. Making up for it would take more
code than children.py. Without the worker mails wait and the service goes on, so it is started again
when it dies; it is started after the web server is ready, which therefore comes no later.
"""
