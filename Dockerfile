# syntax=docker/dockerfile:1
# One image for the API, the drivers and the workers.
FROM python:3.11.13-slim-bookworm AS build
# CPU wheels by default; for NVIDIA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/nas/bin:$PATH
RUN python -m venv /opt/nas
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.lock)"
# The lock as constraints: exact versions, but none of the tools for development that it lists too.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*p['dependencies'], *p['optional-dependencies']['postgres'], sep='\n')" > needed.txt \
    && pip install -c requirements.lock -r needed.txt setuptools
COPY . .
RUN pip install --no-deps --no-build-isolation .

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --user-group --create-home nas \
    && install -d -o nas -g nas /data /tokens
COPY --from=build /opt/nas /opt/nas
ENV PATH=/opt/nas/bin:$PATH \
    NAS_HOME=/data \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0
USER nas
WORKDIR /home/nas
VOLUME /data
EXPOSE 8470
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD \
    ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8470/healthz', timeout=4)"]
CMD ["nas", "serve", "--host", "0.0.0.0"]
