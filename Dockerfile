# First every wheel, its hash checked against the lock file; then only those that Tieout needs to run.
FROM python:3.13-slim AS wheels
WORKDIR /src
COPY requirements.lock .
RUN pip wheel --no-cache-dir --require-hashes --requirement requirements.lock --wheel-dir /wheels
COPY . .
RUN pip wheel --no-cache-dir --no-index --find-links /wheels --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels tieout && \
    useradd --create-home tieout
USER tieout
WORKDIR /home/tieout
ENV PYTHONUNBUFFERED=1
CMD ["tieout", "--help"]
