FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY edge ./edge
ENV STYX_COMPILE=1
RUN python -m venv /opt/styx && /opt/styx/bin/pip install --no-cache-dir .

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /var/lib/styx styx
COPY --from=build /opt/styx /opt/styx
COPY config/styx.yaml /etc/styx/reference.yaml
ENV PATH=/opt/styx/bin:$PATH STYX_CONFIG=/etc/styx/styx.yaml STYX_ADMIN=127.0.0.1:9901
USER styx
WORKDIR /var/lib/styx
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["styx", "healthcheck"]
ENTRYPOINT ["styx"]
CMD ["serve"]
