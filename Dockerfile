ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements/run.lock requirements/otel.lock ./
# EXTRAS=otel adds tracing.
ARG EXTRAS=run
RUN python -m venv /venv \
    && /venv/bin/python -m pip install --no-cache-dir --only-binary=:all: --no-deps --require-hashes -r "${EXTRAS}.lock"
COPY sai_proxy ./sai_proxy
COPY middlewares ./middlewares
RUN cp -r sai_proxy middlewares "$(/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && /venv/bin/python -m compileall -q /venv \
    && find /venv -name '*.map' -delete \
    && /venv/bin/python -m pip uninstall -q -y setuptools pip 2>/dev/null

FROM ${PYTHON_IMAGE}
ARG VERSION=1.0.0
LABEL org.opencontainers.image.title="sai-proxy" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="An OpenAI-compatible reverse proxy in front of SAI" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TZ=America/Guayaquil
RUN groupadd --gid 10001 sai && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sai
COPY --from=build /venv /venv
USER 10001:10001
WORKDIR /
EXPOSE 4000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["python", "-m", "sai_proxy", "healthcheck"]
CMD ["python", "-m", "sai_proxy", "serve"]
