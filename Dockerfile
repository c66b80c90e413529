# One image for every service of docker-compose.yml: this folder, set up by its own wrapper, so that a container and a laptop run the same.
FROM python:3.12.12-slim-trixie AS build

WORKDIR /app
COPY . .
# Makes .venv from requirements.lock, every package checked by its hash, and compiles the solvers.
RUN PIPELINE_HOME=/tmp/build ./pipeline --help > /dev/null

FROM python:3.12.12-slim-trixie

RUN useradd --create-home --uid 10001 pipeline \
    && install -d -o pipeline -g pipeline /var/lib/pipeline
# Owned by root: what runs cannot change what it runs.
COPY --from=build /app /app
USER pipeline
WORKDIR /app

ENV PATH=/app/.venv/bin:$PATH \
    PIPELINE_HOME=/var/lib/pipeline \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/pipeline
# Each service has its own in docker-compose.yml: the image does not know which of them it is.
HEALTHCHECK NONE
CMD ["pipeline", "--help"]
