# The image holds the service and its migrations, and no database: APP_DATABASE_URL says where that is.
ARG PYTHON=python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3

FROM ${PYTHON} AS packages
WORKDIR /srv/bursar
COPY requirements.txt ./
# Wheels only: nothing is compiled, so nothing but what the hashes name runs at build time.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: --requirement requirements.txt

# The base brings CA certificates, which a TLS connection to the database or to Sentry needs.
FROM ${PYTHON}
# What the workers count lies in memory, where a container may write even when its file system is read-only.
ENV APP_ENV=production \
    FLASK_SKIP_DOTENV=1 \
    APP_DATA_DIR=/dev/shm/bursar \
    PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv/bursar
COPY --from=packages /opt/venv /opt/venv
COPY setup.cfg wsgi.py gunicorn.conf.py ./
COPY config config
COPY migrations migrations
COPY app app
# Root owns everything and the service's user owns nothing, so the file system may be read-only.
RUN python -m compileall -q app migrations
USER 10001
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["flask", "health"]
CMD ["gunicorn"]
# Last, so that a new commit reuses every layer above.
ARG COMMIT=""
ENV APP_BUILD_COMMIT=$COMMIT
