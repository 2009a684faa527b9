"""How gunicorn runs the service: every value with its reason, settings checked before it binds."""

# First of all: whatever imports ssl, sockets or threads unpatched recurses to death in the workers.
from gevent import monkey

monkey.patch_all()

import ctypes
import os
import resource
from pathlib import Path

from app.platform import logging, master, metrics, startup, time_limits

logging.serve()
# Here and not in a worker: gunicorn would bind first, and start failing workers for ever.
settings = startup.settings_or_exit()
# What a worker may need from SIGTERM to its end: the moment in which it still accepts, the longest
# request, and the time to clean up. Whoever runs the service waits longer before killing it.
graceful_timeout = time_limits.graceful_seconds()
with startup.exit_when_refused():
    startup.connections_per_worker(settings)
    time_limits.check(settings, graceful_timeout=graceful_timeout)

logging.configure(settings)
# All processes count into files of the master; these must be chosen before the first metric.
metrics.share(settings.data_dir / "metrics" / str(settings.server_port))

# Argon2 takes and frees 19 MiB per password. glibc would raise its threshold after the first one
# and keep the memory in the process; a fixed threshold returns it to the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, THRESHOLD_BYTES = -1, -3, 128 * 1024
libc = ctypes.CDLL(None)
if hasattr(libc, "mallopt"):
    libc.mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
    libc.mallopt(M_TRIM_THRESHOLD, THRESHOLD_BYTES)

wsgi_app = "wsgi:app"
proc_name = "bursar"
# An address of its own for /metrics, when one is set, so that it can be kept off the internet.
bind = [settings.server_bind, *([settings.metrics_bind] if settings.metrics_bind else [])]

# gevent: a request that waits for the database costs a greenlet and not a process, so one worker
# for each CPU that we really have is enough.
worker_class = "app.platform.worker.Worker"
workers = settings.server_workers
# The parser in C comes as source code only, and this must install without a compiler. "auto" would
# make a difference of what else happens to be installed.
http_parser = "python"

# Developers get the code they just saved. Everybody else's workers are forked from a master that
# has loaded it already: that halves their memory, and a mistake shows before the address is bound.
reload = settings.env == "development"
preload_app = not reload
# Without inotify, which isn't installed everywhere; a module that failed to load is watched too.
reload_engine = "poll"
reload_extra_files = [str(path) for path in sorted(Path("app").rglob("*.py"))]

# Above the 60 s for which proxies commonly keep idle connections: were it shorter, we would close
# one just as the proxy sends a request on it. A request's head has its own limit (connections.py).
keepalive = 75
# Of each worker. When all are taken, whoever keeps one waiting longest makes room for a newcomer.
worker_connections = 2000
# They are open files, like those of the database: a usual limit is 1024, and may be raised.
FILES = worker_connections + 500
files, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
if resource.RLIM_INFINITY not in {files, most_files}:
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, min(FILES, most_files)), most_files))
# Not a limit for requests (those have their deadline) but for a worker's heartbeat: one whose loop
# stands still for so long is replaced.
timeout = 30
# The heartbeat is a file; on a disk its update could block the worker.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

# A list of 100 ids in a query is about 4,000 bytes; nothing of ours needs more.
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
# Nobody's X-Forwarded-… counts here: the edge reads them, as APP_SERVER_TRUSTED_PROXIES says.
forwarded_allow_ips = ""

# A socket that controls the master: nobody here needs it, so nobody shall find it.
control_socket_disable = True
# gunicorn's access log costs a fifth of the throughput. The edge writes one line per request.
accesslog = None
# gunicorn's other messages go through our formatter.
errorlog = None
logger_class = "app.platform.worker.Logger"


def on_starting(server):
    """Take over the signals to the master; check what an option may have changed above."""
    with startup.exit_when_refused():
        time_limits.check(settings, graceful_timeout=server.cfg.graceful_timeout)
    master.take_over(server)


def pre_fork(server, worker):
    """Prepare the master's memory for the fork, and give the worker its slot."""
    startup.before_fork(worker, list(server.WORKERS.values()))


def post_fork(server, worker):
    """Let the worker find the signals that came before it could handle them."""
    worker.early_signals = server.SIG_QUEUE


def post_worker_init(worker):
    """Open what a worker needs, after the fork and with the application loaded."""
    startup.start_worker(worker, settings)


def worker_exit(server, worker):
    """Close what the worker holds; gunicorn calls this in the master too, for one that vanished."""
    if worker.pid == os.getpid():
        startup.stop_worker()
    else:
        child_exit(server, worker)


def child_exit(server, worker):
    """Show no gauges of a worker that has ended, before another one gets its slot."""
    metrics.vacate(worker.slot)


def on_exit(server):
    """Remove the shared files when the master ends."""
    metrics.forget()
