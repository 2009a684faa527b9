"""The worker process, `flask worker`: does what the web process left to be done afterwards.

Words: the *relay* turns events of the outbox into *jobs*; a job is one call of a *task*, kept in
the database until it is done; a job is *stalled* when its worker died; *lanes* deliver to webhooks,
beside the jobs.

Decisions: jobs are procrastinate's, on PostgreSQL, and only this process imports it: it would cost
each web worker 13 MB and a second driver. A job carries the id of a row, and the place in a trace
that it came from, and nothing else. It is delivered at least once, so every task looks at its row
first and leaves alone what is done. Any number of workers may run, on any number of machines; an
older one leaves what only a newer one knows. A stop lets running jobs end, and hands back what
isn't done in time. Another worker takes over the jobs of one that has gone silent. A fault of our
own database is never a job's last try, and what waits for a mail server that isn't set up stays in
the outbox.
"""
