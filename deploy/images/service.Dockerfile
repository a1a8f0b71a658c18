# syntax=docker/dockerfile:1
# One image per service: only the service's own closure of uv.lock, no compiler, no root.
#   docker build -f deploy/images/service.Dockerfile --build-arg MEMBER=millrace-catalog --build-arg MODULE=catalog .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ARG MEMBER
ARG WITH=millrace-common
WORKDIR /src
COPY tools/uv-requirements.txt /tmp/uv-requirements.txt
RUN pip install --no-cache-dir --require-hashes -r /tmp/uv-requirements.txt
COPY pyproject.toml uv.lock ./
COPY libs libs
COPY services services
ENV UV_PROJECT_ENVIRONMENT=/app UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-editable --package "${MEMBER}" --package "${WITH}"

FROM python:${PYTHON}-slim-bookworm
ARG MODULE
LABEL org.opencontainers.image.title="millrace-${MODULE}" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 millrace \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin millrace \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/millrace /sites
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MILLRACE_MODULE=${MODULE}
WORKDIR /var/lib/millrace
USER 10001:10001
CMD ["sh", "-c", "exec python -m \"$MILLRACE_MODULE\""]
