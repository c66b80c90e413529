# One image for every service of docker-compose.yml: this folder, set up by its own wrapper, so that a container and a laptop run the same.
FROM python:3.12.12-slim-trixie

RUN useradd --create-home --uid 10001 pipeline \
    && install -d -o pipeline -g pipeline /app /var/lib/pipeline
USER pipeline
WORKDIR /app
COPY --chown=pipeline . .

# Makes .venv from requirements.lock, every package checked by its hash, and compiles the solvers.
RUN PIPELINE_HOME=/tmp/build ./pipeline --help > /dev/null && rm -rf /tmp/build ~/.cache

ENV PATH=/app/.venv/bin:$PATH \
    PIPELINE_HOME=/var/lib/pipeline \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/pipeline
CMD ["pipeline", "--help"]
