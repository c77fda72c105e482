# The image of styx: the compiled package in a virtual environment, on Debian's slim image of Python, as a user without
# rights. docs/install.md#an-image says how to run it.
#
# Give the base by its digest, so that a build can be repeated:
#   docker build --build-arg BASE=python:3.11-slim@sha256:... .
# (`docker buildx imagetools inspect python:3.11-slim` prints it; a bot such as Renovate keeps it current.)
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements requirements
RUN python -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python -m venv --without-pip /opt/styx \
    && /build/bin/pip --python /opt/styx/bin/python install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY edge edge
RUN STYX_COMPILE=1 /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && /build/bin/pip --python /opt/styx/bin/python install --no-cache-dir --no-index --no-deps /dist/*.whl
COPY --chmod=755 deploy/image/styx-healthcheck /opt/styx/bin/styx-healthcheck

FROM ${BASE}
LABEL org.opencontainers.image.title="styx" \
      org.opencontainers.image.description="HTTP edge load balancer" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/styx /opt/styx
COPY deploy/image/styx.yaml /etc/styx/styx.yaml
ENV PATH=/opt/styx/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/opt/styx/bin/styx-healthcheck"]
ENTRYPOINT ["/opt/styx/bin/styx"]
CMD ["serve"]
